"""Average pooling; see :mod:`refnet.ops.avgpool`.

Arrays are seen as (N*C,H,W) and (N*C,P,Q). Each thread processes whole feature maps, forward and backward, so no two
threads write to the same map. A row of windows is computed in two steps, of which the first takes most of the time and
is vectorised: forward, the sum of each column of pixels, then that of adjacent columns; backward, the opposite.
"""

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet.ops.avgpool import forward_shapes
from refnet_numba import _memory
from refnet_numba._jit import kernel, serial

Floats = npt.NDArray[np.float32]


def forward(x: Floats, *, size: int, stride: int, ceil: bool = False) -> Floats:
    """Return the mean of each window, y (N,C,P,Q)."""
    _memory.require(x)
    (shape,) = forward_shapes(x.shape, size=size, stride=stride, ceil=ceil)
    y = _memory.empty(shape)
    _forward(_maps(x), size, stride, _maps(y))
    return y


def backward(dy: Floats, *, x_shape: tuple[int, ...], size: int, stride: int, ceil: bool = False) -> Floats:
    """Return the gradient dx (N,C,H,W), of shape `x_shape`."""
    _memory.require(dy)
    del ceil  # the shape of dy already tells it
    dx = _memory.empty(x_shape)
    _backward(_maps(dy), size, stride, _maps(dx))
    return dx


def _maps(a: Floats) -> Floats:
    """Return the feature maps of all images as one axis: (N*C, rows, columns)."""
    return a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])


@serial
def _add(a: Floats, total: Floats) -> None:
    """Add a row of pixels to `total`."""
    for j in range(total.size):
        total[j] += a[j]


@kernel
def _forward(x: Floats, size: int, stride: int, y: Floats) -> None:
    M, H, W = x.shape
    P = y.shape[1]
    for m in prange(M):
        columns = np.empty(W, np.float32)
        for p in range(P):
            top, bottom = p * stride, min(p * stride + size, H)
            columns[:] = 0
            for i in range(top, bottom):
                _add(x[m, i], columns)
            _average(columns, bottom - top, size, stride, y[m, p])


@serial
def _average(columns: Floats, rows: int, size: int, stride: int, y: Floats) -> None:
    """Write the means of a row of windows, from the sum of the pixels of each column; each has `rows` pixels."""
    for q in range(y.size):
        left, right = q * stride, min(q * stride + size, columns.size)
        total = np.float32(0)
        for j in range(left, right):
            total += columns[j]
        y[q] = total / np.float32(rows * (right - left))


@kernel
def _backward(dy: Floats, size: int, stride: int, dx: Floats) -> None:
    M, H, W = dx.shape
    P = dy.shape[1]
    for m in prange(M):
        columns = np.empty(W, np.float32)
        dx[m] = 0
        # From the last window to the first: then a pixel adds its shares in row-major order of its place in windows.
        for p in range(P - 1, -1, -1):
            top, bottom = p * stride, min(p * stride + size, H)
            columns[:] = 0
            _spread(dy[m, p], bottom - top, size, stride, columns)
            for i in range(top, bottom):
                _add(columns, dx[m, i])


@serial
def _spread(dy: Floats, rows: int, size: int, stride: int, columns: Floats) -> None:
    """Add to each column the shares of the windows that contain it; the windows have `rows` rows."""
    for q in range(dy.size - 1, -1, -1):
        left, right = q * stride, min(q * stride + size, columns.size)
        share = dy[q] / np.float32(rows * (right - left))
        for j in range(left, right):
            columns[j] += share
