"""From the bytes of images to what a net reads: crop, mirror, subtract the mean, shift the colours.

Source
------
Paper, sections 2 and 4.1: "extracting random 224x224 patches (and their horizontal reflections) from the 256x256
images"; "subtracting the mean activity over the training set from each pixel"; a colour is added to all pixels of an
image. Values stay in the unit 0..255.

Definition
----------
For offsets (r,s) and crop (h,w)::

    y[n,c,i,j] = (images[n, r+i, s+j', c] - mean[r+i, s+j', c]) + shifts[n,c]

where j' is j, or w-1-j where the image is mirrored (``flips[n]`` is 1).

Shapes
------
images (N,H,W,C) uint8, mean (H,W,C), offsets (N,2) integers, flips (N,) integers, shifts (N,C); y (N,C,h,w) in the
dtype of mean and shifts.

Decisions
---------
The mean belongs to positions of the whole image, so it is cut at the same place, and mirrored along with the image;
the authors' program subtracted the centre crop of the mean everywhere. First the mean, then the shift: two roundings in
this order, so that every backend has the same bits. What is random is drawn elsewhere (:mod:`refnet.data.crops`).
Bytes go in, so that a device receives a quarter of what it computes with.

No backward: nothing is learned from the gradient of an image.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from refnet.ops._rules import Floats, Shape, require, require_rank, require_value

INTERFACE = ("forward",)

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.integer[Any]]


class Draws(NamedTuple):
    """How each image of a batch is varied: the arrays that `forward` reads beside the pixels and the mean.

    Attributes
    ----------
    offsets
        Row and column of the crop's upper left pixel: int32 (n,2).
    flips
        1 where the crop is mirrored, else 0: uint8 (n,).
    shifts
        What is added to each channel, in grey levels: float32 (n,C).
    """

    offsets: npt.NDArray[np.int32]
    flips: npt.NDArray[np.uint8]
    shifts: npt.NDArray[np.float32]


def forward_shapes(
    images: Shape, mean: Shape, offsets: Shape, flips: Shape, shifts: Shape, *, size: tuple[int, int]
) -> tuple[Shape, ...]:
    """Shape rule: (y,). Raises ``ShapeError`` unless all fit the images, and the crop fits in them."""
    require_rank("augment", 4, images=images)
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
    """Value rule. Raises ``ArgumentError`` for images that are no bytes, offsets beyond the edge, flips not 0 or 1."""
    require_value("augment", images.dtype == np.uint8, f"images must be uint8, they are {images.dtype}")
    require_value(
        "augment", mean.dtype == shifts.dtype, f"shifts are {shifts.dtype}, mean is {mean.dtype}: they must be one"
    )
    for axis, (side, length) in enumerate(zip(images.shape[1:3], size, strict=True)):
        wrong = np.flatnonzero((offsets[:, axis] < 0) | (offsets[:, axis] > side - length))
        n = int(wrong[0]) if wrong.size else 0
        require_value(
            "augment",
            not wrong.size,
            f"offsets[{n}] is {offsets[n].tolist() if wrong.size else 0}: a crop of {length} leaves 0..{side - length}",
        )
    require_value("augment", bool(np.isin(flips, (0, 1)).all()), "flips must be 0 or 1")


def forward(
    images: Pixels, mean: Floats, offsets: Integers, flips: Integers, shifts: Floats, *, size: tuple[int, int]
) -> Floats:
    """Crop, mirror, subtract the mean, shift the colours: y (N,C,h,w)."""
    h, w = size
    y = np.empty((images.shape[0], images.shape[3], h, w), mean.dtype)
    for n, (r, s) in enumerate(offsets):
        window = np.s_[r : r + h, s : s + w]
        crop = (images[n][window] - mean[window]) + shifts[n]
        y[n] = (crop[:, ::-1] if flips[n] else crop).transpose(2, 0, 1)
    return y
