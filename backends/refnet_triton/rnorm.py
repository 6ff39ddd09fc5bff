"""Response normalisation within a map; see :mod:`refnet.ops.rnorm`.

A program computes BLOCK_I pixels of BLOCK_M feature maps: grid (blocks of maps, blocks of pixels). It reads the whole
window of each pixel. Neighbouring pixels read mostly the same numbers, so most of these reads are served by the cache.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from refnet_triton import _memory
from refnet_triton._launch import Launch, cdiv, launch, table
from refnet_triton.lrn import power

# Kernels that may have narrow loads, each with its reason: a key of audit.REASONS.
EXCUSES = {"rnorm_forward": "maps", "rnorm_backward": "maps"}

# The bytes that each kernel's programs read and write, counting whole blocks and no cache; see floor.py. Forward: the
# window, x again, y and scale. Backward: three windows, dy, scale, x and dx.
REQUESTED_BYTES: Mapping[str, Callable[[Launch], int]] = {
    "rnorm_forward": lambda launch: 4 * launch.numel("x") * ((2 * launch.constants["HALF"] + 1) ** 2 + 3),
    "rnorm_backward": lambda launch: 4 * launch.numel("x") * (3 * (2 * launch.constants["HALF"] + 1) ** 2 + 4),
}

Tensor = torch.Tensor


def forward(x: Tensor, *, n: int, k: float, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """Return the normalised x and its scale: y and scale, both shaped like x."""
    _memory.require(x)
    y, scale = (_memory.empty(tuple(x.shape), device=x.device) for _ in range(2))
    _run(rnorm_forward, (x, y, scale), (k, alpha, beta), n, beta)
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
    _run(rnorm_backward, (dy, x, y, scale, dx), (2 * alpha * beta, beta), n, beta)
    return dx


def _run(kernel: triton.JITFunction, arrays: tuple[Tensor, ...], rates: tuple[float, ...], n: int, beta: float) -> None:
    N, C, H, W = arrays[0].shape
    config = table(arrays[0]).configs["maxpool"]  # its windows, too, are read in place
    blocks = config.fit(M=N * C, I=H * W)
    programs = (cdiv(N * C, blocks["BLOCK_M"]), cdiv(H * W, blocks["BLOCK_I"]))
    # The usual beta is 3/4: a power that needs only square roots. A window need not be larger than the map.
    launch(kernel, programs, *arrays, N * C, *map(float, rates), config=config,
           H=H, W=W, HALF=min(n // 2, max(H, W)), ROOTS=beta == 0.75, **blocks)  # fmt: skip


def audited(backend: Any, x: Tensor) -> None:
    """Launch, for the audit, both kernels, which a training step of the paper's network does not use."""
    for beta in (0.75, 0.5):  # with square roots, and without
        options = {"n": 5, "k": 1.0, "alpha": 4e-5, "beta": beta}
        backend.rnorm.backward(x, x, *backend.rnorm.forward(x, **options), **options)


@triton.jit
def pixels(MAPS, H: tl.constexpr, W: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_I: tl.constexpr):
    """Return rows and columns of pixels (1, BLOCK_I), their offsets (BLOCK_M, BLOCK_I), and which of them exist."""
    m = (tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    pixel = (tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I))[None, :]
    return pixel // W, pixel % W, m * (H * W) + pixel, (m < MAPS) & (pixel < H * W)


@triton.jit(do_not_specialize=["k", "alpha", "beta"])
def rnorm_forward(
    x, y, scale, MAPS, k, alpha, beta,
    H: tl.constexpr, W: tl.constexpr, HALF: tl.constexpr, ROOTS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """scale = k + alpha * the sum of x² over the window, y = x * scale^-beta."""
    # 1. The maps and pixels that this program computes.
    i, j, at, valid = pixels(MAPS, H, W, BLOCK_M, BLOCK_I)
    # 2. Sum over the window; pixels beyond the edge count as zero.
    squares = tl.zeros((BLOCK_M, BLOCK_I), tl.float32)
    for down in range(-HALF, HALF + 1):
        for right in range(-HALF, HALF + 1):
            inside = valid & (i + down >= 0) & (i + down < H) & (j + right >= 0) & (j + right < W)
            neighbour = tl.load(x + at + down * W + right, mask=inside, other=0.0)
            squares += neighbour * neighbour
    scales = k + alpha * squares
    # 3. Multiply by scale^-beta.
    tl.store(scale + at, scales, mask=valid)
    tl.store(y + at, tl.load(x + at, mask=valid, other=0.0) * power(scales, beta, ROOTS), mask=valid)


@triton.jit(do_not_specialize=["factor", "beta"])
def rnorm_backward(
    dy, x, y, scale, dx, MAPS, factor, beta,
    H: tl.constexpr, W: tl.constexpr, HALF: tl.constexpr, ROOTS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """dx = dy * scale^-beta - factor * x * the sum of dy y / scale over the window; factor is 2 alpha beta."""
    # 1. The maps and pixels that this program computes.
    i, j, at, valid = pixels(MAPS, H, W, BLOCK_M, BLOCK_I)
    # 2. Sum dy y / scale over the pixels whose scale depends on this x.
    ratios = tl.zeros((BLOCK_M, BLOCK_I), tl.float32)
    for down in range(-HALF, HALF + 1):
        for right in range(-HALF, HALF + 1):
            inside = valid & (i + down >= 0) & (i + down < H) & (j + right >= 0) & (j + right < W)
            near = at + down * W + right
            dys = tl.load(dy + near, mask=inside, other=0.0)
            ratios += dys * tl.load(y + near, mask=inside, other=0.0) / tl.load(scale + near, mask=inside, other=1.0)
    # 3. Subtract the sum's term from dy * scale^-beta.
    direct = tl.load(dy + at, mask=valid, other=0.0) * power(tl.load(scale + at, mask=valid, other=1.0), beta, ROOTS)
    tl.store(dx + at, direct - factor * tl.load(x + at, mask=valid, other=0.0) * ratios, mask=valid)
