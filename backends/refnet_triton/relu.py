"""Rectified linear unit; see :mod:`refnet.ops.relu`. One pass over memory."""

from typing import Any

import torch
import triton
import triton.language as tl

from refnet_triton import _elementwise

Tensor = torch.Tensor


def forward(x: Tensor) -> Tensor:
    """Rectify."""
    return _elementwise.result(relu_forward, x)


def backward(dy: Tensor, y: Tensor) -> Tensor:
    """Gradient of x."""
    return _elementwise.result(relu_backward, dy, y)


def audited(backend: Any, x: Tensor) -> None:
    """Launch, for the audit, what a training step of the paper's network does not."""
    backend.relu.backward(x, backend.relu.forward(x))


@triton.jit
def relu_forward(x, y, SIZE, BLOCK_I: tl.constexpr):
    """y = 0 where x <= 0, otherwise x."""
    # 1. The numbers (BLOCK_I,) of this program.
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    some = i < SIZE
    # 2. "Otherwise" lets a NaN through, which a maximum might not.
    numbers = tl.load(x + i, mask=some, other=0.0)
    tl.store(y + i, tl.where(numbers <= 0, 0.0, numbers), mask=some)


@triton.jit
def relu_backward(dy, y, dx, SIZE, BLOCK_I: tl.constexpr):
    """dx = 0 where y <= 0, otherwise dy."""
    # 1. The numbers (BLOCK_I,) of this program.
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    some = i < SIZE
    # 2. A NaN in y lets every dy through.
    up, out = tl.load(dy + i, mask=some, other=0.0), tl.load(y + i, mask=some, other=0.0)
    tl.store(dx + i, tl.where(out <= 0, 0.0, up), mask=some)
