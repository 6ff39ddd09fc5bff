"""The NumPy backend: the chapters themselves, and the methods of a backend for arrays in one memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.backend.interface import require_cpu, with_ops

Array = npt.NDArray[Any]


@with_ops("refnet.ops")
class NumpyBackend:
    """A backend whose ops are the chapters. Both columns are in the host's memory.

    Parameters
    ----------
    columns
        How many columns the network is split into (1 or 2).
    devices
        Empty, or "cpu" for each column; otherwise ``BackendUnavailableError``.
    threads
        Ignored: NumPy itself has one thread, and the caller limits the threads of BLAS.
    """

    name = "numpy"

    def __init__(self, columns: int = 1, devices: Sequence[str] = (), threads: int | None = None) -> None:  # noqa: ARG002
        require_cpu(self.name, devices)
        self.columns = columns

    def asarray(self, a: Array, column: int = 0) -> Array:  # noqa: ARG002 - one memory holds every column
        """Return a copy of a host array."""
        return np.array(a)

    def to_numpy(self, a: Array) -> Array:
        """Return the array itself: it is on the host already."""
        return a

    def move(self, a: Array, column: int) -> Array:  # noqa: ARG002
        """Return the array itself: all columns share one memory."""
        return a

    def concat(self, parts: Sequence[Array]) -> Array:
        """Join arrays of one column along their channels (axis 1)."""
        return np.concatenate(parts, axis=1)

    def split(self, a: Array, widths: Sequence[int]) -> list[Array]:
        """Undo ``concat``: parts of the given numbers of channels, in order."""
        return np.split(a, np.cumsum(widths)[:-1], axis=1)

    def add(self, a: Array, b: Array) -> Array:
        """Return the sum of two gradients of one array."""
        return a + b

    def synchronize(self) -> None:
        """Return at once: NumPy has computed every result already."""
