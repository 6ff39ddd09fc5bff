"""Fully connected layer and ReLU as one operation; see :mod:`refnet.ops.linear_relu`. The kernels are linear's."""

import numpy as np
import numpy.typing as npt

from refnet_numba.linear import rectified_backward, rectified_forward

Floats = npt.NDArray[np.float32]


def forward(x: Floats, w: Floats, b: Floats) -> Floats:
    """Return ReLU of the weighted sums of the inputs, plus b: y (N,K)."""
    return rectified_forward(x, w, b, rectify=True)


def backward(dy: Floats, y: Floats, x: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the gradients dx, dw and db."""
    return rectified_backward(dy, y, x, w, rectified=True)
