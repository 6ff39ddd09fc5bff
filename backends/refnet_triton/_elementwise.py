"""Elementwise kernels: each result depends only on the numbers at the same index of the arguments.

Arrays are seen as flat. Program i computes the numbers from i * BLOCK_I on.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from refnet_triton import _memory
from refnet_triton._launch import cdiv, launch, table


def run(kernel: Any, *arrays: torch.Tensor, scalars: Sequence[Any] = ()) -> None:
    """Launch a kernel on arrays of one shape; its arguments are the arrays, their size, and the scalars."""
    size = arrays[0].numel()
    config = table(arrays[0]).configs["elementwise"]
    blocks = config.fit(I=size)
    launch(kernel, (cdiv(size, blocks["BLOCK_I"]),), *arrays, size, *scalars, config=config, **blocks)


def result(kernel: Any, *arrays: torch.Tensor, scalars: Sequence[Any] = ()) -> torch.Tensor:
    """Return the result of a kernel on arrays of one shape; the result has the same shape.

    The kernel's arguments are the arrays, the result, their size, and the scalars.
    """
    _memory.require(*arrays)
    y = _memory.empty(tuple(arrays[0].shape), device=arrays[0].device)
    run(kernel, *arrays, y, scalars=scalars)
    return y


@triton.jit
def add(a, b, total, SIZE, BLOCK_I: tl.constexpr):
    """total = a + b."""
    # 1. The numbers (BLOCK_I,) that this program computes.
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    valid = i < SIZE
    # 2. Add.
    tl.store(total + i, tl.load(a + i, mask=valid, other=0.0) + tl.load(b + i, mask=valid, other=0.0), mask=valid)
