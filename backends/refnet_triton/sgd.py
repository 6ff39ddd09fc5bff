"""Stochastic gradient descent; see :mod:`refnet.ops.sgd`. One pass over memory and one launch for all parameters.

A program updates BLOCK_I numbers of one parameter. The grid has the blocks of all parameters, one after the other.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import triton
import triton.language as tl

from refnet_triton import _memory, _scalars
from refnet_triton._launch import Launch, cdiv, launch, table

Tensor = torch.Tensor

# The bytes that the kernel's programs read and write, see floor.py: w, v and g are read, w and v are written.
REQUESTED_BYTES: Mapping[str, Callable[[Launch], int]] = {
    "sgd_steps": lambda launch: 4 * 5 * sum(launch.constants["SIZES"]),
}

MAX_PARAMETERS = 64  # in one launch: their addresses are arguments, and a CUDA kernel takes at most 4 KiB of these


def step_(w: Tensor, v: Tensor, g: Tensor, *, lr: float, momentum: float, weight_decay: float) -> None:
    """Update one parameter w and its velocity v in place."""
    steps_([w], [v], [g], lr=lr, momentum=momentum, weight_decays=[weight_decay])


def steps_(
    w: list[Tensor], v: list[Tensor], g: list[Tensor], *, lr: float, momentum: float, weight_decays: Sequence[float]
) -> None:
    """Update every parameter in w and its velocity in v in place."""
    _memory.require(*w, *v, *g)
    for first in range(0, len(w), MAX_PARAMETERS):
        part = slice(first, first + MAX_PARAMETERS)
        _launch(tuple(w[part]), tuple(v[part]), tuple(g[part]), lr, momentum, weight_decays[part])


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
    # 1. Find the parameter p of this program: subtract the numbers of programs of the parameters before it.
    program = tl.program_id(0)
    for p in tl.static_range(len(SIZES)):
        programs = (SIZES[p] + BLOCK_I - 1) // BLOCK_I
        if (program >= 0) & (program < programs):
            # 2. This program belongs to parameter p: the numbers (BLOCK_I,) that it updates.
            i = program.to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
            valid = i < SIZES[p]
            weights = tl.load(w[p] + i, mask=valid, other=0.0)
            velocity = momentum * tl.load(v[p] + i, mask=valid, other=0.0)
            gradient = tl.load(g[p] + i, mask=valid, other=0.0)
            # 3. The velocity uses the weights before the update.
            velocity = velocity - tl.load(decays[p]) * weights - tl.load(lr) * gradient
            tl.store(v[p] + i, velocity, mask=valid)
            tl.store(w[p] + i, weights + velocity, mask=valid)
        program -= programs
