"""Matrices and images laid out anew, so that the micro-kernel finds its numbers side by side."""

import numpy as np
import numpy.typing as npt

from refnet_numba._jit import serial
from refnet_numba._microkernel import LANES, transpose

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@serial
def turn(source: Floats, at: int, pitch: int, rows: int, target: Floats, to: int, places: Ints) -> None:
    """Transpose a matrix whose rows are `pitch` apart: its column j becomes a row at to + places[j]."""
    columns = places.size
    whole_rows, whole_columns = rows // LANES * LANES, columns // LANES * LANES
    for i in range(0, whole_rows, LANES):
        for j in range(0, whole_columns, LANES):
            transpose(source, at + i * pitch + j, pitch, target, to + i, places, j)
    for i in range(rows):
        for j in range(whole_columns if i < whole_rows else 0, columns):
            target[to + places[j] + i] = source[at + i * pitch + j]


@serial
def evenly(count: int, step: int) -> Ints:
    """List places that lie `step` apart."""
    return np.arange(count) * step


@serial
def lay_image(
    x: Floats, y: Floats, gated: bool, top: int, left: int, rows: int, width: int, pitch: int, laid: Floats
) -> None:
    """Lay an image (C,H,W) out with its channels last and zeros around it, (rows, width, pitch).

    Its row 0 becomes row `top`, its column 0 column `left`; rows that then lie outside are left out. Where `gated`, a
    number counts as zero unless that of y is positive: the gradient of ReLU.
    """
    C, H, W = x.shape
    laid[: rows * width * pitch] = 0
    first, stop = max(0, -top), min(H, rows - top)
    begin, end = max(0, -left), min(W, width - left)
    if first >= stop or begin >= end:
        return
    if C == pitch == 3 and not gated:
        _lay_photograph(x[:, first:stop, begin:end], width, laid[((first + top) * width + begin + left) * 3 :])
        return
    if C < LANES or begin > 0 or end < W:  # too few channels for vectors, or columns that are left out
        corner = ((first + top) * width + begin + left) * pitch
        _lay_singly(x[:, first:stop, begin:end], y[:, first:stop, begin:end], gated, width, pitch, laid[corner:])
        return
    pixels = (stop - first) * W
    places = np.empty(pixels, np.int64)
    for i in range(stop - first):
        for j in range(W):
            places[i * W + j] = ((first + i + top) * width + j + left) * pitch
    image, mask = x.reshape(C, H * W), y.reshape(C, H * W)
    open_pixels = np.empty((LANES if gated else 0, pixels), np.float32)
    for c in range(0, C, LANES):
        count = min(LANES, C - c)
        if gated:
            for i in range(count):
                numbers, out = image[c + i, first * W : stop * W], open_pixels[i]
                gates = mask[c + i, first * W : stop * W]
                for j in range(pixels):
                    out[j] = np.float32(0) if gates[j] <= 0 else numbers[j]
            turn(open_pixels.reshape(-1), 0, pixels, count, laid, c, places)
        else:
            turn(image.reshape(-1), (c * H + first) * W, H * W, count, laid, c, places)


@serial
def _lay_singly(x: Floats, y: Floats, gated: bool, width: int, pitch: int, laid: Floats) -> None:
    """Lay number after number."""
    for c in range(x.shape[0]):
        for i in range(x.shape[1]):
            numbers, gates, out = x[c, i], y[c, i], laid[i * width * pitch + c :]
            for j in range(numbers.size):
                out[j * pitch] = np.float32(0) if gated and gates[j] <= 0 else numbers[j]


@serial
def _lay_photograph(x: Floats, width: int, laid: Floats) -> None:
    """Lay three channels: with their number known, the compiler puts three vectors together."""
    for i in range(x.shape[1]):
        reds, greens, blues, out = x[0, i], x[1, i], x[2, i], laid[i * width * 3 :]
        for j in range(reds.size):
            out[3 * j], out[3 * j + 1], out[3 * j + 2] = reds[j], greens[j], blues[j]
