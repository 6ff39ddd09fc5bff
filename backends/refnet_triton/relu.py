"""Rectified linear unit; see :mod:`refnet.ops.relu`. One pass over memory, BLOCK_I numbers in each program."""

from typing import Any

import torch
import triton
import triton.language as tl

from refnet_triton import _elementwise

Tensor = torch.Tensor


def forward(x: Tensor) -> Tensor:
    """Return the positive part of x: y, shaped like x."""
    return _elementwise.result(relu_forward, x)


def backward(dy: Tensor, y: Tensor) -> Tensor:
    """Return the gradient dx, shaped like y."""
    return _elementwise.result(relu_backward, dy, y)


def audited(backend: Any, x: Tensor) -> None:
    """Launch, for the audit, the kernels that a training step of the paper's network does not use."""
    backend.relu.backward(x, backend.relu.forward(x))


@triton.jit
def relu_forward(x, y, SIZE, BLOCK_I: tl.constexpr):
    """y = 0 where x <= 0, otherwise x."""
    # 1. The numbers (BLOCK_I,) that this program computes.
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    valid = i < SIZE
    # 2. Select, so that a NaN stays NaN; tl.maximum might replace it by 0.
    numbers = tl.load(x + i, mask=valid, other=0.0)
    tl.store(y + i, tl.where(numbers <= 0, 0.0, numbers), mask=valid)


@triton.jit
def relu_backward(dy, y, dx, SIZE, BLOCK_I: tl.constexpr):
    """dx = 0 where y <= 0, otherwise dy."""
    # 1. The numbers (BLOCK_I,) that this program computes.
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    valid = i < SIZE
    # 2. Where y is NaN, dx is dy.
    dys, ys = tl.load(dy + i, mask=valid, other=0.0), tl.load(y + i, mask=valid, other=0.0)
    tl.store(dx + i, tl.where(ys <= 0, 0.0, dys), mask=valid)
