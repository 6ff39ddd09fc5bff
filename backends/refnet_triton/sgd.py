"""Stochastic gradient descent; see :mod:`refnet.ops.sgd`. One pass over memory and one launch, for all parameters."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from refnet_triton import _memory, _scalars
from refnet_triton._launch import cdiv, launch, table

Tensor = torch.Tensor

MANY = 64  # parameters of a launch: their addresses are arguments, of which CUDA grants a kernel 4 KiB


def step_(w: Tensor, v: Tensor, g: Tensor, *, lr: float, momentum: float, weight_decay: float) -> None:
    """Update w and v in place."""
    steps_([w], [v], [g], lr=lr, momentum=momentum, weight_decays=[weight_decay])


def steps_(
    w: list[Tensor], v: list[Tensor], g: list[Tensor], *, lr: float, momentum: float, weight_decays: Sequence[float]
) -> None:
    """Update each w and v in place."""
    _memory.require(*w, *v, *g)
    for first in range(0, len(w), MANY):
        some = slice(first, first + MANY)
        _launch(tuple(w[some]), tuple(v[some]), tuple(g[some]), lr, momentum, weight_decays[some])


def _launch(
    w: tuple[Tensor, ...], v: tuple[Tensor, ...], g: tuple[Tensor, ...],
    lr: float, momentum: float, weight_decays: Sequence[float],
) -> None:  # fmt: skip
    device = w[0].device
    rate = _scalars.hold(_scalars.LR, float(lr), device)
    decays = tuple(_scalars.hold(_scalars.decay(decay), float(decay * lr), device) for decay in weight_decays)
    sizes = tuple(a.numel() for a in w)
    config = table(device).configs["elementwise"]
    blocks = config.fit(I=max(sizes))
    programs = sum(cdiv(size, blocks["BLOCK_I"]) for size in sizes)
    launch(sgd_steps, (programs,), w, v, g, rate, decays, float(momentum), config=config, SIZES=sizes, **blocks)


@triton.jit(do_not_specialize=["momentum"])
def sgd_steps(w, v, g, lr, decays, momentum, SIZES: tl.constexpr, BLOCK_I: tl.constexpr):
    """v = momentum v - decay w - lr g and w = w + v, in each parameter; decay is weight_decay * lr."""
    # 1. Programs are counted through the parameters: this one's number becomes its number in each of them.
    program = tl.program_id(0)
    for p in tl.static_range(len(SIZES)):
        programs = (SIZES[p] + BLOCK_I - 1) // BLOCK_I
        if (program >= 0) & (program < programs):
            # 2. It lies in this one: its numbers (BLOCK_I,).
            i = program.to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
            some = i < SIZES[p]
            weights = tl.load(w[p] + i, mask=some, other=0.0)
            velocity = momentum * tl.load(v[p] + i, mask=some, other=0.0)
            gradient = tl.load(g[p] + i, mask=some, other=0.0)
            # 3. Both terms read the old weights.
            velocity = velocity - tl.load(decays[p]) * weights - tl.load(lr) * gradient
            tl.store(v[p] + i, velocity, mask=some)
            tl.store(w[p] + i, weights + velocity, mask=some)
        program -= programs
