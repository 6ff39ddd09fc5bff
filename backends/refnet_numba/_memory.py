"""The one place where this backend takes memory, and what it asks of the memory that it is given."""

import sys
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.errors import ShapeError

# Arrays of a training step come back at every step in the same sizes. Fresh memory costs a page fault for each 4 KB,
# as much time as a pass over it, so large buffers are kept and used again.
KEEP = 1 << 20  # bytes from which a buffer is kept
ROOM = 1.25  # times the most bytes that were ever in use at once: what is kept at most
_kept: list[npt.NDArray[np.uint8]] = []  # the one that was taken last is the last
_most_used = 0  # bytes


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return an array whose numbers have no meaning yet; whoever asks for it writes all of them."""
    nbytes = prod(shape) * np.dtype(dtype).itemsize
    if nbytes < KEEP:
        return np.empty(shape, dtype)
    return _buffer(nbytes)[:nbytes].view(dtype).reshape(shape)


def release() -> None:
    """Give back all buffers that nobody uses."""
    _kept[:] = [buffer for buffer in _kept if not _is_free(buffer)]


def _buffer(nbytes: int) -> npt.NDArray[np.uint8]:
    """Take the smallest free buffer that is large enough, and not more than twice as large."""
    free = [_is_free(buffer) for buffer in _kept]
    fitting = [index for index, is_free in enumerate(free) if is_free and nbytes <= _kept[index].nbytes <= 2 * nbytes]
    if fitting:
        _kept.append(_kept.pop(min(fitting, key=lambda index: _kept[index].nbytes)))
    else:
        _make_room(nbytes)
        _kept.append(np.empty(nbytes, np.uint8))
    return _kept[-1]


def _make_room(nbytes: int) -> None:
    """Give free buffers back, those first that have not been taken for longest, where too much would be kept."""
    global _most_used  # noqa: PLW0603 - the list and its high-water mark are one thing
    used = sum(buffer.nbytes for buffer in _kept if not _is_free(buffer))
    _most_used = max(_most_used, used + nbytes)
    excess = sum(buffer.nbytes for buffer in _kept) + nbytes - ROOM * _most_used
    keep = []
    for buffer in _kept:
        if excess > 0 and _is_free(buffer):
            excess -= buffer.nbytes
        else:
            keep.append(buffer)
    _kept[:] = keep


def _is_free(buffer: npt.NDArray[np.uint8]) -> bool:
    """Tell whether nothing but the list of kept buffers refers to one; every view of it would."""
    return sys.getrefcount(buffer) <= _REFERENCES


def _references_of_a_free_one() -> int:
    """Count as ``_is_free`` does where a list and the variable of a loop over it are all there is."""

    def count(buffer: npt.NDArray[np.uint8]) -> int:
        return sys.getrefcount(buffer)

    return max(count(buffer) for buffer in [np.empty(0, np.uint8)])


_REFERENCES = _references_of_a_free_one()


def require(*arrays: npt.NDArray[Any]) -> None:
    """Raise ``ShapeError`` for an array that is not contiguous, or whose real numbers are not float32."""
    for a in arrays:
        if not a.flags.c_contiguous:
            raise ShapeError(f"backend numba takes contiguous arrays; this one, {a.shape}, has strides {a.strides}")
        if a.dtype.kind == "f" and a.dtype != np.float32:
            raise ShapeError(f"backend numba computes in float32, not in {a.dtype}; convert or take backend numpy")
