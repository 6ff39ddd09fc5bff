"""Hyperbolic tangent; see :mod:`refnet.ops.tanh`. One pass over memory."""

from math import tanh

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet_numba import _memory
from refnet_numba._jit import kernel

Floats = npt.NDArray[np.float32]


def forward(x: Floats) -> Floats:
    """Squash to (-1, 1)."""
    _memory.require(x)
    y = _memory.empty(x.shape)
    _forward(x.reshape(-1), y.reshape(-1))
    return y


def backward(dy: Floats, y: Floats) -> Floats:
    """Gradient of x."""
    _memory.require(dy, y)
    dx = _memory.empty(y.shape)
    _backward(dy.reshape(-1), y.reshape(-1), dx.reshape(-1))
    return dx


@kernel
def _forward(x: Floats, y: Floats) -> None:
    for i in prange(x.size):
        y[i] = tanh(x[i])


@kernel
def _backward(dy: Floats, y: Floats, dx: Floats) -> None:
    one = np.float32(1)
    for i in prange(y.size):
        dx[i] = dy[i] * ((one - y[i]) * (one + y[i]))
