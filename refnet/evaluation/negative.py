"""Find images that are negatives of what a network was trained on: a digit in ink on paper, for one trained on MNIST.

Data sets of characters are light on dark; a scan or photograph of the same character is dark on light. A network takes
both, and classifies the second badly.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from refnet.data.dataset import Pixels, Split
from refnet.evaluation.trained import Trained
from refnet.terminal.printable import first_few

MOSTLY = 1 / 3  # training images are light on dark if their mean is below this share of white
SAMPLE = 64  # images of a split that are looked at
CLOSER = 1 / 2  # an image is a negative if inverting it reduces its distance to the mean image to less than this

_LOOK_LIKE = "may be negatives of the training images: if light and dark are exchanged, invert"


def negatives(trained: Trained, images: Pixels) -> list[int]:
    """Return the indices of the images that are probably negatives; none for images in colour.

    Images are gray and in the network's form: uint8 (N,H,W,1).
    """
    if images.shape[3] != 1 or trained.is_of_another_package:  # which alone knows what its pixels mean
        return []
    black, white = (trained.fit(Image.new("L", images.shape[1:3], gray)).astype(np.float64) for gray in (0, 255))
    mean = np.asarray(trained.backend.to_numpy(trained.mean), np.float64)
    if MOSTLY <= (mean - black).sum() / (white - black).sum() <= 1 - MOSTLY:
        return []
    far = white + black - mean
    return [i for i, image in enumerate(images) if np.abs(far - image).sum() < CLOSER * np.abs(mean - image).sum()]


def note_on_split(trained: Trained, split: Split) -> str:
    """Return what to say of a split most of whose images are negatives; "" for any other."""
    sample = np.unique(np.linspace(0, len(split) - 1, min(SAMPLE, len(split))).astype(np.int64))
    if not sample.size or split.shape[2] != 1 or len(negatives(trained, split.images(sample))) <= len(sample) / 2:
        return ""
    return f"note: most of the images {_LOOK_LIKE} the test images"


def note_on_negatives(names: Sequence[str]) -> str:
    """Return what to say of images, by their names, that are negatives; "" if there are none."""
    if not names:
        return ""
    return f"note: {first_few(names)} {_LOOK_LIKE} what you predict, for example with: magick FILE -negate FILE.png"
