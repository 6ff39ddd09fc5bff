"""Copies of matrices and images in the order in which the micro-kernels read them. Each runs on one thread."""

import numpy as np
import numpy.typing as npt

from refnet_numba._instructions import LANES
from refnet_numba._jit import serial
from refnet_numba._microkernel import transpose

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@serial
def turn(source: Floats, so: int, pitch: int, rows: int, target: Floats, to: int, offsets: Ints) -> None:
    """Write the transpose of a matrix (rows, offsets.size), which begins at index `so` of a flat array.

    Its rows are `pitch` numbers apart. Column j becomes a row of the target, which begins at index to + offsets[j].
    """
    columns = offsets.size
    whole_rows, whole_columns = rows // LANES * LANES, columns // LANES * LANES
    for j in range(0, whole_columns, LANES):
        for i in range(0, whole_rows, LANES):
            transpose(source, so + i * pitch + j, pitch, target, to + i, offsets, j)
    for i in range(rows):
        for j in range(whole_columns if i < whole_rows else 0, columns):
            target[to + offsets[j] + i] = source[so + i * pitch + j]


@serial
def multiples(count: int, step: int) -> Ints:
    """Return 0, step, 2 * step and so on: `count` offsets."""
    return np.arange(count) * step


@serial
def lay_image(
    x: Floats, y: Floats, gated: bool, top: int, left: int, rows: int, width: int, pitch: int, laid: Floats
) -> None:
    """Write an image x (C,H,W) to `laid` (rows, width, pitch) with its channels last and zeros around it.

    `pitch` is at least C. Row 0 of x becomes row `top`, and column 0 becomes column `left`; either may be negative.
    Rows and columns that would then be outside `laid` are left out. If `gated`, x is the gradient of ReLU's output y
    (C,H,W), and zeros are written where y <= 0.
    """
    C, H, W = x.shape
    laid[: rows * width * pitch] = 0
    first, stop = max(0, -top), min(H, rows - top)
    begin, end = max(0, -left), min(W, width - left)
    if first >= stop or begin >= end:
        return
    if C < LANES or begin > 0 or end < W:  # too few channels for a vector, or columns left out
        corner = ((first + top) * width + begin + left) * pitch
        _lay_singly(x[:, first:stop, begin:end], y[:, first:stop, begin:end], gated, width, pitch, laid[corner:])
        return
    pixels = (stop - first) * W
    offsets = np.empty(pixels, np.int64)
    for i in range(stop - first):
        for j in range(W):
            offsets[i * W + j] = ((first + i + top) * width + j + left) * pitch
    image, gates = x.reshape(C, H * W), y.reshape(C, H * W)
    gated_pixels = np.empty((LANES if gated else 0, pixels), np.float32)
    for c in range(0, C, LANES):
        count = min(LANES, C - c)
        if gated:
            for i in range(count):
                numbers, gate = image[c + i, first * W : stop * W], gates[c + i, first * W : stop * W]
                out = gated_pixels[i]
                for j in range(pixels):
                    out[j] = np.float32(0) if gate[j] <= 0 else numbers[j]
            turn(gated_pixels.reshape(-1), 0, pixels, count, laid, c, offsets)
        else:
            turn(image.reshape(-1), (c * H + first) * W, H * W, count, laid, c, offsets)


@serial
def _lay_singly(x: Floats, y: Floats, gated: bool, width: int, pitch: int, laid: Floats) -> None:
    """Write an image to `laid` number by number, one row of one channel at a time, so that reads are contiguous."""
    C, rows, columns = x.shape
    for i in range(rows):
        for c in range(C):
            numbers, gate, out = x[c, i], y[c, i], laid[i * width * pitch + c :]
            if gated:
                for j in range(columns):
                    out[j * pitch] = np.float32(0) if gate[j] <= 0 else numbers[j]
            else:
                for j in range(columns):
                    out[j * pitch] = numbers[j]
