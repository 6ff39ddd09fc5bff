"""The threads of kernels: how many there are, and calls from several Python threads and from forked processes.

Numba has one pool of threads for the whole process, made by its threading layer at the first call. It counts a
kernel's threads separately for each Python thread, so the count is passed on to each thread that calls an op. What else
depends on the layer:

=========  ============================  ==================================
layer      calls from several threads    after a fork
=========  ============================  ==================================
omp        at once                       refused, if it is GNU's library
tbb        at once                       work
workqueue  one after the other (a lock)  work
=========  ============================  ==================================

Without the lock, workqueue ends the process at the first two calls that meet. GNU's library ends a forked process that
calls it, because its threads exist in the parent alone.
"""

import os
import threading
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar, cast

from refnet.errors import BackendUnavailableError

F = TypeVar("F", bound=Callable[..., Any])


_NUMBA: Any = import_module("numba")  # Any: Numba has no type annotations
ONE_CALL_AT_A_TIME = ("workqueue",)


class _Caller(threading.local):
    """What a Python thread has told Numba: the number of threads; 0 before its first call."""

    threads = 0


class _Pool:
    """The state of the process: how many threads run kernels, the lock around calls, and whether there was a fork."""

    def __init__(self) -> None:
        self.threads = 1
        self.lost_by_fork = False
        self.begin()

    def begin(self) -> None:
        """Forget what Python threads have told Numba, and any lock that one of them holds."""
        self.caller = _Caller()
        self._lock = threading.RLock()
        self.turn: threading.RLock | None = None  # the lock, where the layer needs it

    def start(self) -> None:
        """Start the pool's threads if there are none, and tell Numba how many of them this Python thread uses.

        Raises ``BackendUnavailableError`` if there is no threading layer, or in a forked process that cannot have one.
        """
        if self.lost_by_fork:
            raise BackendUnavailableError(
                "backend numba cannot compute in a process that was forked after it had computed, because the threads "
                "of GNU OpenMP are not copied; start processes with multiprocessing.get_context('spawn'), or set "
                "NUMBA_THREADING_LAYER=workqueue, or load backend numpy"
            )
        try:
            _NUMBA.set_num_threads(self.threads)
        except ValueError as error:
            layer = _NUMBA.config.THREADING_LAYER
            raise BackendUnavailableError(
                f"backend numba cannot start threads: NUMBA_THREADING_LAYER={layer} cannot be loaded; unset it"
            ) from error
        self.turn = self._lock if _NUMBA.threading_layer() in ONE_CALL_AT_A_TIME else None
        self.caller.threads = self.threads

    def forked(self) -> None:
        """Note in a forked process which threads it has lost, and release the locks of the parent's threads."""
        self.lost_by_fork = self.lost_by_fork or _is_gnu()
        self.begin()


_pool = _Pool()
os.register_at_fork(after_in_child=_pool.forked)


def guarded(function: F) -> F:
    """Return an op's function that can be called from any Python thread, on the chosen number of threads."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _pool.caller.threads != _pool.threads:
            _pool.start()
        if (turn := _pool.turn) is None:
            return function(*args, **kwargs)
        with turn:
            return function(*args, **kwargs)

    return cast("F", call)


def count() -> int:
    """Return how many threads run kernels."""
    return _pool.threads


def most() -> int:
    """Return how many threads there can be."""
    number: int = _NUMBA.config.NUMBA_NUM_THREADS
    return number


def choose(threads: int) -> None:
    """Run kernels on so many threads from now on, in the whole process."""
    if not 1 <= threads <= most():
        raise ValueError(f"threads must be 1..{most()}, not {threads}")
    _pool.threads = threads
    if _NUMBA.config.THREADING_LAYER != "default":
        _pool.start()  # a layer that is chosen by name may not be installed: better known now than at the first call


def layer() -> str:
    """Return the name of the threading layer; starts the threads."""
    _pool.start()
    return str(_NUMBA.threading_layer())


def _is_gnu() -> bool:
    """Return whether the threads have been started by GNU OpenMP, the only library that a fork breaks."""
    try:
        if _NUMBA.threading_layer() != "omp":
            return False
    except ValueError:  # no threads have been started
        return False
    return bool(import_module("numba.np.ufunc.omppool").openmp_vendor == "GNU")
