"""The one place where this backend takes memory, and what it asks of the memory that it is given."""

import sys
from collections import defaultdict
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.errors import ShapeError

# Arrays of a training step come back at every step in the same sizes. Fresh memory costs a page fault for each 4 KB,
# as much time as a pass over it, so large buffers are kept and used again.
KEEP = 1 << 20  # bytes from which a buffer is kept
_kept: dict[int, list[npt.NDArray[np.uint8]]] = defaultdict(list)


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return an array whose numbers have no meaning yet; whoever asks for it writes all of them."""
    nbytes = prod(shape) * np.dtype(dtype).itemsize
    if nbytes < KEEP:
        return np.empty(shape, dtype)
    return _buffer(nbytes).view(dtype).reshape(shape)


def release() -> None:
    """Give back all buffers that nobody uses."""
    for nbytes, buffers in list(_kept.items()):
        _kept[nbytes] = [buffer for buffer in buffers if not _is_free(buffer)]


def _buffer(nbytes: int) -> npt.NDArray[np.uint8]:
    for buffer in _kept[nbytes]:
        if _is_free(buffer):
            return buffer
    # A size not seen before may mean that others will not come again: what is not in use goes first.
    sizes = [(size, _is_free(buffer)) for size, buffers in _kept.items() for buffer in buffers]
    if sum(size for size, free in sizes if free) > sum(size for size, free in sizes if not free):
        release()
    _kept[nbytes].append(np.empty(nbytes, np.uint8))
    return _kept[nbytes][-1]


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
