"""The loopback backend: the reference behind an array type that refuses to be treated as a NumPy array.

A program that runs on it has shown that it uses arrays only through the backend, and that it never mixes the columns:
an array knows its column, and ops reject arrays of different columns.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.backend.reference import NumpyBackend
from refnet.backend.wrapped import Wrapped, arrays_in
from refnet.errors import ArgumentError
from refnet.ops._arguments import described


class LoopArray:
    """An array of which only the shape and the dtype can be read."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, hidden: npt.NDArray[Any], column: int) -> None:
        self._hidden = hidden
        self._column = column

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._hidden.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the elements."""
        return self._hidden.dtype

    def _refuse(self, *_: object) -> Any:
        raise TypeError("an array of the loopback backend was used outside the backend")

    __array__ = __bool__ = __float__ = __int__ = __len__ = __iter__ = __getitem__ = __eq__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __neg__ = _refuse


class LoopbackBackend(Wrapped):
    """The reference with ``LoopArray`` as its array type. Any device name is accepted, because there is one memory."""

    name = "loopback"

    def __init__(self, columns: int = 1, devices: Sequence[str] = (), threads: int | None = None) -> None:  # noqa: ARG002
        super().__init__(NumpyBackend(columns))
        self.devices = tuple(devices)

    def around(self, _op: str, _name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Call the op with the NumPy arrays inside the arguments, and return its arrays as ``LoopArray``."""
        arrays = list(arrays_in(arguments.values()))
        column = _column_of(arrays) if arrays else 0
        result = function(**{name: _reveal_arrays(value) for name, value in arguments.items()})
        if isinstance(result, tuple):
            return tuple(None if array is None else LoopArray(array, column) for array in result)
        return None if result is None else LoopArray(result, column)

    def argument(self, label: str, a: object, *, changes: bool = False) -> LoopArray:  # noqa: ARG002
        """Return an argument as it is. Raises ``ArgumentError`` for an array of another library."""
        if not isinstance(a, LoopArray):
            raise ArgumentError(f"{label} must be an array of backend loopback, it is {described(a)}")
        return a

    def asarray(self, a: npt.NDArray[Any], column: int = 0) -> LoopArray:
        """Copy a host array to the column."""
        return LoopArray(self.inner.asarray(a), column)

    def to_numpy(self, a: LoopArray) -> npt.NDArray[Any]:
        """Copy an array to the host."""
        return _reveal(a).copy()

    def move(self, a: LoopArray, column: int) -> LoopArray:
        """Copy an array to another column, as if the columns had separate memory."""
        return LoopArray(_reveal(a).copy(), column)

    def concat(self, parts: Sequence[LoopArray]) -> LoopArray:
        """Join arrays of one column along their channels."""
        return LoopArray(self.inner.concat([_reveal(part) for part in parts]), _column_of(parts))

    def split(self, a: LoopArray, widths: Sequence[int]) -> list[LoopArray]:
        """Split an array along its channels into parts of the given widths."""
        return [LoopArray(part, a._column) for part in self.inner.split(_reveal(a), widths)]  # noqa: SLF001

    def add(self, a: LoopArray, b: LoopArray) -> LoopArray:
        """Add two gradients of one column."""
        return LoopArray(self.inner.add(_reveal(a), _reveal(b)), _column_of((a, b)))

    def synchronize(self) -> None:
        """Do nothing: every op is finished when it returns."""


def _reveal(a: object) -> npt.NDArray[Any]:
    if not isinstance(a, LoopArray):
        raise TypeError(f"the loopback backend takes its own arrays, not {type(a).__name__}")
    return a._hidden  # noqa: SLF001


def _reveal_arrays(value: Any) -> Any:
    if isinstance(value, list):
        return [_reveal_arrays(item) for item in value]
    return _reveal(value) if isinstance(value, (LoopArray, np.ndarray)) else value


def _column_of(arrays: Sequence[object]) -> int:
    columns = {a._column for a in arrays if isinstance(a, LoopArray)}  # noqa: SLF001
    if len(columns) != 1 or not all(isinstance(a, LoopArray) for a in arrays):
        raise TypeError(f"one op was given arrays of different columns: {sorted(columns)}")
    return columns.pop()
