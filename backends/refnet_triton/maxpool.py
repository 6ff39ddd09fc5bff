"""Max-pooling; see :mod:`refnet.ops.maxpool`.

In the backward pass each pixel of dx looks for the windows whose maximum it is, in a fixed order. So no two programs
add to the same number, and the bits are always the same.
"""

import torch
import triton
import triton.language as tl

from refnet.ops.maxpool import forward_shapes
from refnet_triton import _memory
from refnet_triton._launch import cdiv, launch, table

# Kernels whose narrow loads are allowed, with the reason's name in audit.py.
EXCUSES = {"maxpool_forward": "maps", "maxpool_backward": "maps"}

Tensor = torch.Tensor


def forward(x: Tensor, *, size: int, stride: int, ceil: bool = False) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window, y (N,C,P,Q), and its position in the window, which (uint8)."""
    _memory.require(x)
    shape, _ = forward_shapes(tuple(x.shape), size=size, stride=stride, ceil=ceil)
    y, which = _memory.empty(shape, device=x.device), _memory.empty(shape, torch.uint8, x.device)
    _run(maxpool_forward, (x, y, which), tuple(x.shape), shape, size, stride, shape[2] * shape[3])
    return y, which


def backward(
    dy: Tensor, which: Tensor, *, x_shape: tuple[int, ...], size: int, stride: int, ceil: bool = False
) -> Tensor:
    """Return the gradient dx (N,C,H,W), of shape `x_shape`."""
    _memory.require(dy, which)
    del ceil  # the shape of dy already tells it
    dx = _memory.empty(tuple(x_shape), device=dy.device)
    _run(maxpool_backward, (dy, which, dx), tuple(x_shape), tuple(dy.shape), size, stride, x_shape[2] * x_shape[3])
    return dx


def _run(
    kernel: triton.JITFunction, arrays: tuple[Tensor, ...], x: tuple[int, ...], y: tuple[int, ...], size: int,
    stride: int, pixels: int,
) -> None:  # fmt: skip
    """Launch a kernel with programs for groups of maps and for groups of the `pixels` in one map of the result."""
    maps = x[0] * x[1]
    config = table(arrays[0]).configs["maxpool"]
    blocks = config.fit(M=maps, I=pixels)
    launch(kernel, (cdiv(maps, blocks["BLOCK_M"]), cdiv(pixels, blocks["BLOCK_I"])), *arrays, maps, config=config,
           H=x[2], W=x[3], P=y[2], Q=y[3], LENGTH=size, STRIDE=stride, **blocks)  # fmt: skip


@triton.jit
def maxpool_forward(
    x, y, which, MAPS,
    H: tl.constexpr, W: tl.constexpr, P: tl.constexpr, Q: tl.constexpr, LENGTH: tl.constexpr, STRIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """Write the largest pixel of each window and its position: the first NaN, or else the first of equal maxima."""
    # 1. Maps (BLOCK_M, 1) and the windows (1, BLOCK_I) in them.
    m = (tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    i = (tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I))[None, :]
    valid = (m < MAPS) & (i < P * Q)
    top, left = i // Q * STRIDE, i % Q * STRIDE
    # 2. The first pixel of a window always exists; the others challenge it in row-major order.
    corner = x + m * (H * W) + top * W + left
    best = tl.load(corner, mask=valid, other=0.0)
    at = tl.zeros((BLOCK_M, BLOCK_I), tl.int32)
    for tap in tl.static_range(1, LENGTH * LENGTH):
        inside = valid & (top + tap // LENGTH < H) & (left + tap % LENGTH < W)
        pixel = tl.load(corner + (tap // LENGTH * W + tap % LENGTH), mask=inside, other=float("-inf"))
        wins = (pixel > best) | ((pixel != pixel) & (best == best))  # noqa: PLR0124 - NaN
        best, at = tl.where(wins, pixel, best), tl.where(wins, tap, at)
    # 3. Store the maxima and their positions.
    tl.store(y + m * (P * Q) + i, best, mask=valid)
    tl.store(which + m * (P * Q) + i, at.to(tl.uint8), mask=valid)


@triton.jit
def maxpool_backward(
    dy, which, dx, MAPS,
    H: tl.constexpr, W: tl.constexpr, P: tl.constexpr, Q: tl.constexpr, LENGTH: tl.constexpr, STRIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """Write dx: for each pixel, the sum of dy over the windows whose maximum it is."""
    # 1. Maps (BLOCK_M, 1) and the pixels (1, BLOCK_I) in them.
    m = (tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    pixel = (tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I))[None, :]
    valid = (m < MAPS) & (pixel < H * W)
    i, j = pixel // W, pixel % W
    # 2. Its positions (r, s) in windows, in row-major order: from the last window that contains it backwards.
    total = tl.zeros((BLOCK_M, BLOCK_I), tl.float32)
    for down in tl.static_range((LENGTH + STRIDE - 1) // STRIDE):
        p, r = i // STRIDE - down, i % STRIDE + down * STRIDE
        for right in tl.static_range((LENGTH + STRIDE - 1) // STRIDE):
            q, s = j // STRIDE - right, j % STRIDE + right * STRIDE
            holds = valid & (p >= 0) & (p < P) & (r < LENGTH) & (q >= 0) & (q < Q) & (s < LENGTH)
            at = m * (P * Q) + p * Q + q
            won = holds & (tl.load(which + at, mask=holds, other=255) == r * LENGTH + s)
            total += tl.load(dy + at, mask=won, other=0.0)
    # 3. Store the sums.
    tl.store(dx + m * (H * W) + pixel, total, mask=valid)
