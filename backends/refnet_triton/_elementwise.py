"""Kernels that treat every number alone, or beside those at the same place of other arrays."""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from refnet_triton import _memory
from refnet_triton._launch import cdiv, launch, table


def run(kernel: Any, *arrays: torch.Tensor, others: Sequence[Any] = ()) -> None:
    """Run a kernel over arrays of one shape; the kernel takes them, their size, and then the others."""
    size = arrays[0].numel()
    config = table(arrays[0]).configs["elementwise"]
    blocks = config.fit(I=size)
    launch(kernel, (cdiv(size, blocks["BLOCK_I"]),), *arrays, size, *others, config=config, **blocks)


def result(kernel: Any, *arrays: torch.Tensor, others: Sequence[Any] = ()) -> torch.Tensor:
    """Give what a kernel makes of arrays of one shape, in a fresh one; it takes that after them, then as `run` says."""
    _memory.require(*arrays)
    made = _memory.empty(tuple(arrays[0].shape), device=arrays[0].device)
    run(kernel, *arrays, made, others=others)
    return made


@triton.jit
def add(a, b, total, SIZE, BLOCK_I: tl.constexpr):
    """total = a + b: two gradients that meet."""
    # 1. The numbers (BLOCK_I,) of this program.
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    some = i < SIZE
    # 2. Add.
    tl.store(total + i, tl.load(a + i, mask=some, other=0.0) + tl.load(b + i, mask=some, other=0.0), mask=some)
