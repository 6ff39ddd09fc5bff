"""Max-pooling; see :mod:`refnet.ops.maxpool`. Each thread processes whole feature maps."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet.ops.maxpool import forward_shapes
from refnet_numba import _memory
from refnet_numba._instructions import LANES
from refnet_numba._jit import kernel, serial
from refnet_numba._microkernel import best

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.uint8]


def forward(x: Floats, *, size: int, stride: int, ceil: bool = False) -> tuple[Floats, Positions]:
    """Return the maximum of each window, y (N,C,P,Q), and its position in the window, which (uint8)."""
    _memory.require(x)
    shape, _ = forward_shapes(x.shape, size=size, stride=stride, ceil=ceil)
    y, which = _memory.empty(shape), _memory.empty(shape, np.uint8)
    _forward(_maps(x), size, stride, _maps(y), _maps(which))
    return y, which


def backward(
    dy: Floats, which: Positions, *, x_shape: tuple[int, ...], size: int, stride: int, ceil: bool = False
) -> Floats:
    """Return the gradient dx (N,C,H,W), of shape `x_shape`."""
    _memory.require(dy, which)
    del ceil  # the shape of dy already tells it
    dx = _memory.empty(x_shape)
    _backward(_maps(dy), _maps(which), size, stride, _maps(dx))
    return dx


def _maps(a: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the feature maps of all images as one axis: (N*C, rows, columns)."""
    return a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])


@kernel
def _forward(x: Floats, size: int, stride: int, y: Floats, which: Positions) -> None:
    """Write y and which: first the maximum of each column of a row of windows, then that of each window's columns.

    The second step runs at every pixel of a row, even where no window starts, because vector instructions compare
    numbers that are adjacent in memory.
    """
    M, H, W = x.shape
    _, P, Q = y.shape
    # Number of windows that do not extend over the edge.
    rows, columns = min(P, max(0, (H - size) // stride + 1)), min(Q, max(0, (W - size) // stride + 1))
    pixels = x.reshape(-1)
    vectors = (W + LANES - 1) // LANES
    width = vectors * LANES
    for m in prange(M):
        no_places = np.zeros(width, np.int32)
        column_best, column_at = np.zeros(width + size, np.float32), np.zeros(width + size, np.int32)
        row_best, row_at = np.empty(width, np.float32), np.empty(width, np.int32)
        for p in range(P):
            first = (m * H + p * stride) * W
            whole = 0  # windows computed with vectors, which read past the row's end but must not pass the array's
            if size > 1 and p < rows and first + (size - 1) * W + width <= pixels.size:
                whole = columns
                best(pixels, first, W, no_places, 0, 0, size, size, column_best, 0, column_at, 0, vectors)
                best(column_best, 0, 1, column_at, 0, 1, 1, size, row_best, 0, row_at, 0, vectors)
                out, out_at = y[m, p], which[m, p]
                for q in range(columns):
                    out[q], out_at[q] = row_best[q * stride], row_at[q * stride]
            for q in range(whole, Q):
                _pool_one(x[m, p * stride : p * stride + size, q * stride : q * stride + size], size, y, which, m, p, q)


@serial
def _pool_one(window: Floats, size: int, y: Floats, which: Positions, m: int, p: int, q: int) -> None:
    """Write the maximum of one window and its position; a window over the edge has only its pixels in the image."""
    highest, at = window[0, 0], 0
    for r in range(window.shape[0]):
        for s in range(window.shape[1]):
            value = window[r, s]
            if value > highest or (value != value and highest == highest):  # noqa: PLR0124
                highest, at = value, r * size + s
    y[m, p, q], which[m, p, q] = highest, at


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
        # From the last window to the first, so that a pixel adds gradients in row-major order of its positions.
        for p in range(P - 1, -1, -1):
            for q in range(Q - 1, -1, -1):
                pixels[(p * W + q) * stride + offsets[which[m, p, q]]] += dy[m, p, q]
