"""Dropout; see :mod:`refnet.ops.dropout`. The mask is drawn in the kernel and never stored.

Arrays are seen as (N,F). A program computes BLOCK_N samples and 4 * BLOCK_B features, as for :mod:`.philox`.
"""

from math import prod
from typing import Any

import torch
import triton
import triton.language as tl

from refnet.ops.philox import Counter, Key
from refnet_triton import _elementwise, _memory
from refnet_triton._launch import launch
from refnet_triton._scalars import signed
from refnet_triton.philox import arguments, draw, grid

Tensor = torch.Tensor


def forward(x: Tensor, *, drop: float, key: Key, counter: Counter) -> Tensor:
    """Return x with units set to zero at random: y, shaped like x."""
    _memory.require(x)
    y = _memory.empty(tuple(x.shape), device=x.device)
    N, F = x.shape[0], prod(x.shape[1:])
    programs, config, blocks = grid(N, F, counter, x.device)
    threshold = signed(int(drop * 2**32))
    words = arguments(key, counter, x.device)
    launch(dropout_forward, programs, x, y, N, F, threshold, *words, config=config, **blocks)
    return y


def backward(dy: Tensor, *, drop: float, key: Key, counter: Counter) -> Tensor:
    """Return the gradient dx, shaped like dy: the same mask, drawn again."""
    return forward(dy, drop=drop, key=key, counter=counter)


def expected(x: Tensor, *, drop: float) -> Tensor:
    """Return the mean of ``forward`` over all masks, used at test time: y, shaped like x."""
    return _elementwise.result(dropout_expected, x, scalars=(float(1 - drop),))


def audited(backend: Any, x: Tensor) -> None:
    """Launch, for the audit, the kernels that a training step of the paper's network does not use."""
    backend.dropout.expected(x, drop=0.5)


@triton.jit(do_not_specialize=["threshold", "k0", "k1", "layer", "sample", "first"])
def dropout_forward(
    x, y, N, F, threshold, k0, k1, step, layer, sample, first,
    SKIP: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """y = x where the random word is at least the threshold, otherwise 0."""
    # 1. The words (BLOCK_N, 4*BLOCK_B) of this program's samples and features, and the indices of both: n and f.
    words, n, f = draw(k0, k1, step, layer, sample, first, SKIP, BLOCK_N, BLOCK_B)
    valid = (n < N) & (f >= 0) & (f < F)
    # 2. Keep, or set to zero.
    numbers = tl.load(x + n * F + f, mask=valid, other=0.0)
    tl.store(y + n * F + f, tl.where(words >= threshold.to(tl.uint32), numbers, 0.0), mask=valid)


@triton.jit(do_not_specialize=["factor"])
def dropout_expected(x, y, SIZE, factor, BLOCK_I: tl.constexpr):
    """y = factor * x."""
    # 1. The numbers (BLOCK_I,) that this program computes.
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    valid = i < SIZE
    # 2. Scale.
    tl.store(y + i, tl.load(x + i, mask=valid, other=0.0) * factor, mask=valid)
