"""The interface of a backend: the ops of :mod:`refnet.ops` as attributes, and a few methods on arrays.

A backend does not inherit from a class. An op is a module (or any object with the same functions), named as in
:mod:`refnet.ops`. :func:`refnet.backend.loading.verify` checks that its functions have the reference's signatures.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from math import prod
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol, TypeVar

import numpy.typing as npt

from refnet.errors import BackendUnavailableError
from refnet.ops import OPS, chapter
from refnet.terminal.spelling import setting

Class = TypeVar("Class")


class Array(Protocol):
    """An array of a backend. Code outside the backend may read only its shape and dtype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> Any:
        """Data type of the elements, with an ``itemsize`` in bytes."""


class Backend(Protocol):
    """The interface of a backend. Ops are called as ``backend.conv2d.forward(...)``; each op's chapter defines it.

    Attributes
    ----------
    name
        The name under which it is registered.
    columns
        The number of columns for which it was loaded.
    """

    name: str
    columns: int

    def __getattr__(self, op: str) -> ModuleType:
        """Return an op, one attribute for each name in ``OPS``; :func:`with_ops` sets them."""

    def asarray(self, a: npt.NDArray[Any], column: int = 0) -> Array:
        """Copy a host array, with its dtype, to the device of a column."""

    def to_numpy(self, a: Array) -> npt.NDArray[Any]:
        """Wait until an array has been computed, and return it on the host. It may share memory: do not change it."""

    def move(self, a: Array, column: int) -> Array:
        """Return an array on the device of another column; the same array if both columns share a device."""

    def concat(self, parts: Sequence[Array]) -> Array:
        """Join arrays of one column along their channels (axis 1)."""

    def split(self, a: Array, widths: Sequence[int]) -> Sequence[Array]:
        """Return parts of the given numbers of channels, in order: the reverse of ``concat``. They may be views."""

    def add(self, a: Array, b: Array) -> Array:
        """Return the sum of two gradients with respect to the same array."""

    def synchronize(self) -> None:
        """Wait until all results have been computed."""


METHODS = ("asarray", "to_numpy", "move", "concat", "split", "add", "synchronize")


def with_ops(
    package: str, around: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function
) -> Callable[[type[Class]], type[Class]]:
    """Return a class decorator that sets an attribute for each op: the functions of the module of its name.

    `around` decorates each function.
    """

    def decorate(backend: type[Class]) -> type[Class]:
        for op in OPS:
            module = import_module(f"{package}.{op}")
            functions = {name: around(getattr(module, name)) for name in chapter(op).INTERFACE}
            setattr(backend, op, SimpleNamespace(**functions))
        return backend

    return decorate


def require_cpu(name: str, devices: Sequence[str]) -> None:
    """Raise ``BackendUnavailableError`` for a device that a CPU backend does not run on."""
    others = [device for device in devices if device != "cpu"]
    if others:
        raise BackendUnavailableError(
            f"backend {name} runs only on the CPU, not on {', '.join(others)}; leave {setting('devices')} out "
            "or name cpu"
        )


def nbytes(a: Array) -> int:
    """Return the size of an array's elements in bytes."""
    return prod(a.shape) * int(a.dtype.itemsize)
