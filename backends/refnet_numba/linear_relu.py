"""Fully connected layer and ReLU in one; see :mod:`refnet.ops.linear_relu`."""

import numpy as np
import numpy.typing as npt

from refnet_numba import linear, relu

Floats = npt.NDArray[np.float32]


def forward(x: Floats, w: Floats, b: Floats) -> Floats:
    """Weigh, sum and rectify."""
    return relu.forward(linear.forward(x, w, b))


def backward(dy: Floats, y: Floats, x: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Gradients of x, w and b."""
    return linear.backward(relu.backward(dy, y), x, w)
