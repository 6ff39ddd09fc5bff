"""Augmentation and input normalisation; see :mod:`refnet.ops.augment`. One pass from bytes to the network's input."""

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from refnet_triton import _memory
from refnet_triton._launch import cdiv, launch, table

# Kernels whose narrow loads are allowed, with the reason's name in audit.py.
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
    """Launch, for the audit, what a training step of the paper's network does not."""
    N, C, side = x.shape[0], 3, 256
    images, mean = np.zeros((N, side, side, C), np.uint8), np.zeros((side, side, C), np.float32)
    draws = np.zeros((N, 2), np.int64), np.zeros(N, np.uint8), np.zeros((N, C), np.float32)
    backend.augment.forward(*map(backend.asarray, (images, mean, *draws)), size=(224, 224))


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
    # 2. The place of each of them in the whole image.
    j = tl.where(tl.load(flips + n) != 0, Q - 1 - j, j)
    row, column = tl.load(offsets + 2 * n) + i, tl.load(offsets + 2 * n + 1) + j
    place = (row * W + column) * C + c
    # 3. The chapter fixes this order, since both operations round.
    value = tl.load(images + n * (H * W * C) + place, mask=valid, other=0).to(tl.float32)
    value = (value - tl.load(mean + place, mask=valid, other=0.0)) + tl.load(shifts + plane)
    tl.store(y + plane * (P * Q) + pixel, value, mask=valid)
