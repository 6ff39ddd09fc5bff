"""Images of a split, small enough to be shown many at a time."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

from refnet.data.dataset import Pixels, Split

MAX_SIDE = 96  # pixels


class Captioned(NamedTuple):
    """An image (H,W,C) and its caption."""

    image: Pixels
    caption: str


def thumbnails(split: Split, indices: Iterable[np.integer]) -> dict[int, Pixels]:
    """Read images, small, by their index; images with few grey levels are stretched to all of them."""
    numbers = sorted({int(index) for index in indices})
    if not numbers:
        return {}
    images = split.images(np.array(numbers))
    scale = 255 / max(int(images.max()), 1)
    return {n: thumbnail((image * scale).round().astype(np.uint8)) for n, image in zip(numbers, images, strict=True)}


def thumbnail(image: Pixels) -> Pixels:
    """Shrink an image that is larger than it will be shown."""
    if max(image.shape[:2]) <= MAX_SIDE:
        return image
    shrunk = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    shrunk.thumbnail((MAX_SIDE, MAX_SIDE))
    return np.asarray(shrunk).reshape(shrunk.height, shrunk.width, image.shape[2])
