"""Convolution and ReLU in one; see :mod:`refnet.ops.conv2d_relu`. Sums are rectified before they are stored."""

import torch

from refnet_triton import conv2d

Tensor = torch.Tensor


def forward(x: Tensor, w: Tensor, b: Tensor, *, stride: int, pad: int, ceil: bool = False, precision: str) -> Tensor:
    """Convolve and rectify."""
    return conv2d.convolve(x, w, b, stride, pad, ceil=ceil, relu=True, precision=precision)


def backward(
    dy: Tensor,
    y: Tensor,
    x: Tensor,
    w: Tensor,
    *,
    stride: int,
    pad: int,
    ceil: bool = False,
    need_dx: bool = True,
    precision: str,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of x (None unless asked for), w and b."""
    del ceil  # the shape of dy says it all
    return conv2d.gradients(dy, y, x, w, stride, pad, need_dx=need_dx, precision=precision)
