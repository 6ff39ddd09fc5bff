"""Rectified linear unit; see :mod:`refnet.ops.relu`. One pass over memory, divided among all threads."""

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet_numba import _elementwise
from refnet_numba._jit import kernel

Floats = npt.NDArray[np.float32]


def forward(x: Floats) -> Floats:
    """Return the positive part of x: y, shaped like x."""
    return _elementwise.run(_forward, x)


def backward(dy: Floats, y: Floats) -> Floats:
    """Return the gradient dx, shaped like y."""
    return _elementwise.run(_backward, dy, y)


@kernel
def _forward(x: Floats, y: Floats) -> None:
    for i in prange(x.size):
        y[i] = np.float32(0) if x[i] <= 0 else x[i]


@kernel
def _backward(dy: Floats, y: Floats, dx: Floats) -> None:
    for i in prange(y.size):
        dx[i] = np.float32(0) if y[i] <= 0 else dy[i]
