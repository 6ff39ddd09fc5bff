"""How functions are compiled: ``kernel`` for those with ``prange`` loops on all threads, ``serial`` for their helpers.

Machine code is kept between runs (:mod:`refnet_numba._cache`).
"""

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from refnet_numba import _cache, _instructions

F = TypeVar("F", bound=Callable[..., Any])

_PICKLE: Any = dumps  # Any: they have no types
_REBUILD: Any = CompileResult._rebuild  # noqa: SLF001


class _Cache(NullCache):
    """The machine code of one function: a file for each signature, holding a SHA-256 and a pickle that it is of.

    A dispatcher asks its cache before it compiles and tells it afterwards; whatever goes wrong here, it compiles.
    Numba's own cache lets errors through (of damaged files, full disks), and notices no damage that still unpickles.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__}.{function.__qualname__}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        pickled = _cache.load(self._file(sig))
        if pickled:
            with suppress(Exception):
                if _instructions.PREFIX.encode() in pickled:  # the machine code calls it
                    _instructions.link()
                return _REBUILD(target_context, *pickle.loads(pickled))  # noqa: S301
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not data.library.has_dynamic_globals:  # addresses of this process
            with suppress(Exception):
                _cache.save(self._file(sig), _PICKLE(data._reduce()))  # noqa: SLF001

    def _file(self, sig: Any) -> str:
        return f"{self._name}-{hashlib.sha256(str(sig).encode()).hexdigest()[:16]}"


def kernel(function: F) -> F:
    """Compile a function whose ``prange`` loops run on all threads."""
    return _compile(function, parallel=True)


def reordering_kernel(function: F) -> F:
    """Compile a kernel whose sums the compiler may reorder, which lets it make vectors of a single sum."""
    return _compile(function, parallel=True, fastmath={"reassoc", "contract"})


def serial(function: F) -> F:
    """Compile a function that kernels call."""
    return _compile(function, parallel=False)


def _compile(function: F, *, parallel: bool, fastmath: bool | set[str] = False) -> F:
    # An exception in a prange loop is lost, IndexError included: bounds are only checked where loops are plain.
    settings: Any = numba.config
    parallel = parallel and not settings.BOUNDSCHECK
    # error_model: a division by zero gives infinity, as in NumPy. Never the whole of fastmath: NaN must stay NaN.
    jit: Any = numba.njit(parallel=parallel, nogil=True, error_model="numpy", fastmath=fastmath)
    compiled = jit(function)
    if _cache.DIRECTORY and compiled is not function:  # they are one and the same under NUMBA_DISABLE_JIT
        compiled._cache = _Cache(function)  # noqa: SLF001
    return cast("F", compiled)
