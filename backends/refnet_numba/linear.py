"""Fully connected layer; see :mod:`refnet.ops.linear`. BLAS multiplies; the bias is one pass over memory."""

from math import prod

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet_numba import _memory
from refnet_numba._jit import kernel

Floats = npt.NDArray[np.float32]


def forward(x: Floats, w: Floats, b: Floats) -> Floats:
    """Weigh and sum."""
    _memory.require(x, w, b)
    y = _memory.empty((x.shape[0], w.shape[0]))
    np.matmul(_rows(x), w.T, out=y)
    _add_bias_(y, b)
    return y


def backward(dy: Floats, x: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Gradients of x, w and b."""
    _memory.require(dy, x, w)
    dx, dw, db = _memory.empty(x.shape), _memory.empty(w.shape), _memory.empty(w.shape[:1])
    np.matmul(dy, w, out=_rows(dx))
    np.matmul(dy.T, _rows(x), out=dw)
    _sum_rows(dy, db)
    return dx, dw, db


def _rows(x: Floats) -> Floats:
    return x.reshape(x.shape[0], prod(x.shape[1:]))


@kernel
def _add_bias_(y: Floats, b: Floats) -> None:
    for n in prange(y.shape[0]):
        for k in range(y.shape[1]):
            y[n, k] += b[k]


@kernel
def _sum_rows(dy: Floats, db: Floats) -> None:
    N, K = dy.shape
    for k in prange(K):
        db[k] = 0
        for n in range(N):
            db[k] += dy[n, k]
