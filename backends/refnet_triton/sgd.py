"""Stochastic gradient descent; see :mod:`refnet.ops.sgd`. One pass over memory."""

import torch
import triton
import triton.language as tl

from refnet_triton import _elementwise, _memory, _scalars

Tensor = torch.Tensor


def step_(w: Tensor, v: Tensor, g: Tensor, *, lr: float, momentum: float, weight_decay: float) -> None:
    """Update w and v in place."""
    _memory.require(w, v, g)
    rate = _scalars.hold(_scalars.LR, float(lr), w.device)
    decay = _scalars.hold(_scalars.decay(weight_decay), float(weight_decay * lr), w.device)
    _elementwise.run(sgd_step, w, v, g, others=(rate, decay, float(momentum)))


@triton.jit(do_not_specialize=["momentum"])
def sgd_step(w, v, g, SIZE, lr, decay, momentum, BLOCK_I: tl.constexpr):
    """v = momentum v - decay w - lr g and w = w + v; decay is weight_decay * lr."""
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    some = i < SIZE
    lr, decay = tl.load(lr), tl.load(decay)
    weights = tl.load(w + i, mask=some, other=0.0)
    velocity = momentum * tl.load(v + i, mask=some, other=0.0)
    velocity = velocity - decay * weights - lr * tl.load(g + i, mask=some, other=0.0)
    tl.store(v + i, velocity, mask=some)
    tl.store(w + i, weights + velocity, mask=some)
