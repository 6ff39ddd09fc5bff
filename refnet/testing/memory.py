"""Poisoned memory and guard bands, which detect elements that a kernel does not write and writes outside arrays.

A backend with the capability ``Memory`` allocates through the ``empty`` of its module ``memory``. While an op runs,
that function returns arrays full of NaN (or the largest integer) inside larger arrays. For a backend without such a
module, such as the reference and its wrappers, NumPy's own ``empty`` is replaced instead.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from math import prod
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.ma  # NumPy imports it when it is first used, and then keeps the `empty` of that moment

from refnet.backend.capabilities import Memory
from refnet.backend.wrapped import unwrapped
from refnet.testing.bounds import bit_equal
from refnet.testing.call import Array, filler

BAND = 64  # elements on either side; a multiple of every allocator's alignment, so that `empty` stays aligned


def allocator_of(backend: object) -> ModuleType | None:
    """Return the module that allocates for a backend; None if the backend has none."""
    inner = unwrapped(backend)
    return inner.memory if isinstance(inner, Memory) else None


class Guards:
    """The bands around arrays of one backend, and the check that they are unchanged."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._guarded: list[tuple[Any, int, int]] = []  # a larger array; start and stop of its inner array

    @property
    def count(self) -> int:
        """Number of guarded arrays."""
        return len(self._guarded)

    def empty(self, allocate: Callable[..., Any], shape: Any, *args: Any, **kwargs: Any) -> Any:
        """Allocate an array full of poison inside a larger one."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        whole = allocate((prod(shape) + 2 * BAND,), *args, **kwargs)
        whole[...] = filler(_host_dtype(whole))
        return self._inner(whole, BAND, shape)

    def around(self, a: Array) -> Any:
        """Copy a host array into the middle of a larger array of the backend, aligned only to one element.

        If the backend's arrays cannot be sliced, such as those of the loopback backend, the copy has no guards.
        """
        host = np.full(a.size + 2 * BAND, filler(a.dtype), a.dtype)
        host[BAND - 1 : BAND - 1 + a.size] = a.ravel()
        try:
            return self._inner(self._backend.asarray(host), BAND - 1, a.shape)
        except (AttributeError, TypeError):
            return self._backend.asarray(a)

    def check(self, where: str) -> None:
        """Fail unless every band is unchanged."""
        for whole, start, stop in self._guarded:
            host = self._backend.to_numpy(whole)
            for band in (host[:start], host[stop:]):
                bit_equal(band, np.full_like(band, filler(band.dtype)), f"written beside an array. {where}")

    def _inner(self, whole: Any, start: int, shape: tuple[int, ...]) -> Any:
        stop = start + prod(shape)
        inner = whole[start:stop].reshape(shape)
        self._guarded.append((whole, start, stop))
        return inner


@contextmanager
def poisoned(backend: Any) -> Iterator[Guards]:
    """Poison the arrays that the backend allocates; yield their guards."""
    guards = Guards(backend)
    with ExitStack() as patches:
        if module := allocator_of(backend):
            patches.enter_context(patch.object(module, "empty", partial(guards.empty, module.empty)))
        else:
            for name in ("empty", "empty_like"):
                patches.enter_context(patch.object(np, name, partial(_poisoned, getattr(np, name))))
        yield guards


def _poisoned(allocate: Callable[..., Array], *args: Any, **kwargs: Any) -> Array:
    a = allocate(*args, **kwargs)
    if a.dtype.kind in "fiu":
        a[...] = filler(a.dtype)
    return a


def _host_dtype(a: Any) -> np.dtype[Any]:
    """Return the NumPy dtype of any backend's array; torch writes ``torch.float32``."""
    return np.dtype(str(a.dtype).rpartition(".")[2])
