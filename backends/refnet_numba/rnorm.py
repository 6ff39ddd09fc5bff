"""Response normalisation within a map; see :mod:`refnet.ops.rnorm`.

Arrays are seen as (N*C,H,W). Each thread processes whole feature maps, a row at a time. First the sum of each column of
n pixels is computed, then that of n adjacent columns, which is the sum over a window. Both steps are vectorised along
the row.
"""

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet_numba import _memory
from refnet_numba._jit import kernel, serial
from refnet_numba.lrn import normalise, terms

Floats = npt.NDArray[np.float32]


def forward(x: Floats, *, n: int, k: float, alpha: float, beta: float) -> tuple[Floats, Floats]:
    """Return the normalised x and its scale: y and scale, both shaped like x."""
    _memory.require(x)
    y, scale = _memory.empty(x.shape), _memory.empty(x.shape)
    _forward(_maps(x), _half(x, n), np.float32(k), np.float32(alpha), np.float32(beta), _maps(y), _maps(scale))
    return y, scale


def backward(
    dy: Floats,
    x: Floats,
    y: Floats,
    scale: Floats,
    *,
    n: int,
    k: float,  # noqa: ARG001 - already in scale
    alpha: float,
    beta: float,
) -> Floats:
    """Return the gradient dx, shaped like x."""
    _memory.require(dy, x, y, scale)  # y is not read: computing x * scale^-beta again is faster
    dx = _memory.empty(x.shape)
    factor = np.float32(2 * alpha * beta)
    _backward(_maps(dy), _maps(x), _maps(scale), _half(x, n), factor, np.float32(beta), _maps(dx))
    return dx


def _maps(a: Floats) -> Floats:
    """Return the feature maps of all images as one axis: (N*C, H, W)."""
    return a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])


def _half(x: Floats, n: int) -> int:
    """Return how many pixels a window reaches beyond its middle; more than the whole map would only take memory."""
    half: int = min(n // 2, max(x.shape[2:]))
    return half


@serial
def _add_neighbours(columns: Floats, total: Floats) -> None:
    """Write to each pixel of a row the sum of the columns of its window; `columns` begins and ends with zeros."""
    total[:] = 0
    for s in range(columns.size - total.size + 1):
        shifted = columns[s : s + total.size]
        for j in range(total.size):
            total[j] += shifted[j]


@kernel
def _forward(
    x: Floats, half: int, k: np.float32, alpha: np.float32, beta: np.float32, y: Floats, scale: Floats
) -> None:
    """Write scale and y. A row of `scale` first has the sums of squares, which `normalise` replaces."""
    M, H, W = x.shape
    for m in prange(M):
        columns = np.zeros(W + 2 * half, np.float32)
        inner = columns[half : half + W]
        for i in range(H):
            inner[:] = 0
            for neighbour in range(max(0, i - half), min(H, i + half + 1)):
                row = x[m, neighbour]
                for j in range(W):
                    inner[j] += row[j] * row[j]
            _add_neighbours(columns, scale[m, i])
            normalise(x[m, i], k, alpha, beta, scale[m, i], y[m, i])


@kernel
def _backward(
    dy: Floats, x: Floats, scale: Floats, half: int, factor: np.float32, beta: np.float32, dx: Floats
) -> None:
    """Write dx row by row; `factor` is 2 alpha beta.

    The terms of a row are computed just before the first window that needs them: those of row i + half before dx of row
    i. Only the n rows of a window are kept, each in the place of the one n rows above it.
    """
    M, H, W = x.shape
    n = 2 * half + 1
    for m in prange(M):
        directs, ratios = np.empty((n, W), np.float32), np.empty((n, W), np.float32)
        columns = np.zeros(W + 2 * half, np.float32)
        inner = columns[half : half + W]
        for newest in range(H + half):
            if newest < H:
                terms(dy[m, newest], x[m, newest], scale[m, newest], beta, directs[newest % n], ratios[newest % n])
            i = newest - half
            if i < 0:
                continue
            inner[:] = 0
            for neighbour in range(max(0, i - half), min(H, i + half + 1)):
                ratio = ratios[neighbour % n]
                for j in range(W):
                    inner[j] += ratio[j]
            x_row, direct, dx_row = x[m, i], directs[i % n], dx[m, i]
            _add_neighbours(columns, dx_row)
            for j in range(W):
                dx_row[j] = direct[j] - factor * x_row[j] * dx_row[j]
