"""Optional capabilities of a backend: a Protocol for each.

A backend has a capability if it has the attributes and methods of its Protocol:
``isinstance(unwrapped(backend), Tuning)``.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from refnet.backend.interface import Array, nbytes
from refnet.backend.wrapped import unwrapped

EXACT_PRODUCTS = "ieee"


@runtime_checkable
class Precision(Protocol):
    """Matrix products may round their factors.

    Attributes
    ----------
    precision
        ``ieee`` (float32, not rounded), ``tf32x3`` (three TF32 products) or ``tf32``.
    """

    precision: str


@runtime_checkable
class Exchange(Protocol):
    """Activations and gradients may be rounded when they are sent between columns. ``move`` rounds nothing.

    Attributes
    ----------
    exchange_itemsize
        Bytes sent for each number.
    """

    @property
    def exchange_itemsize(self) -> int:
        """Bytes sent for each number."""

    def send(self, a: Array, column: int, *, gradient: bool) -> Array:
        """Return an activation, or a gradient of one, in another column, rounded as the exchange rounds it."""


@runtime_checkable
class Memory(Protocol):
    """All arrays are allocated by one function, which the conformance suite can replace.

    Attributes
    ----------
    memory
        A module with that function, ``empty(shape, dtype, ...)``.
    """

    memory: ModuleType


@runtime_checkable
class Threads(Protocol):
    """The number of threads can be changed between calls. Results must have the same bits for any number."""

    @property
    def threads(self) -> int:
        """Number of threads that run the ops."""

    @property
    def max_threads(self) -> int:
        """The largest number that ``set_threads`` accepts."""

    def set_threads(self, count: int) -> None:
        """Set the number of threads that run the ops."""


@runtime_checkable
class Recording(Protocol):
    """A training step can be recorded once and then replayed."""

    def graphed(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> tuple[Any, Any]:
        """Return the two halves of a training step as functions that record at the first call and then replay."""


@runtime_checkable
class Tuning(Protocol):
    """Kernels can be tuned for the device."""

    def tune(self, step: Callable[[], None], say: Callable[[str], None]) -> Path:
        """Save the configurations with which a training step is fastest, and return the path of that file."""


@runtime_checkable
class Compiling(Protocol):
    """Functions are compiled at their first call, unless their machine code was kept by an earlier process."""

    def compiling(self, tell: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `tell` before each function that is compiled while the context lasts."""


@runtime_checkable
class Arguments(Protocol):
    """Arguments of ops can be converted into what kernels read, for a backend whose calls are checked."""

    def argument(self, label: str, a: Any, *, changes: bool = False) -> Array:
        """Return an array as kernels read it; raise an error that begins with `label` for one that cannot be.

        If an op `changes` it in place, it cannot be converted.
        """


class Doctor(Protocol):
    """What ``refnet doctor`` and ``refnet warmup`` call; any object or module with these functions has this type."""

    def examine(self) -> dict[str, Any]:
        """Return a description of what the backend runs on, ready for JSON."""

    def throttles(self, environ: Mapping[str, str]) -> Sequence[Any]:
        """Return what makes the backend slower than it could be, as :class:`refnet.machine.environment.Throttle`."""

    def cache(self) -> Path | None:
        """Return the folder in which machine code is cached between runs; None if it cannot be cached."""

    def fullness(self) -> dict[str, int] | None:
        """Return the number of cached functions, their bytes, and the free bytes; None if there is no folder."""


@runtime_checkable
class Examinable(Protocol):
    """A backend can describe what it runs on.

    Attributes
    ----------
    doctor
        The functions that describe it.
    """

    @property
    def doctor(self) -> Doctor:
        """The functions that describe it."""


def precision_of(backend: object) -> str:
    """Return the precision of a backend's matrix products: how they round their factors."""
    inner = unwrapped(backend)
    return inner.precision if isinstance(inner, Precision) else EXACT_PRODUCTS


def exchanged_bytes(a: Array, backend: object) -> int:
    """Return how many bytes are sent when an array moves between the columns of a backend."""
    inner: Any = unwrapped(backend)
    return prod(a.shape) * int(inner.exchange_itemsize) if _exchanges(inner.__class__) else nbytes(a)


def sent(a: Array, column: int, backend: Any, *, gradient: bool = False) -> Array:
    """Return an activation, or a gradient of one, in another column of a backend."""
    inner: Any = unwrapped(backend)
    moved: Array = inner.send(a, column, gradient=gradient) if _exchanges(inner.__class__) else backend.move(a, column)
    return moved


@cache
def _exchanges(kind: type) -> bool:
    """Return whether backends of a class have `Exchange`.

    The answer is kept, because each step asks many times, and ``isinstance`` of a Protocol takes as long as a small op.
    """
    return all(hasattr(kind, name) for name in ("exchange_itemsize", "send"))
