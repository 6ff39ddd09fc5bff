"""Convolution and ReLU as one operation; see :mod:`refnet.ops.conv2d_relu`. The kernels are those of conv2d."""

import numpy as np
import numpy.typing as npt

from refnet_numba.conv2d import rectified_backward, rectified_forward

Floats = npt.NDArray[np.float32]


def forward(x: Floats, w: Floats, b: Floats, *, stride: int, pad: int, ceil: bool = False) -> Floats:
    """Return ReLU of the convolution of x with w, plus b: y (N,K,P,Q)."""
    return rectified_forward(x, w, b, stride, pad, ceil, rectify=True)


def backward(
    dy: Floats, y: Floats, x: Floats, w: Floats, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Floats | None, Floats, Floats]:
    """Return the gradients dx (None if ``need_dx=False``), dw and db."""
    del ceil  # the shape of dy already tells it
    return rectified_backward(dy, y, x, w, stride, pad, need_dx, rectified=True)
