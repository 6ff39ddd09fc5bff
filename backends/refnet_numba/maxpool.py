"""Max-pooling; see :mod:`refnet.ops.maxpool`. Each thread takes whole maps."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet.ops.maxpool import forward_shapes
from refnet_numba import _memory
from refnet_numba._jit import kernel, serial

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.uint8]


def forward(x: Floats, *, size: int, stride: int, ceil: bool = False) -> tuple[Floats, Positions]:
    """Pool: y and which."""
    _memory.require(x)
    shape, _ = forward_shapes(x.shape, size=size, stride=stride, ceil=ceil)
    y, which = _memory.empty(shape), _memory.empty(shape, np.uint8)
    _forward(_maps(x), size, stride, _maps(y), _maps(which))
    return y, which


def backward(
    dy: Floats, which: Positions, *, x_shape: tuple[int, ...], size: int, stride: int, ceil: bool = False
) -> Floats:
    """Gradient of x."""
    _memory.require(dy, which)
    del ceil  # the shape of dy says it all
    dx = _memory.empty(x_shape)
    _backward(_maps(dy), _maps(which), size, stride, _maps(dx))
    return dx


def _maps(a: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])


@kernel
def _forward(x: Floats, size: int, stride: int, y: Floats, which: Positions) -> None:
    """Take the best of each row of a window, then the best of its rows.

    Both are done at every pixel of a map, also where no window begins: neighbours in memory are compared by vectors,
    and pixels that are `stride` apart are not.
    """
    M, H, W = x.shape
    _, P, Q = y.shape
    # Windows that do not hang over.
    rows, columns = min(P, max(0, (H - size) // stride + 1)), min(Q, max(0, (W - size) // stride + 1))
    # First pixels of rows of windows, and of windows.
    row_count, count = max(0, H * W - size + 1), max(0, (H - size) * W + W - size + 1)
    for m in prange(M):
        pixels = x[m].reshape(H * W)
        row_best, row_at = pixels[:row_count].copy(), np.zeros(row_count, np.int32)
        for s in range(1, size):
            _challenge(pixels[s : s + row_count], np.int32(s), row_best, row_at)
        best, at = row_best[:count].copy(), row_at[:count].copy()
        for r in range(1, size):
            start = r * W
            _challenge_rows(
                row_best[start : start + count], row_at[start : start + count], np.int32(r * size), best, at
            )
        for p in range(rows if columns else 0):
            first = p * stride * W
            values, positions, out, out_at = best[first:], at[first:], y[m, p], which[m, p]
            for q in range(columns):
                out[q], out_at[q] = values[q * stride], positions[q * stride]
        for p in range(P):
            for q in range(columns if p < rows else 0, Q):
                _pool_one(x[m, p * stride : p * stride + size, q * stride : q * stride + size], size, y, which, m, p, q)


@serial
def _challenge(values: Floats, position: np.int32, best: Floats, at: npt.NDArray[np.int32]) -> None:
    """Let one pixel of each row of a window challenge its best so far.

    The first of equals stays; the first NaN wins over everything and stays. There is no branch, which no processor
    could predict.
    """
    for j in range(best.size):
        value, held, place = values[j], best[j], at[j]
        stays = (value <= held) | (held != held)  # noqa: PLR0124
        best[j] = held if stays else value
        at[j] = place if stays else position


@serial
def _challenge_rows(
    values: Floats, places: npt.NDArray[np.int32], position: np.int32, best: Floats, at: npt.NDArray[np.int32]
) -> None:
    """Let the best of a later row of each window challenge the best so far."""
    for j in range(best.size):
        value, held, place, new = values[j], best[j], at[j], position + places[j]
        stays = (value <= held) | (held != held)  # noqa: PLR0124
        best[j] = held if stays else value
        at[j] = place if stays else new


@serial
def _pool_one(window: Floats, size: int, y: Floats, which: Positions, m: int, p: int, q: int) -> None:
    """Pool a window that hangs over: as much of it as there is."""
    best, at = window[0, 0], 0
    for r in range(window.shape[0]):
        for s in range(window.shape[1]):
            value = window[r, s]
            if value > best or (value != value and best == best):  # noqa: PLR0124
                best, at = value, r * size + s
    y[m, p, q], which[m, p, q] = best, at


@kernel
def _backward(dy: Floats, which: Positions, size: int, stride: int, dx: Floats) -> None:
    M, P, Q = dy.shape
    W = dx.shape[2]
    offsets = np.empty(size * size, np.int64)
    for position in range(size * size):
        offsets[position] = position // size * W + position % size
    for m in prange(M):
        pixels = dx[m].reshape(-1)
        pixels[:] = 0
        # From the last window to the first: then a pixel collects in row-major order of its places in the windows.
        for p in range(P - 1, -1, -1):
            for q in range(Q - 1, -1, -1):
                pixels[(p * W + q) * stride + offsets[which[m, p, q]]] += dy[m, p, q]
