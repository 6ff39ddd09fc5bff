"""The embedded data set: 1,797 handwritten digits of 8x8 pixels, for a run that needs no download.

Source
------
E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, the file optdigits.tes; CC BY 4.0 (see
OPTDIGITS.md beside this file).

Decisions
---------
Its one file is split by a fixed permutation of the images (Philox, seed 0): the first 1,297 train, the next 140
validate, the last 360 test. Pixels stay the counts 0..16 of the original. A border of one zero pixel makes images
10x10, so that the net's random 8x8 crops are the digit moved by up to one pixel, and the centre crop is the digit.
"""

from importlib.resources import files

import numpy as np

from refnet.data.dataset import ArraySplit, Dataset, Indices, Pixels
from refnet.data.order import permutation
from refnet.data.statistics import Sums
from refnet.randomness import Purpose

SIZE = 10
CHANNELS = 1
DEEPEST = 16  # the largest pixel
TRAIN, VALIDATION, TEST = 1297, 140, 360
BORDER = ((0, 0), (1, 1), (1, 1), (0, 0))


def open_digits() -> Dataset:
    """Open the embedded digits: images uint8 (10,10,1), ten classes."""
    with (files("refnet.data") / "optdigits.npz").open("rb") as file, np.load(file, allow_pickle=False) as archive:
        images = np.pad(archive["images"][..., None], BORDER)
        labels = archive["labels"].astype(np.int64)

    def part(indices: Indices) -> ArraySplit:
        return ArraySplit(labels[indices], images[indices], "digits")

    train, validation, test = (part(indices) for indices in split())
    sums = Sums.of(train.pixels)
    classes = tuple("0123456789")
    return Dataset(
        name="digits",
        where="embedded",
        layout="handwritten digits, fixed split",
        classes=classes,
        words=classes,
        image_shape=(SIZE, SIZE, CHANNELS),
        train=train,
        validation=validation,
        test=test,
        mean=sums.mean(),
        colours=sums.principal(),
    )


def from_picture(pixels: Pixels) -> Pixels:
    """Make of a picture of a digit, light on dark, what the net was trained on: (8,8,1) of 0..255 to (10,10,1)."""
    return np.pad(np.rint(pixels * (DEEPEST / 255)).astype(np.uint8), BORDER[1:])


def split() -> list[Indices]:
    """Return which images of the file train, validate and test: int64 (1297,), (140,) and (360,)."""
    order = permutation(TRAIN + VALIDATION + TEST, key=(0, Purpose.SPLIT), counter=(0, 0, 0, 0))
    return list(np.split(order, [TRAIN, TRAIN + VALIDATION]))
