"""The embedded data set: 1,797 handwritten digits of 8x8 pixels, for a run that needs no download.

Source
------
E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, the file optdigits.tes; CC BY 4.0 (see
OPTDIGITS.md beside this file).

Decisions
---------
Its only file is split by a fixed permutation of the images (Philox, seed 0): the first 1,297 train, the next 140
validate, the last 360 test. Pixels stay the counts 0..16 of the original. A border of one zero pixel makes images
10x10, so that the net's random 8x8 crops are the digit moved by up to one pixel, and the centre crop is the digit.
"""

from importlib.resources import files

import numpy as np
from PIL import Image

from refnet.data import decode
from refnet.data.dataset import Indices, Pixels
from refnet.data.order import permutation
from refnet.data.source import ArrayPictures, Form, Source
from refnet.randomness import Purpose

NAME = "digits"
WHERE = "embedded"
SIZE = 8  # of a digit, without the border
BORDER = ((1, 1), (1, 1), (0, 0))
LARGEST_PIXEL = 16
TRAIN, VALIDATION, TEST = 1297, 140, 360
CLASSES = tuple("0123456789")


def recognise(data: str, names: frozenset[str]) -> bool:  # noqa: ARG001 - a name is enough
    """Tell whether a user named the digits."""
    return data == NAME


def read(data: str = NAME) -> Source:  # noqa: ARG001 - there is one such data set
    """Read the embedded digits: images uint8 (10,10,1), ten classes."""
    with (files("refnet.data") / "optdigits.npz").open("rb") as file, np.load(file, allow_pickle=False) as archive:
        pixels = np.pad(archive["images"][..., None], ((0, 0), *BORDER))
        labels = archive["labels"].astype(np.int64)
    train, validation, test = (ArrayPictures(labels[part], pixels[part], NAME, NAME) for part in split())
    return Source(
        name=NAME,
        where=WHERE,
        layout="handwritten digits, fixed split",
        classes=CLASSES,
        words=CLASSES,
        train=train,
        validation=validation,
        test=test,
        form=Form((SIZE + 2, SIZE + 2, 1), "train the net 'digits' on them, or give a folder of images"),
    )


def fit(image: Image.Image) -> Pixels:
    """Return a picture of a digit, light on dark, as an image of this data set: uint8 (10,10,1), pixels 0..16."""
    pixels = decode.centre_square(image, SIZE, 1, background=0)
    return np.pad(np.rint(pixels * (LARGEST_PIXEL / 255)).astype(np.uint8), BORDER)


def split() -> list[Indices]:
    """Return the indices of the training, validation and test images: int64 (1297,), (140,) and (360,)."""
    order = permutation(TRAIN + VALIDATION + TEST, key=(0, Purpose.SPLIT), counter=(0, 0, 0, 0))
    return list(np.split(order, [TRAIN, TRAIN + VALIDATION]))
