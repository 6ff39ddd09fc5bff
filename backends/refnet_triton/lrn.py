"""Local response normalisation; see :mod:`refnet.ops.lrn`.

A program computes BLOCK_C maps at BLOCK_M pixels, which are numbered through all images: grid (blocks of pixels, blocks
of maps). It reads all maps of its windows. Neighbouring programs read the same maps, so most of these reads are served
by the cache, and memory is read about once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from refnet_triton import _memory
from refnet_triton._launch import Launch, cdiv, launch, table
from refnet_triton._layout import wide

# Kernels that may have narrow loads, each with its reason: a key of audit.REASONS.
EXCUSES = {"lrn_forward": "maps", "lrn_backward": "maps"}

# The bytes that each kernel's programs read and write, counting whole blocks and no cache; see floor.py. Forward: the
# window, x again, y and scale. Backward: three windows, dy, scale, x and dx.
REQUESTED_BYTES: Mapping[str, Callable[[Launch], int]] = {
    "lrn_forward": lambda launch: 4 * launch.numel("x") * (2 * launch.constants["HALF"] + 1 + 3),
    "lrn_backward": lambda launch: 4 * launch.numel("x") * (3 * (2 * launch.constants["HALF"] + 1) + 4),
}

Tensor = torch.Tensor


def forward(x: Tensor, *, n: int, k: float, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """Return the normalised x and its scale: y and scale, both shaped like x."""
    _memory.require(x)
    y, scale = (_memory.empty(tuple(x.shape), device=x.device) for _ in range(2))
    _run(lrn_forward, (x, y, scale), (k, alpha, beta), n, beta)
    return y, scale


def backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    *,
    n: int,
    k: float,  # noqa: ARG001 - already in scale
    alpha: float,
    beta: float,
) -> Tensor:
    """Return the gradient dx, shaped like x."""
    _memory.require(dy, x, y, scale)
    dx = _memory.empty(tuple(x.shape), device=x.device)
    _run(lrn_backward, (dy, x, y, scale, dx), (2 * alpha * beta, beta), n, beta)
    return dx


def _run(kernel: triton.JITFunction, arrays: tuple[Tensor, ...], rates: tuple[float, ...], n: int, beta: float) -> None:
    N, C, H, W = arrays[0].shape
    config = table(arrays[0]).configs["lrn"]
    blocks = config.fit(M=N * H * W, C=C)
    programs = (cdiv(N * H * W, blocks["BLOCK_M"]), cdiv(C, blocks["BLOCK_C"]))
    # The paper's beta is 3/4: a power that needs only square roots.
    launch(kernel, programs, *arrays, N * H * W, *map(float, rates), config=config,
           C=C, HW=H * W, HALF=n // 2, ROOTS=beta == 0.75, **blocks)  # fmt: skip


def audited(backend: Any, x: Tensor) -> None:
    """Launch, for the audit, the kernels that a training step of the paper's network does not use."""
    options = {"n": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.5}  # a beta for which two roots do not do
    backend.lrn.backward(x, x, *backend.lrn.forward(x, **options), **options)


@triton.jit
def power(scale, beta, ROOTS: tl.constexpr):
    """Return scale^-beta; if ROOTS, beta is 3/4."""
    return 1 / (tl.sqrt(scale) * tl.sqrt(tl.sqrt(scale))) if ROOTS else tl.exp2(-beta * tl.log2(scale))


@triton.jit
def offsets(M, C: tl.constexpr, HW: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    """Return maps (BLOCK_C, 1), offsets of their pixels (BLOCK_C, BLOCK_M), and which pixels exist (1, BLOCK_M)."""
    m = wide(tl.program_id(0), M) * BLOCK_M + tl.arange(0, BLOCK_M)
    c = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C))[:, None]
    at = ((m // HW).to(tl.int64) * (C * HW) + m % HW)[None, :] + c.to(tl.int64) * HW
    return c, at, (m < M)[None, :]


@triton.jit(do_not_specialize=["k", "alpha", "beta"])
def lrn_forward(
    x, y, scale, M, k, alpha, beta,
    C: tl.constexpr, HW: tl.constexpr, HALF: tl.constexpr, ROOTS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """scale = k + alpha * the sum of x² over the window, y = x * scale^-beta."""
    # 1. The maps and pixels that this program computes.
    c, at, exists = offsets(M, C, HW, BLOCK_M, BLOCK_C)
    # 2. Sum over the window; maps before the first and after the last count as zero.
    squares = tl.zeros((BLOCK_C, BLOCK_M), tl.float32)
    for shift in tl.static_range(-HALF, HALF + 1):
        neighbour = tl.load(x + at + shift * HW, mask=exists & (c + shift >= 0) & (c + shift < C), other=0.0)
        squares += neighbour * neighbour
    scales = k + alpha * squares
    # 3. Multiply by scale^-beta.
    valid = exists & (c < C)
    tl.store(scale + at, scales, mask=valid)
    tl.store(y + at, tl.load(x + at, mask=valid, other=0.0) * power(scales, beta, ROOTS), mask=valid)


@triton.jit(do_not_specialize=["factor", "beta"])
def lrn_backward(
    dy, x, y, scale, dx, M, factor, beta,
    C: tl.constexpr, HW: tl.constexpr, HALF: tl.constexpr, ROOTS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """dx = dy * scale^-beta - factor * x * the sum of dy y / scale over the window; factor is 2 alpha beta."""
    # 1. The maps and pixels that this program computes.
    c, at, exists = offsets(M, C, HW, BLOCK_M, BLOCK_C)
    # 2. Sum dy y / scale over the maps whose scale depends on this x.
    ratios = tl.zeros((BLOCK_C, BLOCK_M), tl.float32)
    for shift in tl.static_range(-HALF, HALF + 1):
        near, valid = at + shift * HW, exists & (c + shift >= 0) & (c + shift < C)
        dys = tl.load(dy + near, mask=valid, other=0.0)
        ratios += dys * tl.load(y + near, mask=valid, other=0.0) / tl.load(scale + near, mask=valid, other=1.0)
    # 3. Subtract the sum's term from dy * scale^-beta.
    valid = exists & (c < C)
    direct = tl.load(dy + at, mask=valid, other=0.0) * power(tl.load(scale + at, mask=valid, other=1.0), beta, ROOTS)
    tl.store(dx + at, direct - factor * tl.load(x + at, mask=valid, other=0.0) * ratios, mask=valid)
