"""Augmentation and input normalisation; see :mod:`refnet.ops.augment`. One pass from bytes to the network's input.

A program computes BLOCK_I pixels of one channel of one crop: grid (N*C, blocks of pixels). It reads the image (H,W,C)
and writes y (N,C,h,w).
"""

from typing import Any

import torch
import triton
import triton.language as tl

from refnet_triton import _memory
from refnet_triton._launch import cdiv, launch, table

# Kernels that may have narrow loads, each with its reason: a key of audit.REASONS.
EXCUSES = {"augment_forward": "pixels"}

Tensor = torch.Tensor


def forward(
    images: Tensor, mean: Tensor, offsets: Tensor, flips: Tensor, shifts: Tensor, *, size: tuple[int, int]
) -> Tensor:
    """Crop, subtract the mean, shift the colours and mirror each image; return y (N,C,h,w)."""
    _memory.require(images, mean, offsets, flips, shifts)
    N, H, W, C = images.shape
    y = _memory.empty((N, C, *size), device=images.device)
    config = table(images).configs["elementwise"]
    blocks = config.fit(I=size[0] * size[1])
    grid = N * C, cdiv(size[0] * size[1], blocks["BLOCK_I"])
    launch(augment_forward, grid, images, mean, offsets, flips, shifts, y, config=config,
           H=H, W=W, C=C, P=size[0], Q=size[1], **blocks)  # fmt: skip
    return y


def audited(backend: Any, x: Tensor) -> None:
    """Launch, for the audit, the kernels that a training step of the paper's network does not use."""
    N, C, side = x.shape[0], 3, 256

    def array(*shape: int, of: torch.dtype = torch.float32) -> Tensor:
        return _memory.empty(shape, of, x.device)

    images, mean = array(N, side, side, C, of=torch.uint8), array(side, side, C)
    draws = array(N, 2, of=torch.int64), array(N, of=torch.uint8), array(N, C)
    backend.augment.forward(images, mean, *draws, size=(224, 224))


@triton.jit
def augment_forward(
    images, mean, offsets, flips, shifts, y,
    H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, P: tl.constexpr, Q: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """y[n,c,i,j] = (image[n, r+i, s+j, c] - mean[r+i, s+j, c]) + shift[n,c], or its mirror image."""
    # 1. One channel of one image (n, c), and some pixels (BLOCK_I,) of its crop.
    plane = tl.program_id(0).to(tl.int64)
    n, c = plane // C, plane % C
    pixel = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    valid = pixel < P * Q
    i, j = pixel // Q, pixel % Q
    # 2. The position of each pixel in the whole image.
    j = tl.where(tl.load(flips + n) != 0, Q - 1 - j, j)
    row, column = tl.load(offsets + 2 * n) + i, tl.load(offsets + 2 * n + 1) + j
    position = (row * W + column) * C + c
    # 3. Both operations round, so they are done in the chapter's order.
    value = tl.load(images + n * (H * W * C) + position, mask=valid, other=0).to(tl.float32)
    value = (value - tl.load(mean + position, mask=valid, other=0.0)) + tl.load(shifts + plane)
    tl.store(y + plane * (P * Q) + pixel, value, mask=valid)
