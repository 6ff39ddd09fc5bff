"""Augmentation and input normalisation: crop, subtract the mean image, shift the colours, mirror.

Source
------
Paper, sections 2 and 4.1: "extracting random 224x224 patches (and their horizontal reflections) from the 256x256
images"; "subtracting the mean activity over the training set from each pixel"; the same colour is added to all pixels
of an image. Pixel values stay on the scale 0..255.

Definition
----------
The crop of image n has its upper left pixel at row r and column s, (r,s) = ``offsets[n]``, and h rows and w columns,
(h,w) = ``size``::

    y[n,c,i,j] = (images[n, r+i, s+j', c] - mean[r+i, s+j', c]) + shifts[n,c]

Here j' is j, or w-1-j if the image is mirrored (``flips[n]`` is 1).

Shapes
------
images (N,H,W,C) uint8, mean (H,W,C), offsets (N,2) integers, flips (N,) integers, shifts (N,C); y (N,C,h,w) in the
dtype of mean and shifts.

Decisions
---------
- The mean image has a value for each position of the whole image, so it is cropped at the same place and mirrored with
  the image. The authors' program subtracted the centre crop of the mean from every crop.
- The mean is subtracted first and the shift added second. The order is fixed because each of the two operations rounds,
  and every backend must give the same bits.
- Random choices are arguments; they are drawn in :mod:`refnet.data.crops`.
- Images enter as bytes, so that a device receives a quarter of the data it would receive as float32.

There is no backward: nothing is learned from the gradient of an image.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape, require, require_rank, require_value

INTERFACE = ("forward",)

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.integer[Any]]


class Draws(NamedTuple):
    """The random choices for each image of a batch: three of `forward`'s arguments.

    Attributes
    ----------
    offsets
        Row and column of the crop's upper left pixel in the image: int32 (N,2).
    flips
        1 if the crop is mirrored left to right, otherwise 0: uint8 (N,).
    shifts
        Number added to all pixels of each channel, in grey levels (0..255): float32 (N,C).
    """

    offsets: npt.NDArray[np.int32]
    flips: npt.NDArray[np.uint8]
    shifts: npt.NDArray[np.float32]


def forward_shapes(
    images: Shape, mean: Shape, offsets: Shape, flips: Shape, shifts: Shape, *, size: tuple[int, int]
) -> tuple[Shape, ...]:
    """Return the shape of y. Raises ``ShapeError`` unless all arrays and the crop fit the images."""
    require_rank("augment", 4, images=images)
    require_value("augment", len(size) == 2, f"size is (height, width); it has {len(size)} numbers")
    N, H, W, C = images
    for name, shape, expected in (
        ("mean", mean, (H, W, C)),
        ("offsets", offsets, (N, 2)),
        ("flips", flips, (N,)),
        ("shifts", shifts, (N, C)),
    ):
        require("augment", shape == expected, f"{name} must have shape {expected}, it has {shape}")
    h, w = size
    require("augment", 1 <= h <= H and 1 <= w <= W, f"a crop of {h}x{w} does not fit in images of {H}x{W}")
    return ((N, C, h, w),)


def forward_values(
    images: Pixels, mean: Floats, offsets: Integers, flips: Integers, shifts: Floats, *, size: tuple[int, int]
) -> None:
    """Check values. Raises ``ArgumentError`` for wrong dtypes, a crop over the edge or a flip not 0 or 1."""
    require_value("augment", images.dtype == np.uint8, f"images must be uint8, not {images.dtype}")
    require_value(
        "augment",
        mean.dtype == shifts.dtype,
        f"mean and shifts must have the same dtype, they are {mean.dtype} and {shifts.dtype}",
    )
    for axis, (side, length) in enumerate(zip(images.shape[1:3], size, strict=True)):
        wrong = np.flatnonzero((offsets[:, axis] < 0) | (offsets[:, axis] > side - length))
        n = int(wrong[0]) if wrong.size else 0
        require_value(
            "augment",
            not wrong.size,
            f"offsets[{n}, {axis}] is {offsets[n, axis] if wrong.size else 0}, it must be 0..{side - length}"
            f" for a crop of {length} pixels in an image of {side}",
        )
    require_value("augment", bool(np.isin(flips, (0, 1)).all()), "flips must be 0 or 1")


@checked
def forward(
    images: Pixels, mean: Floats, offsets: Integers, flips: Integers, shifts: Floats, *, size: tuple[int, int]
) -> Floats:
    """Crop, subtract the mean, shift the colours and mirror each image; return y (N,C,h,w)."""
    h, w = size
    y = np.empty((images.shape[0], images.shape[3], h, w), mean.dtype)
    for n, (r, s) in enumerate(offsets):
        window = np.s_[r : r + h, s : s + w]
        crop = (images[n][window] - mean[window]) + shifts[n]
        y[n] = (crop[:, ::-1] if flips[n] else crop).transpose(2, 0, 1)
    return y
