"""Max-pooling; see :mod:`refnet.ops.maxpool`.

Arrays are seen as (N*C,H,W) and (N*C,P,Q). Each thread processes whole feature maps, forward and backward, so no two
threads write to the same map. Forward, a row of windows is computed with vector instructions in two steps (``best``):
first the maximum of each column of pixels, then that of `size` adjacent columns.
"""

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
    """Write y and which, for one row of windows at a time.

    Vector instructions compare numbers that are adjacent in memory. So the second step computes a maximum at every
    pixel of the row, even where no window starts. Windows over the edge, and those whose vectors would be read past the
    end of x, are computed one by one.
    """
    M, H, W = x.shape
    _, P, Q = y.shape
    # Rows and columns of windows that are inside the image.
    rows, columns = min(P, max(0, (H - size) // stride + 1)), min(Q, max(0, (W - size) // stride + 1))
    pixels = x.reshape(-1)
    vectors = (W + LANES - 1) // LANES
    width = vectors * LANES
    for m in prange(M):
        zeros = np.zeros(width, np.int32)
        column_best, column_which = np.zeros(width + size, np.float32), np.zeros(width + size, np.int32)
        row_best, row_which = np.empty(width, np.float32), np.empty(width, np.int32)
        for p in range(P):
            start = (m * H + p * stride) * W
            vectorised = 0  # windows computed with vectors
            if size > 1 and p < rows and start + (size - 1) * W + width <= pixels.size:
                vectorised = columns
                best(pixels, start, W, zeros, 0, 0, size, size, column_best, 0, column_which, 0, vectors)
                best(column_best, 0, 1, column_which, 0, 1, 1, size, row_best, 0, row_which, 0, vectors)
                out, out_which = y[m, p], which[m, p]
                for q in range(columns):
                    out[q], out_which[q] = row_best[q * stride], row_which[q * stride]
            for q in range(vectorised, Q):
                _pool_one(x[m, p * stride : p * stride + size, q * stride : q * stride + size], size, y, which, m, p, q)


@serial
def _pool_one(window: Floats, size: int, y: Floats, which: Positions, m: int, p: int, q: int) -> None:
    """Write the maximum of one window and its position; `window` has only those of its pixels that are in the image."""
    largest, position = window[0, 0], 0
    for r in range(window.shape[0]):
        for s in range(window.shape[1]):
            value = window[r, s]
            if value > largest or (value != value and largest == largest):  # noqa: PLR0124 - NaN is the largest
                largest, position = value, r * size + s
    y[m, p, q], which[m, p, q] = largest, position


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
        # From the last window to the first: then a pixel adds up gradients in row-major order of its place in windows.
        for p in range(P - 1, -1, -1):
            for q in range(Q - 1, -1, -1):
                pixels[(p * W + q) * stride + offsets[which[m, p, q]]] += dy[m, p, q]
