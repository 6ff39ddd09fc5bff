"""Convolution and ReLU as one operation; see :mod:`refnet.ops.conv2d_relu`. ReLU is applied before sums are stored."""

import torch

from refnet_triton import conv2d

Tensor = torch.Tensor


def forward(x: Tensor, w: Tensor, b: Tensor, *, stride: int, pad: int, ceil: bool = False, precision: str) -> Tensor:
    """Return ReLU of the convolution of x with w, plus b: y (N,K,P,Q)."""
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
    """Return the gradients dx (None if ``need_dx=False``), dw and db."""
    del ceil  # the shape of dy already tells it
    return conv2d.gradients(dy, y, x, w, stride, pad, need_dx=need_dx, precision=precision)
