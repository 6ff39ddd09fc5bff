"""The Numba CPU backend: the ops of :mod:`refnet.ops`, compiled for this machine's processor.

Each op has a module of the same name. Its public functions check the arguments' layout and dtype (``_memory.require``),
allocate the results (``_memory.empty``) and call kernels. A kernel is a Python function that Numba compiles
(:mod:`refnet_numba._jit`). Its ``prange`` loop divides the work among all threads: usually one thread computes whole
images, and each module's docstring says how. The convolution, the fully connected layer and max-pooling spend their
time in three functions of vector instructions (:mod:`refnet_numba._microkernel`).

Importing the package compiles nothing. A function is compiled when it is first called, unless its machine code is in
the cache (:mod:`refnet_numba._cache`).
"""

import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.backend.capabilities import Doctor
from refnet.backend.interface import require_cpu, with_ops
from refnet.errors import ArgumentError, ConfigError, ShapeError
from refnet.machine.environment import physical_cores
from refnet.ops._arguments import host_array
from refnet.terminal.spelling import setting
from refnet_numba import _environment, _jit, _memory, _threads  # noqa: F401 - _environment is imported first

Array = npt.NDArray[Any]

# Without /dev/shm Numba warns that it has no lock for processes that are forked while threads start. refnet forks none.
warnings.filterwarnings("ignore", message="Could not obtain multiprocessing lock")


@with_ops("refnet_numba", _threads.guarded)
class NumbaBackend:
    """A backend whose ops are compiled loops that run on several threads. Both columns are in the host's memory.

    Arrays are C-contiguous NumPy arrays; floating-point numbers are float32.

    Parameters
    ----------
    columns
        Number of columns of the network (1 or 2).
    devices
        Empty, or "cpu" for each column. Any other device raises ``BackendUnavailableError``.
    threads
        Number of threads that run kernels, in the whole process; None for one per physical core. A number larger than
        `max_threads` raises ``ConfigError``.
    """

    name = "numba"
    memory: ModuleType = _memory

    def __init__(self, columns: int = 1, devices: Sequence[str] = (), threads: int | None = None) -> None:
        require_cpu(self.name, devices)
        limit = self.max_threads
        if threads is not None and threads > limit:
            variable = os.environ.get("NUMBA_NUM_THREADS")
            reason = f", the limit of NUMBA_NUM_THREADS={variable}" if variable else ""
            raise ConfigError(
                f"{setting('threads', threads)} is more than backend numba has here; it must be at most {limit}{reason}"
            )
        self.set_threads(threads or min(physical_cores(), limit))
        self.columns = columns

    @property
    def doctor(self) -> Doctor:
        """The module that describes this backend (:class:`refnet.backend.capabilities.Examinable`)."""
        doctor: Any = import_module("refnet_numba.doctor")
        return doctor  # type: ignore[no-any-return]

    def compiling(self, tell: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `tell` before each function that is compiled while the context lasts."""
        return _jit.compiling(tell)

    @property
    def threads(self) -> int:
        """Number of threads that run kernels, in the whole process."""
        return _threads.count()

    @property
    def max_threads(self) -> int:
        """Largest number of threads: NUMBA_NUM_THREADS, by default the processors that this process may use."""
        return _threads.most()

    def set_threads(self, count: int) -> None:
        """Set the number of threads that run kernels, in the whole process."""
        _threads.choose(count)

    def asarray(self, a: Array, column: int = 0) -> Array:  # noqa: ARG002 - one memory holds every column
        """Return a contiguous copy of a host array. Raises ``ConfigError`` for floating-point numbers not float32."""
        a = host_array("asarray: a", a)
        if a.dtype.kind == "f" and a.dtype != np.float32:
            raise ConfigError(f"backend numba computes in float32, not {a.dtype}; convert it, or use backend numpy")
        copy = _memory.empty(a.shape, a.dtype)
        copy[...] = a
        return copy

    def argument(self, label: str, a: Array, *, changes: bool = False) -> Array:
        """Return an argument as kernels take it: contiguous (:class:`refnet.backend.capabilities.Arguments`)."""
        a = host_array(label, a, changes=changes)
        if a.dtype.kind == "f" and a.dtype != np.float32:
            raise ShapeError(
                f"{label} is {a.dtype}, and backend numba computes in float32; convert it with .astype('float32'), or "
                "use backend numpy"
            )
        if changes and not a.flags.carray:
            raise ArgumentError(f"{label} is changed in place, so it must be contiguous, not a view; copy it")
        # Kernels are compiled for arrays that are contiguous, aligned and not read-only.
        return a if a.flags.carray else a.copy()

    def to_numpy(self, a: Array) -> Array:
        """Return the array itself, which is on the host."""
        return a

    def move(self, a: Array, column: int) -> Array:  # noqa: ARG002
        """Return the array itself: both columns are in one memory."""
        return a

    def concat(self, parts: Sequence[Array]) -> Array:
        """Return arrays (N,C,...) of one column joined along their channels (axis 1)."""
        first = parts[0]
        joined = _memory.empty((first.shape[0], sum(part.shape[1] for part in parts), *first.shape[2:]), first.dtype)
        np.concatenate(parts, axis=1, out=joined)
        return joined

    def split(self, a: Array, widths: Sequence[int]) -> list[Array]:
        """Return an array (N,C,...) in parts that have the given numbers of channels: the reverse of ``concat``."""
        parts = []
        for view in np.split(a, np.cumsum(widths)[:-1], axis=1):
            part = _memory.empty(view.shape, view.dtype)
            part[...] = view
            parts.append(part)
        return parts

    def add(self, a: Array, b: Array) -> Array:
        """Return a + b, two gradients of the same array."""
        total = _memory.empty(a.shape, a.dtype)
        np.add(a, b, out=total)
        return total

    def synchronize(self) -> None:
        """Do nothing: a call returns only after its result has been computed."""
