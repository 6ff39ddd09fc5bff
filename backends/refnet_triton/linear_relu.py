"""Fully connected layer and ReLU as one operation; see :mod:`refnet.ops.linear_relu`."""

import torch

from refnet_triton import linear, relu

Tensor = torch.Tensor


def forward(x: Tensor, w: Tensor, b: Tensor, *, precision: str) -> Tensor:
    """Return ReLU of the weighted sums of the inputs, plus b: y (N,K)."""
    return linear.connect(x, w, b, relu=True, precision=precision)


def backward(dy: Tensor, y: Tensor, x: Tensor, w: Tensor, *, precision: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients dx, dw and db.

    ReLU's gradient is a separate pass over dy, which costs little because dy is small compared with w.
    """
    return linear.backward(relu.backward(dy, y), x, w, precision=precision)
