"""The Numba CPU backend: the same ops as :mod:`refnet.ops`, compiled for the processor at hand.

Importing it compiles nothing. A function is compiled at its first call, or read from the cache.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from refnet.backend.interface import require_cpu, with_ops
from refnet.backend.powers import Doctor
from refnet.errors import ConfigError
from refnet.machine.environment import physical_cores
from refnet.terminal.spelling import setting
from refnet_numba import _memory

Array = npt.NDArray[Any]


@with_ops("refnet_numba")
class NumbaBackend:
    """A backend whose ops are compiled loops on all cores. Both columns are in the host's memory.

    Arrays are C-contiguous; their real numbers are float32.

    Parameters
    ----------
    columns
        How many columns the network is split into (1 or 2).
    devices
        Empty, or "cpu" for each column; otherwise ``BackendUnavailableError``.
    threads
        How many threads run kernels, in the whole process; None for one per physical core. A number larger than that
        of the processors raises ``ConfigError``.
    """

    name = "numba"
    memory: ModuleType = _memory

    def __init__(self, columns: int = 1, devices: Sequence[str] = (), threads: int | None = None) -> None:
        require_cpu(self.name, devices)
        most = self.max_threads
        if threads is not None and threads > most:
            variable = os.environ.get("NUMBA_NUM_THREADS")
            limited = f", the limit of NUMBA_NUM_THREADS={variable}" if variable else ""
            raise ConfigError(
                f"{setting('threads', threads)} is more than backend numba has here; it must be at most {most}{limited}"
            )
        self.set_threads(threads or min(physical_cores(), most))
        self.columns = columns

    @property
    def doctor(self) -> Doctor:
        """The module that describes this backend (:class:`refnet.backend.powers.Examinable`)."""
        doctor: Any = import_module("refnet_numba.doctor")
        return doctor  # type: ignore[no-any-return]

    @property
    def threads(self) -> int:
        """How many threads run kernels, in the whole process."""
        return numba.get_num_threads()

    @property
    def max_threads(self) -> int:
        """How many there can be."""
        settings: Any = numba.config
        most: int = settings.NUMBA_NUM_THREADS
        return most

    def set_threads(self, count: int) -> None:
        """Run kernels on so many threads from now on."""
        numba.set_num_threads(count)

    def asarray(self, a: Array, column: int = 0) -> Array:  # noqa: ARG002 - one memory holds every column
        """Copy a host array. Raises ``ConfigError`` for real numbers that are not float32."""
        if a.dtype.kind == "f" and a.dtype != np.float32:
            raise ConfigError(f"backend numba computes in float32, not {a.dtype}; convert first or take backend numpy")
        copy = _memory.empty(a.shape, a.dtype)
        copy[...] = a
        return copy

    def to_numpy(self, a: Array) -> Array:
        """Return the array itself, which is on the host."""
        return a

    def move(self, a: Array, column: int) -> Array:  # noqa: ARG002
        """Return the array itself: both columns are in one memory."""
        return a

    def concat(self, parts: Sequence[Array]) -> Array:
        """Join arrays of one column along their channels (axis 1)."""
        first = parts[0]
        joined = _memory.empty((first.shape[0], sum(part.shape[1] for part in parts), *first.shape[2:]), first.dtype)
        np.concatenate(parts, axis=1, out=joined)
        return joined

    def split(self, a: Array, widths: Sequence[int]) -> list[Array]:
        """Return parts of the given numbers of channels, in order: the reverse of ``concat``."""
        parts = []
        for view in np.split(a, np.cumsum(widths)[:-1], axis=1):
            part = _memory.empty(view.shape, view.dtype)
            part[...] = view
            parts.append(part)
        return parts

    def add(self, a: Array, b: Array) -> Array:
        """Return the sum of two gradients of one array."""
        total = _memory.empty(a.shape, a.dtype)
        np.add(a, b, out=total)
        return total

    def synchronize(self) -> None:
        """Do nothing: every call has computed its result when it returns."""
