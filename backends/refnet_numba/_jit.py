"""The decorators that compile functions: ``kernel`` if its ``prange`` loops run on all threads, ``serial`` if on one.

Kernels call functions marked ``serial``. Machine code is kept between runs (:mod:`refnet_numba._cache`).
"""

import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

import numba
from numba.core import event
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from refnet_numba import _cache, _instructions

F = TypeVar("F", bound=Callable[..., Any])

_PICKLE: Any = dumps  # Any: Numba has no type annotations
_REBUILD: Any = CompileResult._rebuild  # noqa: SLF001


class _Cache(NullCache):
    """The machine code of one function: one file per signature, with a pickle and its SHA-256.

    Numba calls ``load_overload`` before it compiles, and ``save_overload`` afterwards. If anything fails here, Numba
    compiles. (Numba's own cache raises errors for damaged files and full disks, and does not notice damage that
    unpickles without error.)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__}.{function.__qualname__}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        pickled = _cache.load(self._file(sig))
        if pickled:
            with suppress(Exception):  # whatever is wrong with the file, Numba then compiles
                if _instructions.PREFIX.encode() in pickled:  # the machine code calls a micro-kernel
                    _instructions.link()
                return _REBUILD(target_context, *pickle.loads(pickled))  # noqa: S301
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not data.library.has_dynamic_globals:  # otherwise it contains addresses that only this process has
            with suppress(Exception):
                _cache.save(self._file(sig), _PICKLE(data._reduce()))  # noqa: SLF001

    def _file(self, sig: Any) -> str:
        return f"{self._name}-{hashlib.sha256(str(sig).encode()).hexdigest()[:16]}"


def kernel(function: F) -> F:
    """Return the function compiled, with its ``prange`` loops running on all threads."""
    return _compile(function, parallel=True)


def reordering_kernel(function: F) -> F:
    """Return a compiled kernel whose sums the compiler may reorder, so that it can vectorise a single sum."""
    return _compile(function, parallel=True, fastmath={"reassoc", "contract"})


def serial(function: F) -> F:
    """Return a compiled function for kernels to call; it runs on one thread."""
    return _compile(function, parallel=False)


class _Listener(event.Listener):
    """Calls a function before each compilation."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def on_start(self, event: Any) -> None:  # noqa: ARG002
        self._tell()

    def on_end(self, event: Any) -> None:
        """Do nothing."""


@contextmanager
def compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` before each function that is compiled while the context lasts."""
    with event.install_listener("numba:compile", _Listener(tell)):
        yield


def _compile(function: F, *, parallel: bool, fastmath: bool | set[str] = False) -> F:
    # An exception in a prange loop is lost, so loops run on one thread if NUMBA_BOUNDSCHECK asks for an IndexError.
    settings: Any = numba.config
    parallel = parallel and not settings.BOUNDSCHECK
    # With error_model="numpy", division by zero gives infinity. fastmath is never True: all of it may lose NaN.
    jit: Any = numba.njit(parallel=parallel, nogil=True, error_model="numpy", fastmath=fastmath)
    compiled = jit(function)
    if _cache.DIRECTORY and compiled is not function:  # both are the same function under NUMBA_DISABLE_JIT
        compiled._cache = _Cache(function)  # noqa: SLF001
    return cast("F", compiled)
