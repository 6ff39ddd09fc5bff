"""Stochastic gradient descent; see :mod:`refnet.ops.sgd`. One pass over memory."""

import torch
import triton
import triton.language as tl

from refnet_triton import _elementwise, _memory

Tensor = torch.Tensor


def step_(w: Tensor, v: Tensor, g: Tensor, *, lr: float, momentum: float, weight_decay: float) -> None:
    """Update w and v in place."""
    _memory.require(w, v, g)
    _elementwise.run(sgd_step, w, v, g, lr=lr, momentum=momentum, decay=weight_decay * lr)


@triton.jit(do_not_specialize=["lr", "momentum", "decay"])
def sgd_step(w, v, g, SIZE, lr, momentum, decay, BLOCK_I: tl.constexpr):
    """v = momentum v - decay w - lr g and w = w + v; decay is weight_decay * lr."""
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    some = i < SIZE
    weights = tl.load(w + i, mask=some, other=0.0)
    velocity = momentum * tl.load(v + i, mask=some, other=0.0)
    velocity = velocity - decay * weights - lr * tl.load(g + i, mask=some, other=0.0)
    tl.store(v + i, velocity, mask=some)
    tl.store(w + i, weights + velocity, mask=some)
