"""Softmax and cross-entropy; see :mod:`refnet.ops.softmax_xent`. A program computes BLOCK_N whole rows of z (N,K)."""

import torch
import triton
import triton.language as tl

from refnet_triton import _memory
from refnet_triton._configs import power_of_two
from refnet_triton._launch import cdiv, launch, table

Tensor = torch.Tensor


def forward(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss, a scalar (0-d array), and the probabilities p (N,K)."""
    _memory.require(z, labels)
    losses, p, loss = (_memory.empty(shape, device=z.device) for shape in (labels.shape, tuple(z.shape), (1,)))
    _run(softmax_xent_forward, (z, labels, losses, p), tuple(z.shape))
    config = table(z).configs["mean"]
    launch(mean, (1,), losses, loss, losses.numel(), config=config, **config.fit(N=losses.numel()))
    return loss.view(()), p


def backward(p: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient dz (N,K)."""
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
    # 1. Rows (BLOCK_N,) and classes (BLOCK_K,); a class that does not exist gets a score of minus infinity.
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    at = n[:, None] * K + k[None, :]
    valid = (n < N)[:, None] & (k < K)[None, :]
    scores = tl.load(z + at, mask=valid, other=float("-inf"))
    # 2. Shift and sum. tl.max may ignore a NaN, but the sum does not, so that every p of its row is NaN.
    largest = tl.max(scores, axis=1)
    e = tl.where((k < K)[None, :], tl.exp(scores - largest[:, None]), 0.0)
    total = tl.sum(e, axis=1)
    tl.store(p + at, e / total[:, None], mask=valid)
    # 3. The loss of each row.
    label = tl.load(labels + n, mask=n < N, other=0)
    correct = tl.load(z + n * K + label, mask=n < N, other=0.0)
    tl.store(losses + n, tl.log(total) - (correct - largest), mask=n < N)


@triton.jit
def mean(losses, loss, N, BLOCK_N: tl.constexpr):
    """loss = the mean of the losses, added in one order by one program."""
    # 1. BLOCK_N partial sums: every BLOCK_N-th loss goes to the same one.
    sums = tl.zeros((BLOCK_N,), tl.float32)
    for step in range((N - 1) // BLOCK_N + 1):
        n = step * BLOCK_N + tl.arange(0, BLOCK_N)
        sums += tl.load(losses + n, mask=n < N, other=0.0)
    # 2. Add the partial sums.
    tl.store(loss, tl.sum(sums, axis=0) / N)


@triton.jit
def softmax_xent_backward(p, labels, dz, N, K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """dz = (p - [k = label]) / N."""
    # 1. Rows (BLOCK_N,) and classes (BLOCK_K,).
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    at = n[:, None] * K + k[None, :]
    valid = (n < N)[:, None] & (k < K)[None, :]
    # 2. 1 for the correct class of each row, otherwise 0 (BLOCK_N, BLOCK_K).
    label = tl.load(labels + n, mask=n < N, other=0)
    correct = (k[None, :] == label[:, None]).to(tl.float32)
    # 3. Divide by N, rounded correctly as in the chapter. A plain division on a GPU may be off by two units in the
    #    last place.
    count = tl.zeros((BLOCK_N, BLOCK_K), tl.float32) + N
    tl.store(dz + at, tl.div_rn(tl.load(p + at, mask=valid, other=0.0) - correct, count), mask=valid)
