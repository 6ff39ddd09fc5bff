"""Augmentation and input normalisation; see :mod:`refnet.ops.augment`.

Each thread processes whole images, and writes each row of each channel of y (N,C,h,w) once. The mean image is copied
once with its channels first, (C,H,W). So the only numbers that the inner loops do not read one after the other are the
bytes of an image (H,W,C).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet_numba import _memory
from refnet_numba._jit import kernel

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.integer[Any]]


def forward(
    images: Pixels, mean: Floats, offsets: Integers, flips: Integers, shifts: Floats, *, size: tuple[int, int]
) -> Floats:
    """Crop, subtract the mean, shift the colours and mirror each image; return y (N,C,h,w)."""
    _memory.require(images, mean, offsets, flips, shifts)
    N, H, W, C = images.shape
    planes = _memory.empty((C, H, W))
    planes[...] = mean.transpose(2, 0, 1)
    y = _memory.empty((N, C, *size))
    _forward(images, planes, offsets.astype(np.int64), flips.astype(np.uint8), shifts, y)
    return y


@kernel
def _forward(
    images: Pixels,
    planes: Floats,
    offsets: npt.NDArray[np.int64],
    flips: npt.NDArray[np.uint8],
    shifts: Floats,
    y: Floats,
) -> None:
    N, C, h, w = y.shape
    for n in prange(N):
        r, s = offsets[n, 0], offsets[n, 1]
        for i in range(h):
            # Views that begin at 0 show Numba that no index is negative, so it can vectorise the loops.
            row = images[n, r + i, s : s + w]
            for c in range(C):
                mean, out, shift = planes[c, r + i, s : s + w], y[n, c, i], shifts[n, c]
                if flips[n]:
                    for j in range(w):
                        out[j] = (np.float32(row[w - 1 - j, c]) - mean[w - 1 - j]) + shift
                else:
                    for j in range(w):
                        out[j] = (np.float32(row[j, c]) - mean[j]) + shift
