"""Local response normalisation; see :mod:`refnet.ops.lrn`.

Arrays are seen as (N,C,H*W). Each thread processes whole images, in blocks of ``BLOCK_PIXELS`` pixels of each map. A
block is small enough for the n maps of a window, and everything computed from them, to stay in the cache while the
window moves over the channels. So each array is read or written in memory once.
"""

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet_numba import _memory
from refnet_numba._jit import kernel, serial

Floats = npt.NDArray[np.float32]

# 16 KB of each map, more than a whole map of the paper's network has: memory is read fastest in long runs.
BLOCK_PIXELS = 4096


def forward(x: Floats, *, n: int, k: float, alpha: float, beta: float) -> tuple[Floats, Floats]:
    """Return the normalised x and its scale: y and scale, both shaped like x."""
    _memory.require(x)
    y, scale = _memory.empty(x.shape), _memory.empty(x.shape)
    flat = (*x.shape[:2], x.shape[2] * x.shape[3])
    _forward(
        x.reshape(flat),
        n // 2,
        np.float32(k),
        np.float32(alpha),
        np.float32(beta),
        y.reshape(flat),
        scale.reshape(flat),
    )
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
    flat = (*x.shape[:2], x.shape[2] * x.shape[3])
    _backward(
        dy.reshape(flat),
        x.reshape(flat),
        scale.reshape(flat),
        n // 2,
        np.float32(2 * alpha * beta),
        np.float32(beta),
        dx.reshape(flat),
    )
    return dx


@serial
def _power_minus_three_quarters(value: np.float32) -> np.float32:
    """Return value^-0.75 (the paper's beta) from two square roots; a power would take many times as long."""
    inverse = np.float32(1) / np.sqrt(value)
    return np.float32(inverse * np.sqrt(inverse))


@serial
def normalise(x: Floats, k: np.float32, alpha: np.float32, beta: np.float32, scale: Floats, y: Floats) -> None:
    """Replace the sums of squares in `scale` by k + alpha * sum, and write y."""
    if beta == np.float32(0.75):
        for p in range(x.size):
            scale[p] = k + alpha * scale[p]
            y[p] = x[p] * _power_minus_three_quarters(scale[p])
    else:
        for p in range(x.size):
            scale[p] = k + alpha * scale[p]
            y[p] = x[p] * scale[p] ** (-beta)


@serial
def _normalise_five(
    a: Floats, b: Floats, c: Floats, d: Floats, e: Floats, k: np.float32, alpha: np.float32, scale: Floats, y: Floats
) -> None:
    """Write scale and y of map c from the maps a to e of its window, for the paper's n = 5 and beta = 0.75."""
    for p in range(c.size):
        value = k + alpha * (a[p] * a[p] + b[p] * b[p] + c[p] * c[p] + d[p] * d[p] + e[p] * e[p])
        scale[p] = value
        y[p] = c[p] * _power_minus_three_quarters(value)


@kernel
def _forward(
    x: Floats, half: int, k: np.float32, alpha: np.float32, beta: np.float32, y: Floats, scale: Floats
) -> None:
    """Write scale and y. A block of `scale` first has the sums of squares, which `normalise` replaces."""
    N, C, HW = x.shape
    for i in prange(N):
        for start in range(0, HW, BLOCK_PIXELS):
            stop = min(start + BLOCK_PIXELS, HW)
            for c in range(C):
                # Views that begin at 0 show Numba that no index is negative, so it can vectorise the loops.
                x_block, y_block, scale_block = x[i, c, start:stop], y[i, c, start:stop], scale[i, c, start:stop]
                if half == 2 and 2 <= c < C - 2 and beta == np.float32(0.75):
                    _normalise_five(
                        x[i, c - 2, start:stop], x[i, c - 1, start:stop], x_block, x[i, c + 1, start:stop],
                        x[i, c + 2, start:stop], k, alpha, scale_block, y_block,
                    )  # fmt: skip
                else:
                    scale_block[:] = 0
                    for j in range(max(0, c - half), min(C, c + half + 1)):
                        neighbour = x[i, j, start:stop]
                        for p in range(neighbour.size):
                            scale_block[p] += neighbour[p] * neighbour[p]
                    normalise(x_block, k, alpha, beta, scale_block, y_block)


@serial
def terms(dy: Floats, x: Floats, scale: Floats, beta: np.float32, direct: Floats, ratio: Floats) -> None:
    """Write what the gradient needs of one map: `direct` = dy scale^-beta, and `ratio` = dy y / scale."""
    if beta == np.float32(0.75):
        for p in range(dy.size):
            inverse = np.float32(1) / np.sqrt(scale[p])
            direct[p] = dy[p] * (inverse * np.sqrt(inverse))
            ratio[p] = direct[p] * x[p] * inverse * inverse
    else:
        for p in range(dy.size):
            direct[p] = dy[p] * scale[p] ** (-beta)
            ratio[p] = direct[p] * x[p] / scale[p]


@serial
def _gather_five(
    a: Floats, b: Floats, c: Floats, d: Floats, e: Floats, x: Floats, direct: Floats, factor: np.float32, dx: Floats
) -> None:
    """Write dx of a map from x, `direct` and the ratios a to e of the five maps of its window."""
    for p in range(dx.size):
        dx[p] = direct[p] - factor * x[p] * (a[p] + b[p] + c[p] + d[p] + e[p])


@kernel
def _backward(
    dy: Floats, x: Floats, scale: Floats, half: int, factor: np.float32, beta: np.float32, dx: Floats
) -> None:
    """Write dx map by map; `factor` is 2 alpha beta.

    The terms of a map are computed just before the first window that needs them: those of map c + half before dx of c.
    """
    N, C, HW = x.shape
    for i in prange(N):
        pixels = min(HW, BLOCK_PIXELS)
        directs, ratios = np.empty((C, pixels), np.float32), np.empty((C, pixels), np.float32)
        for start in range(0, HW, BLOCK_PIXELS):
            stop = min(start + BLOCK_PIXELS, HW)
            for newest in range(C + half):
                if newest < C:
                    dy_block, x_block = dy[i, newest, start:stop], x[i, newest, start:stop]
                    scale_block = scale[i, newest, start:stop]
                    terms(dy_block, x_block, scale_block, beta, directs[newest], ratios[newest])
                c = newest - half
                if c < 0:
                    continue
                x_block, direct, dx_block = x[i, c, start:stop], directs[c], dx[i, c, start:stop]
                if half == 2 and 2 <= c < C - 2:
                    a, b, d, e = ratios[c - 2], ratios[c - 1], ratios[c + 1], ratios[c + 2]
                    _gather_five(a, b, ratios[c], d, e, x_block, direct, factor, dx_block)
                else:
                    dx_block[:] = 0
                    for j in range(max(0, c - half), min(C, c + half + 1)):
                        ratio = ratios[j]
                        for p in range(dx_block.size):
                            dx_block[p] += ratio[p]
                    for p in range(dx_block.size):
                        dx_block[p] = direct[p] - factor * x_block[p] * dx_block[p]
