"""Which images look alike to a network: near each other in its last hidden layer, and far apart in their pixels.

Source
------
Paper, section 6.1 and figure 4: "If two images produce feature activation vectors with a small Euclidean separation,
we can say that the higher levels of the neural network consider them to be similar."
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from refnet.data.crops import centre
from refnet.data.dataset import Indices, Pixels, Split
from refnet.data.loader import batches
from refnet.data.parallel import Reading
from refnet.evaluation.trained import Trained

Features = npt.NDArray[np.float32]

SIDE = 128  # of an image in the picture, at least
GAP = 8  # pixels between images
APART = 24  # pixels between an image and those that are like it


class Neighbours(NamedTuple):
    """The images of a split that are nearest to one image, the nearest first.

    Attributes
    ----------
    indices
        Their numbers in the split.
    distances
        Euclidean: float64.
    """

    indices: Indices
    distances: npt.NDArray[np.float64]


def features(
    trained: Trained,
    split: Split,
    *,
    batch: int,
    reading: Reading,
    advance: Callable[[int], None] = lambda _: None,
) -> Features:
    """Give the last hidden layer for the centre crop of every image of a split: float32 (n,K).

    Raises ``DataError`` for an image that cannot be read, ``NumericError`` for an output that is not finite.
    """
    found = np.empty((len(split), _width(trained)), np.float32)
    done = 0
    for some in batches(split, np.arange(len(split)), batch, reading=reading):
        found[some.indices] = of_images(trained, some.images)
        done += len(some.indices)
        advance(done)
    return found


def of_images(trained: Trained, images: Pixels) -> Features:
    """Give the last hidden layer for the centre crop of each image (N,H,W,C): float32 (N,K)."""
    return trained.features(images, centre(len(images), trained.image_shape, trained.net.crop))


def nearest(point: Features, among: Features, count: int) -> Neighbours:
    """Find the `count` rows of `among` (n,K) that are nearest to `point` (K,); of those that tie, the first."""
    squares = np.empty(len(among))
    for start in range(0, len(among), 1024):
        part = among[start : start + 1024].astype(np.float64)
        squares[start : start + 1024] = ((part - point) ** 2).sum(axis=1)
    indices = np.argsort(squares, kind="stable")[:count]
    return Neighbours(indices, np.sqrt(squares[indices]))


def picture(rows: Sequence[tuple[Pixels, Pixels]]) -> Image.Image:
    """Draw the paper's figure 4: in each row an image (H,W,C), and to its right those that are like it (n,H,W,C).

    Small images are magnified, each pixel to a square.
    """
    height, width, channels = rows[0][0].shape
    zoom = max(1, -(-SIDE // max(height, width)))
    height, width = height * zoom, width * zoom
    most = max(len(others) for _, others in rows)
    whole = np.full(
        (len(rows) * (height + GAP) - GAP, APART + width + most * (width + GAP) - GAP, channels), 255, np.uint8
    )
    for number, (image, others) in enumerate(rows):
        top = number * (height + GAP)
        lefts = [0, *(width + APART + place * (width + GAP) for place in range(len(others)))]
        for left, pixels in zip(lefts, (image, *others), strict=True):
            whole[top : top + height, left : left + width] = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return Image.fromarray(whole[..., 0] if channels == 1 else whole)


def _width(trained: Trained) -> int:
    """Count the units of the last hidden layer."""
    return int(trained.plan.nodes[-1].params["w"][1])
