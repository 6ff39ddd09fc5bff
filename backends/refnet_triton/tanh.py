"""Hyperbolic tangent; see :mod:`refnet.ops.tanh`. One pass over memory, BLOCK_I numbers in each program."""

from typing import Any

import torch
import triton
import triton.language as tl

from refnet_triton import _elementwise

Tensor = torch.Tensor


def forward(x: Tensor) -> Tensor:
    """Return tanh of x: y, shaped like x."""
    return _elementwise.result(tanh_forward, x)


def backward(dy: Tensor, y: Tensor) -> Tensor:
    """Return the gradient dx, shaped like y."""
    return _elementwise.result(tanh_backward, dy, y)


def audited(backend: Any, x: Tensor) -> None:
    """Launch, for the audit, the kernels that a training step of the paper's network does not use."""
    backend.tanh.backward(x, backend.tanh.forward(x))


@triton.jit
def tanh_forward(x, y, SIZE, BLOCK_I: tl.constexpr):
    """y = tanh(x), computed from e^-2|x|; but near 0, where 1 - e^-2|x| loses digits, from a series."""
    # 1. The numbers (BLOCK_I,) that this program computes.
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    valid = i < SIZE
    numbers = tl.load(x + i, mask=valid, other=0.0)
    # 2. Away from 0: (1 - e) / (1 + e) with e = e^-2|x|, which cannot overflow.
    size = tl.abs(numbers)
    e = tl.exp(-2 * size)
    far = (1 - e) / (1 + e)
    # 3. Near 0: tanh z = z - z^3/3 + 2 z^5/15 - 17 z^7/315 + 62 z^9/2835 - ...; below 1/4 the next term is
    #    less than 2^-28 of z.
    s = size * size
    series = ((((-1382 / 155925 * s + 62 / 2835) * s - 17 / 315) * s + 2 / 15) * s - 1 / 3) * s
    # 4. Restore the sign, including that of minus zero.
    y_abs = tl.where(size < 0.25, size + size * series, far)
    tl.store(y + i, tl.where(numbers < 0, -y_abs, tl.where(numbers == 0, numbers, y_abs)), mask=valid)


@triton.jit
def tanh_backward(dy, y, dx, SIZE, BLOCK_I: tl.constexpr):
    """dx = dy * (1 - y) * (1 + y)."""
    # 1. The numbers (BLOCK_I,) that this program computes.
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    valid = i < SIZE
    # 2. Two factors, whose product is accurate where 1 - y^2 is not.
    dys, ys = tl.load(dy + i, mask=valid, other=0.0), tl.load(y + i, mask=valid, other=0.0)
    tl.store(dx + i, dys * ((1 - ys) * (1 + ys)), mask=valid)
