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
    M, H, W = x.shape
    _, P, Q = y.shape
    whole = min(Q, max(0, (W - size) // stride + 1))  # windows of a row that do not hang over
    for m in prange(M):
        at = np.empty(Q, np.int32)
        for p in range(P):
            best, last = y[m, p], min(size, H - p * stride)
            best[:] = x[m, p * stride, : (Q - 1) * stride + 1 : stride]
            at[:] = 0
            for r in range(last):
                row = x[m, p * stride + r]
                for s in range(size):
                    if stride == 2:  # known to be 2, the loop becomes vectors
                        _challenge(row[s:], 2, whole, r * size + s, best, at)
                    else:
                        _challenge(row[s:], stride, whole, r * size + s, best, at)
                    for q in range(whole, Q):
                        if q * stride + s < W:
                            value = row[q * stride + s]
                            if value > best[q] or (value != value and best[q] == best[q]):  # noqa: PLR0124
                                best[q], at[q] = value, r * size + s
            which[m, p] = at


@serial
def _challenge(row: Floats, stride: int, count: int, position: int, best: Floats, at: npt.NDArray[np.int32]) -> None:
    """Let one pixel of each window challenge its best so far.

    The first of equals wins; the first NaN wins over everything and is never replaced. There is no branch, which no
    processor could predict.
    """
    for q in range(count):
        value, held = row[q * stride], best[q]
        wins = (value > held) | ((value != value) & (held == held))  # noqa: PLR0124
        best[q] = value if wins else held
        at[q] = position if wins else at[q]


@kernel
def _backward(dy: Floats, which: Positions, size: int, stride: int, dx: Floats) -> None:
    M, P, Q = dy.shape
    for m in prange(M):
        dx[m] = 0
        # From the last window to the first: then a pixel collects in row-major order of its places in the windows.
        for p in range(P - 1, -1, -1):
            for q in range(Q - 1, -1, -1):
                r, s = which[m, p, q] // size, which[m, p, q] % size
                dx[m, p * stride + r, q * stride + s] += dy[m, p, q]
