"""Convolution and ReLU in one; see :mod:`refnet.ops.conv2d_relu`."""

import numpy as np
import numpy.typing as npt

from refnet_numba import conv2d, relu

Floats = npt.NDArray[np.float32]


def forward(x: Floats, w: Floats, b: Floats, *, stride: int, pad: int, ceil: bool = False) -> Floats:
    """Convolve and rectify."""
    return relu.forward(conv2d.forward(x, w, b, stride=stride, pad=pad, ceil=ceil))


def backward(
    dy: Floats, y: Floats, x: Floats, w: Floats, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Floats | None, Floats, Floats]:
    """Gradients of x (None unless asked for), w and b."""
    return conv2d.backward(relu.backward(dy, y), x, w, stride=stride, pad=pad, ceil=ceil, need_dx=need_dx)
