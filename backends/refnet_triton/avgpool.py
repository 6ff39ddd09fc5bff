"""Average pooling; see :mod:`refnet.ops.avgpool`.

A program computes BLOCK_I windows (backward: pixels of dx) of BLOCK_M feature maps: grid (blocks of maps, blocks of
windows or pixels). In the backward pass each pixel adds its shares of dy of the windows that contain it, in the order
that the chapter fixes. So no two programs add to the same number.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from refnet.ops.avgpool import forward_shapes
from refnet_triton import _memory
from refnet_triton._launch import Launch, cdiv, launch, table

# Kernels that may have narrow loads, each with its reason: a key of audit.REASONS.
EXCUSES = {"avgpool_forward": "maps", "avgpool_backward": "maps"}

Tensor = torch.Tensor


def forward(x: Tensor, *, size: int, stride: int, ceil: bool = False) -> Tensor:
    """Return the mean of each window, y (N,C,P,Q)."""
    _memory.require(x)
    (shape,) = forward_shapes(tuple(x.shape), size=size, stride=stride, ceil=ceil)
    y = _memory.empty(shape, device=x.device)
    _run(avgpool_forward, (x, y), tuple(x.shape), shape, size, stride, shape[2] * shape[3])
    return y


def backward(dy: Tensor, *, x_shape: tuple[int, ...], size: int, stride: int, ceil: bool = False) -> Tensor:
    """Return the gradient dx (N,C,H,W), of shape `x_shape`."""
    _memory.require(dy)
    del ceil  # the shape of dy already tells it
    dx = _memory.empty(tuple(x_shape), device=dy.device)
    _run(avgpool_backward, (dy, dx), tuple(x_shape), tuple(dy.shape), size, stride, x_shape[2] * x_shape[3])
    return dx


def _run(
    kernel: triton.JITFunction, arrays: tuple[Tensor, ...], x_shape: tuple[int, ...], y_shape: tuple[int, ...],
    size: int, stride: int, pixels: int,
) -> None:  # fmt: skip
    """Launch a kernel with one program for each block of maps and each block of the `pixels` in a map of the result."""
    maps = x_shape[0] * x_shape[1]
    config = table(arrays[0]).configs["maxpool"]  # the same blocks suit both kinds of pooling
    blocks = config.fit(M=maps, I=pixels)
    launch(kernel, (cdiv(maps, blocks["BLOCK_M"]), cdiv(pixels, blocks["BLOCK_I"])), *arrays, maps, config=config,
           H=x_shape[2], W=x_shape[3], P=y_shape[2], Q=y_shape[3], LENGTH=size, STRIDE=stride, **blocks)  # fmt: skip


def audited(backend: Any, x: Tensor) -> None:
    """Launch, for the audit, both kernels, which a training step of the paper's network does not use."""
    options = {"size": 3, "stride": 2, "ceil": True}
    backend.avgpool.backward(backend.avgpool.forward(x, **options), x_shape=tuple(x.shape), **options)


@triton.jit
def count(exists, p, q, H: tl.constexpr, W: tl.constexpr, LENGTH: tl.constexpr, STRIDE: tl.constexpr):
    """Return the number of pixels of window (p, q) that lie inside the image; 1 where the window does not exist."""
    rows, columns = tl.minimum(H - p * STRIDE, LENGTH), tl.minimum(W - q * STRIDE, LENGTH)
    return tl.where(exists, rows * columns, 1).to(tl.float32)


@triton.jit
def avgpool_forward(
    x, y, MAPS,
    H: tl.constexpr, W: tl.constexpr, P: tl.constexpr, Q: tl.constexpr, LENGTH: tl.constexpr, STRIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """Write the mean of the pixels of each window that lie inside the image."""
    # 1. Maps (BLOCK_M, 1) and the windows (1, BLOCK_I) in them.
    m = (tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    i = (tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I))[None, :]
    valid = (m < MAPS) & (i < P * Q)
    p, q = i // Q, i % Q
    # 2. The sum of each column of the window, and the sum of those; a window may be large, so loops are not unrolled.
    corner = x + m * (H * W) + p * STRIDE * W + q * STRIDE
    total = tl.zeros((BLOCK_M, BLOCK_I), tl.float32)
    for s in range(LENGTH):
        column = tl.zeros((BLOCK_M, BLOCK_I), tl.float32)
        for r in range(LENGTH):
            inside = valid & (p * STRIDE + r < H) & (q * STRIDE + s < W)
            column += tl.load(corner + r * W + s, mask=inside, other=0.0)
        total += column
    # 3. Divide, rounding to the nearest number.
    mean = tl.div_rn(total, tl.broadcast_to(count(valid, p, q, H, W, LENGTH, STRIDE), total.shape))
    tl.store(y + m * (P * Q) + i, mean, mask=valid)


@triton.jit
def avgpool_backward(
    dy, dx, MAPS,
    H: tl.constexpr, W: tl.constexpr, P: tl.constexpr, Q: tl.constexpr, LENGTH: tl.constexpr, STRIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """Write dx: for each pixel, the sum of its shares of dy of the windows that contain it."""
    # 1. Maps (BLOCK_M, 1) and the pixels (1, BLOCK_I) in them.
    m = (tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    pixel = (tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I))[None, :]
    valid = (m < MAPS) & (pixel < H * W)
    i, j = pixel // W, pixel % W
    # 2. Windows (p, q) that contain the pixel, from the last to the first; the pixel is at (r, s) in the window.
    total = tl.zeros((BLOCK_M, BLOCK_I), tl.float32)
    for down in range((LENGTH + STRIDE - 1) // STRIDE):
        p, r = i // STRIDE - down, i % STRIDE + down * STRIDE
        row = tl.zeros((BLOCK_M, BLOCK_I), tl.float32)
        for right in range((LENGTH + STRIDE - 1) // STRIDE):
            q, s = j // STRIDE - right, j % STRIDE + right * STRIDE
            contains = valid & (p >= 0) & (p < P) & (r < LENGTH) & (q >= 0) & (q < Q) & (s < LENGTH)
            gradient = tl.load(dy + m * (P * Q) + p * Q + q, mask=contains, other=0.0)
            row += tl.div_rn(gradient, count(contains, p, q, H, W, LENGTH, STRIDE))
        total += row
    # 3. Store the sums.
    tl.store(dx + m * (H * W) + pixel, total, mask=valid)


def _requested_by_backward(launch: Launch) -> int:
    windows = cdiv(launch.constants["LENGTH"], launch.constants["STRIDE"]) ** 2
    return int(4 * launch.numel("dx") * (windows + 1))  # each pixel reads dy of all windows that may contain it


# The bytes that each kernel's programs read and write, counting whole blocks and no cache; see floor.py.
REQUESTED_BYTES: Mapping[str, Callable[[Launch], int]] = {
    "avgpool_forward": lambda launch: 4 * launch.numel("y") * (launch.constants["LENGTH"] ** 2 + 1),
    "avgpool_backward": _requested_by_backward,
}
