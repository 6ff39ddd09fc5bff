"""Softmax and cross-entropy; see :mod:`refnet.ops.softmax_xent`. A program holds whole rows."""

import torch
import triton
import triton.language as tl

from refnet_triton import _memory
from refnet_triton._configs import power_of_two
from refnet_triton._launch import cdiv, launch, table

Tensor = torch.Tensor


def forward(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and probabilities."""
    _memory.require(z, labels)
    losses, p, loss = (_memory.empty(shape, device=z.device) for shape in (labels.shape, tuple(z.shape), (1,)))
    _run(softmax_xent_forward, (z, labels, losses, p), tuple(z.shape))
    config = table(z).configs["mean"]
    launch(mean, (1,), losses, loss, losses.numel(), config=config, **config.fit(N=losses.numel()))
    return loss.view(()), p


def backward(p: Tensor, labels: Tensor) -> Tensor:
    """Gradient of z."""
    _memory.require(p, labels)
    dz = _memory.empty(tuple(p.shape), device=p.device)
    _run(softmax_xent_backward, (p, labels, dz), tuple(p.shape))
    return dz


def _run(kernel: triton.JITFunction, arrays: tuple[Tensor, ...], shape: tuple[int, ...]) -> None:
    N, K = shape
    config = table(arrays[0]).configs["softmax_xent"]
    blocks = {"BLOCK_N": min(config.blocks["BLOCK_N"], power_of_two(N)), "BLOCK_K": power_of_two(K)}
    launch(kernel, (cdiv(N, blocks["BLOCK_N"]),), *arrays, N, config=config, K=K, **blocks)


@triton.jit
def softmax_xent_forward(z, labels, losses, p, N, K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """p = exp(z - m) / their sum, loss = log of the sum - (z[label] - m), where m is the largest z of a row."""
    # 1. Rows (BLOCK_N,) and classes (BLOCK_K,); a class that does not exist has a score of minus infinity.
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    at = n[:, None] * K + k[None, :]
    some = (n < N)[:, None] & (k < K)[None, :]
    scores = tl.load(z + at, mask=some, other=float("-inf"))
    # 2. Shift and sum. A NaN need not win the maximum: it reaches the sum, and so every p of its row.
    largest = tl.max(scores, axis=1)
    e = tl.where((k < K)[None, :], tl.exp(scores - largest[:, None]), 0.0)
    total = tl.sum(e, axis=1)
    tl.store(p + at, e / total[:, None], mask=some)
    # 3. The loss of each row.
    label = tl.load(labels + n, mask=n < N, other=0)
    truth = tl.load(z + n * K + label, mask=n < N, other=0.0)
    tl.store(losses + n, tl.log(total) - (truth - largest), mask=n < N)


@triton.jit
def mean(losses, loss, N, BLOCK_N: tl.constexpr):
    """loss = the mean of the losses, added in one order by one program."""
    # 1. BLOCK_N losses at a time, each added to its place (BLOCK_N,).
    sums = tl.zeros((BLOCK_N,), tl.float32)
    for step in range((N - 1) // BLOCK_N + 1):
        n = step * BLOCK_N + tl.arange(0, BLOCK_N)
        sums += tl.load(losses + n, mask=n < N, other=0.0)
    # 2. The places together.
    tl.store(loss, tl.sum(sums, axis=0) / N)


@triton.jit
def softmax_xent_backward(p, labels, dz, N, K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """dz = (p - [k = label]) / N."""
    # 1. Rows (BLOCK_N,) and classes (BLOCK_K,).
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    at = n[:, None] * K + k[None, :]
    some = (n < N)[:, None] & (k < K)[None, :]
    # 2. Take 1 from the truth (BLOCK_N, BLOCK_K).
    label = tl.load(labels + n, mask=n < N, other=0)
    truth = (k[None, :] == label[:, None]).to(tl.float32)
    # 3. The mean's N. A plain division is off by two units on a GPU; the chapter's is rounded.
    count = tl.zeros((BLOCK_N, BLOCK_K), tl.float32) + N
    tl.store(dz + at, tl.div_rn(tl.load(p + at, mask=some, other=0.0) - truth, count), mask=some)
