"""The interface of a backend: the ops of :mod:`refnet.ops` as attributes, and a few methods that say where arrays are.

There is no class to inherit. Ops are modules (or anything with the same functions) named like the chapters; their
signatures are the reference's own, which :func:`refnet.backend.loading.verify` compares.
"""

from collections.abc import Sequence
from math import prod
from types import ModuleType
from typing import Any, Protocol

import numpy.typing as npt

from refnet.errors import BackendUnavailableError


class Array(Protocol):
    """What the code outside a backend may know of a backend's array: its shape and the kind of its numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> Any:
        """Kind of the numbers; it has an ``itemsize`` in bytes."""


class Backend(Protocol):
    """The interface. Ops are read as ``backend.conv2d.forward(...)``; their meaning is their chapter's."""

    name: str
    columns: int
    conv2d: ModuleType
    conv2d_relu: ModuleType
    relu: ModuleType
    tanh: ModuleType
    lrn: ModuleType
    maxpool: ModuleType
    linear: ModuleType
    linear_relu: ModuleType
    augment: ModuleType
    dropout: ModuleType
    softmax_xent: ModuleType
    sgd: ModuleType
    philox: ModuleType

    def asarray(self, a: npt.NDArray[Any], column: int = 0) -> Array:
        """Copy a host array to where the column lives; the dtype is kept."""

    def to_numpy(self, a: Array) -> npt.NDArray[Any]:
        """Bring an array to the host, when it has been computed. It may be the array's own memory: only read it."""

    def move(self, a: Array, column: int) -> Array:
        """Bring an array to another column; the identity where both columns live on one device."""

    def concat(self, parts: Sequence[Array]) -> Array:
        """Join arrays of one column along their channels (axis 1)."""

    def split(self, a: Array, widths: Sequence[int]) -> Sequence[Array]:
        """Undo ``concat``: parts of the given numbers of channels, in order. They may be views: only read them."""

    def add(self, a: Array, b: Array) -> Array:
        """Add two gradients that meet."""

    def synchronize(self) -> None:
        """Wait until everything asked for has been computed."""


METHODS = ("asarray", "to_numpy", "move", "concat", "split", "add", "synchronize")


def require_cpu(name: str, devices: Sequence[str]) -> None:
    """Raise ``BackendUnavailableError`` for a device that a CPU backend does not run on."""
    elsewhere = [device for device in devices if device != "cpu"]
    if elsewhere:
        raise BackendUnavailableError(
            f"backend {name} runs on the CPU alone, not on {', '.join(elsewhere)}; leave --devices out or say cpu"
        )


def nbytes(a: Array, sent_by: Any = None) -> int:
    """Bytes that the numbers of an array take; or that they take on their way between columns, if a backend sends them.

    A backend that sends them in another form than it keeps them has ``exchange_itemsize``, the bytes of one number.
    """
    return prod(a.shape) * int(getattr(sent_by, "exchange_itemsize", a.dtype.itemsize))
