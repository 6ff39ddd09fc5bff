"""Fully connected layer and ReLU in one; see :mod:`refnet.ops.linear_relu`. Sums are rectified before they are kept."""

import torch

from refnet_triton import linear, relu

Tensor = torch.Tensor


def forward(x: Tensor, w: Tensor, b: Tensor, *, precision: str) -> Tensor:
    """Weigh, sum and rectify."""
    return linear.connect(x, w, b, relu=True, precision=precision)


def backward(dy: Tensor, y: Tensor, x: Tensor, w: Tensor, *, precision: str) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, w and b. Beside w, dy is so small that its way through ReLU is a pass of its own."""
    return linear.backward(relu.backward(dy, y), x, w, precision=precision)
