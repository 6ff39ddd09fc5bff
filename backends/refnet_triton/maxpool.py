"""Max-pooling; see :mod:`refnet.ops.maxpool`.

A program computes BLOCK_I windows (backward: pixels of dx) of BLOCK_M feature maps: grid (blocks of maps, blocks of
windows or pixels). In the backward pass each pixel adds dy of the windows whose maximum it is, in a fixed order. So no
two programs add to the same number, and the bits are always the same.
"""

from collections.abc import Callable, Mapping

import torch
import triton
import triton.language as tl

from refnet.ops.maxpool import forward_shapes
from refnet_triton import _memory
from refnet_triton._launch import Launch, cdiv, launch, table

# Kernels that may have narrow loads, each with its reason: a key of audit.REASONS.
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
    kernel: triton.JITFunction, arrays: tuple[Tensor, ...], x_shape: tuple[int, ...], y_shape: tuple[int, ...],
    size: int, stride: int, pixels: int,
) -> None:  # fmt: skip
    """Launch a kernel with one program for each block of maps and each block of the `pixels` in a map of the result."""
    maps = x_shape[0] * x_shape[1]
    config = table(arrays[0]).configs["maxpool"]
    blocks = config.fit(M=maps, I=pixels)
    launch(kernel, (cdiv(maps, blocks["BLOCK_M"]), cdiv(pixels, blocks["BLOCK_I"])), *arrays, maps, config=config,
           H=x_shape[2], W=x_shape[3], P=y_shape[2], Q=y_shape[3], LENGTH=size, STRIDE=stride, **blocks)  # fmt: skip


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
    # 2. The first pixel of a window always exists; the others are compared with the largest so far, in row-major order.
    corner = x + m * (H * W) + top * W + left
    largest = tl.load(corner, mask=valid, other=0.0)
    position = tl.zeros((BLOCK_M, BLOCK_I), tl.int32)
    for tap in tl.static_range(1, LENGTH * LENGTH):
        inside = valid & (top + tap // LENGTH < H) & (left + tap % LENGTH < W)
        pixel = tl.load(corner + (tap // LENGTH * W + tap % LENGTH), mask=inside, other=float("-inf"))
        wins = (pixel > largest) | ((pixel != pixel) & (largest == largest))  # noqa: PLR0124 - NaN is the largest
        largest, position = tl.where(wins, pixel, largest), tl.where(wins, tap, position)
    # 3. Store the maxima and their positions.
    tl.store(y + m * (P * Q) + i, largest, mask=valid)
    tl.store(which + m * (P * Q) + i, position.to(tl.uint8), mask=valid)


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
    # 2. Windows (p, q) that contain the pixel, from the last to the first; the pixel is at (r, s) in the window.
    total = tl.zeros((BLOCK_M, BLOCK_I), tl.float32)
    for down in tl.static_range((LENGTH + STRIDE - 1) // STRIDE):
        p, r = i // STRIDE - down, i % STRIDE + down * STRIDE
        for right in tl.static_range((LENGTH + STRIDE - 1) // STRIDE):
            q, s = j // STRIDE - right, j % STRIDE + right * STRIDE
            contains = valid & (p >= 0) & (p < P) & (r < LENGTH) & (q >= 0) & (q < Q) & (s < LENGTH)
            at = m * (P * Q) + p * Q + q
            is_maximum = contains & (tl.load(which + at, mask=contains, other=255) == r * LENGTH + s)
            total += tl.load(dy + at, mask=is_maximum, other=0.0)
    # 3. Store the sums.
    tl.store(dx + m * (H * W) + pixel, total, mask=valid)


def _requested_by_forward(launch: Launch) -> int:
    pixels = launch.constants["LENGTH"] ** 2
    return int(launch.numel("y") * (4 * pixels + 4 + 1))  # the window; y and which


def _requested_by_backward(launch: Launch) -> int:
    windows = cdiv(launch.constants["LENGTH"], launch.constants["STRIDE"]) ** 2
    # Each pixel reads the maximum's position in all windows that may contain it, and about one dy.
    return int(launch.numel("dx") * (windows + 4) + 4 * launch.numel("dy"))


# The bytes that each kernel's programs read and write, counting whole blocks and no cache; see floor.py.
REQUESTED_BYTES: Mapping[str, Callable[[Launch], int]] = {
    "maxpool_forward": _requested_by_forward,
    "maxpool_backward": _requested_by_backward,
}
