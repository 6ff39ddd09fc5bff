"""Local response normalisation; see :mod:`refnet.ops.lrn`.

Each thread takes whole images. A pass goes over blocks of pixels small enough that the n maps of a window, and what is
made of them, stay in the cache while the window slides over the channels: memory is read once and written once.
"""

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet_numba import _memory
from refnet_numba._jit import kernel, serial

Floats = npt.NDArray[np.float32]

PIXELS = 512  # of a block: 2 KB of each map, so that all maps of a column fit in the second-level cache


def forward(x: Floats, *, n: int, k: float, alpha: float, beta: float) -> tuple[Floats, Floats]:
    """Normalise: y and scale."""
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
    k: float,  # noqa: ARG001 - part of scale
    alpha: float,
    beta: float,
) -> Floats:
    """Gradient of x."""
    _memory.require(dy, x, y, scale)
    dx = _memory.empty(x.shape)
    flat = (*x.shape[:2], x.shape[2] * x.shape[3])
    _backward(
        dy.reshape(flat),
        x.reshape(flat),
        y.reshape(flat),
        scale.reshape(flat),
        n // 2,
        np.float32(2 * alpha * beta),
        np.float32(beta),
        dx.reshape(flat),
    )
    return dx


@serial
def _powers(scale: Floats, beta: np.float32, power: Floats) -> None:
    """Write scale^-beta. The paper's beta is 3/4, for which two roots do, and those are vectorised."""
    one = np.float32(1)
    if beta == np.float32(0.75):
        for p in range(scale.size):
            root = np.sqrt(scale[p])
            power[p] = one / (root * np.sqrt(root))
    else:
        for p in range(scale.size):
            power[p] = scale[p] ** (-beta)


@kernel
def _forward(
    x: Floats, half: int, k: np.float32, alpha: np.float32, beta: np.float32, y: Floats, scale: Floats
) -> None:
    N, C, HW = x.shape
    for i in prange(N):
        power = np.empty(PIXELS, np.float32)
        for start in range(0, HW, PIXELS):
            stop = min(start + PIXELS, HW)
            for c in range(C):
                # Views that begin at 0: so Numba knows that no index is negative, and the loops become vectors.
                mine, total, out = x[i, c, start:stop], scale[i, c, start:stop], y[i, c, start:stop]
                total[:] = 0
                for j in range(max(0, c - half), min(C, c + half + 1)):
                    other = x[i, j, start:stop]
                    for p in range(other.size):
                        total[p] += other[p] * other[p]
                for p in range(total.size):
                    total[p] = k + alpha * total[p]
                _powers(total, beta, power)
                for p in range(mine.size):
                    out[p] = mine[p] * power[p]


@kernel
def _backward(
    dy: Floats, x: Floats, y: Floats, scale: Floats, half: int, factor: np.float32, beta: np.float32, dx: Floats
) -> None:
    N, C, HW = x.shape
    for i in prange(N):
        power = np.empty(PIXELS, np.float32)
        ratios = np.empty((C, PIXELS), np.float32)  # dy y / scale
        for start in range(0, HW, PIXELS):
            stop = min(start + PIXELS, HW)
            for c in range(C):
                up, out, divisor, ratio = dy[i, c, start:stop], y[i, c, start:stop], scale[i, c, start:stop], ratios[c]
                for p in range(up.size):
                    ratio[p] = up[p] * out[p] / divisor[p]
            for c in range(C):
                up, mine, total = dy[i, c, start:stop], x[i, c, start:stop], dx[i, c, start:stop]
                total[:] = 0
                for j in range(max(0, c - half), min(C, c + half + 1)):
                    ratio = ratios[j]
                    for p in range(total.size):
                        total[p] += ratio[p]
                _powers(scale[i, c, start:stop], beta, power)
                for p in range(total.size):
                    total[p] = up[p] * power[p] - factor * mine[p] * total[p]
