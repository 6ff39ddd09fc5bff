"""The NumPy backend: the chapters as ops, and the methods of a backend for arrays in the host's memory."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.backend.interface import require_cpu, with_ops
from refnet.ops._arguments import host_array

Array = npt.NDArray[Any]


@with_ops("refnet.ops", inspect.unwrap)
class NumpyBackend:
    """A backend whose ops are the chapters, without their checks of arguments. Both columns are in the host's memory.

    Parameters
    ----------
    columns
        Number of columns that the network is split into (1 or 2).
    devices
        Empty, or "cpu" for each column; otherwise ``BackendUnavailableError``.
    threads
        Ignored: NumPy has one thread, except in BLAS, whose threads the caller limits.
    """

    name = "numpy"

    def __init__(self, columns: int = 1, devices: Sequence[str] = (), threads: int | None = None) -> None:  # noqa: ARG002
        require_cpu(self.name, devices)
        self.columns = columns

    def asarray(self, a: Array, column: int = 0) -> Array:  # noqa: ARG002 - one memory holds every column
        """Return a copy of a host array. Raises ``ArgumentError`` for what is no NumPy array."""
        return np.array(host_array("asarray: a", a))

    def argument(self, label: str, a: Array, *, changes: bool = False) -> Array:
        """Return an argument as ops take it (:class:`refnet.backend.capabilities.Arguments`)."""
        return host_array(label, a, changes=changes)

    def to_numpy(self, a: Array) -> Array:
        """Return the same array, which is on the host already."""
        return a

    def move(self, a: Array, column: int) -> Array:  # noqa: ARG002
        """Return the same array, because all columns share one memory."""
        return a

    def concat(self, parts: Sequence[Array]) -> Array:
        """Join arrays of one column along their channels (axis 1)."""
        return np.concatenate(parts, axis=1)

    def split(self, a: Array, widths: Sequence[int]) -> list[Array]:
        """Return parts of the given numbers of channels, in order: the reverse of ``concat``."""
        return np.split(a, np.cumsum(widths)[:-1], axis=1)

    def add(self, a: Array, b: Array) -> Array:
        """Return the sum of two gradients with respect to the same array."""
        return a + b

    def synchronize(self) -> None:
        """Do nothing: every result has been computed when a function of NumPy returns."""
