"""The allocation of memory, which happens only here, and the check of arguments' layout and dtype.

Large arrays are views of buffers. A buffer whose last view is gone is kept, and used for a later array.
"""

import os
import sys
import threading
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.errors import ShapeError

# Every training step needs arrays of the same sizes, and new memory is slow: its page faults, one for each 4 KB, take
# as long as writing all of it.
MIN_KEPT_BYTES = 1 << 20  # smaller buffers are not kept
MAX_KEPT_RATIO = 1.25  # bytes of all kept buffers, relative to the most bytes ever in use at once
_kept: list[npt.NDArray[np.uint8]] = []  # all kept buffers, in use or free, in the order in which they were last taken
_most_used = 0  # the most bytes ever in use at once
_lock = threading.Lock()  # held while a buffer is chosen, so that no two Python threads are given the same one


def _renew_lock() -> None:
    """Replace the lock in a forked process: another thread of the parent may have held it."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return an uninitialised array; the caller must write every element."""
    nbytes = prod(shape) * np.dtype(dtype).itemsize
    if nbytes < MIN_KEPT_BYTES:
        return np.empty(shape, dtype)
    with _lock:
        buffer = _buffer(nbytes)
    return buffer[:nbytes].view(dtype).reshape(shape)


def release() -> None:
    """Release all buffers that are not in use."""
    with _lock:
        _kept[:] = [buffer for buffer in _kept if not _is_free(buffer)]


def _buffer(nbytes: int) -> npt.NDArray[np.uint8]:
    """Return the smallest free buffer of `nbytes` to twice as many bytes, or a new one if there is none."""
    free = [_is_free(buffer) for buffer in _kept]
    fitting = [index for index, is_free in enumerate(free) if is_free and nbytes <= _kept[index].nbytes <= 2 * nbytes]
    if fitting:
        _kept.append(_kept.pop(min(fitting, key=lambda index: _kept[index].nbytes)))
    else:
        _make_room(nbytes)
        _kept.append(np.empty(nbytes, np.uint8))
    return _kept[-1]


def _make_room(nbytes: int) -> None:
    """Release free buffers, least recently taken first, until `nbytes` more can be kept."""
    global _most_used  # noqa: PLW0603 - it is state of the module, as the list is
    used = sum(buffer.nbytes for buffer in _kept if not _is_free(buffer))
    _most_used = max(_most_used, used + nbytes)
    excess = sum(buffer.nbytes for buffer in _kept) + nbytes - MAX_KEPT_RATIO * _most_used
    keep = []
    for buffer in _kept:
        if excess > 0 and _is_free(buffer):
            excess -= buffer.nbytes
        else:
            keep.append(buffer)
    _kept[:] = keep


def _is_free(buffer: npt.NDArray[np.uint8]) -> bool:
    """Return whether only the list of kept buffers refers to a buffer; every view of it is another reference."""
    return sys.getrefcount(buffer) <= _REFERENCES


def _references_of_a_free_buffer() -> int:
    """Return the reference count that ``_is_free`` sees for a buffer with no view."""

    def count(buffer: npt.NDArray[np.uint8]) -> int:
        return sys.getrefcount(buffer)

    return max(count(buffer) for buffer in [np.empty(0, np.uint8)])


_REFERENCES = _references_of_a_free_buffer()


def require(*arrays: npt.NDArray[Any]) -> None:
    """Raise ``ShapeError`` for an array that is not C-contiguous, or whose floating-point numbers are not float32."""
    for a in arrays:
        if not a.flags.c_contiguous:
            raise ShapeError(
                f"backend numba needs contiguous arrays; one of shape {a.shape} has strides {a.strides}: copy it"
            )
        if a.dtype.kind == "f" and a.dtype != np.float32:
            raise ShapeError(
                f"backend numba computes in float32, not {a.dtype}; convert it first, or use backend numpy"
            )
