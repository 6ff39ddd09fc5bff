"""Find images that a network considers similar: near each other in its last hidden layer, even if their pixels differ.

Source
------
Paper, section 6.1 and figure 4: "If two images produce feature activation vectors with a small Euclidean separation,
we can say that the higher levels of the neural network consider them to be similar."
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from refnet.data.dataset import Indices, Pixels, Split
from refnet.data.loader import batches
from refnet.data.parallel import Reading
from refnet.evaluation.trained import Trained

Features = npt.NDArray[np.float32]
ROWS = 1024  # of features converted to float64 at a time


class Neighbours(NamedTuple):
    """The images of a split that are nearest to one image, the nearest first.

    Attributes
    ----------
    indices
        Their indices in the split: int64 (count,).
    distances
        Euclidean distances to the image: float64 (count,).
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
    """Return the last hidden layer for the centre crop of every image of a split: float32 (n,K).

    Raises ``DataError`` for an image that cannot be read, ``NumericError`` for an output that is not finite.
    """
    hidden = np.empty((len(split), _width(trained)), np.float32)
    done = 0
    for read in batches(split, np.arange(len(split)), batch, reading=reading):
        hidden[read.indices] = of_images(trained, read.images)
        done += len(read.indices)
        advance(done)
    return hidden


def of_images(trained: Trained, images: Pixels) -> Features:
    """Return the last hidden layer for the centre crop of each image (N,H,W,C): float32 (N,K)."""
    return trained.features(images, trained.centre_crops(len(images)))


def nearest(query: Features, candidates: Features, count: int) -> Neighbours:
    """Return the `count` rows of `candidates` (n,K) nearest to `query` (K,); rows that tie keep their order."""
    squares = np.empty(len(candidates))
    for start in range(0, len(candidates), ROWS):
        part = candidates[start : start + ROWS].astype(np.float64)
        squares[start : start + ROWS] = ((part - query) ** 2).sum(axis=1)
    indices = np.argsort(squares, kind="stable")[:count]
    return Neighbours(indices, np.sqrt(squares[indices]))


def _width(trained: Trained) -> int:
    """Return the number of units of the last hidden layer."""
    return int(trained.plan.nodes[-1].params["w"][1])
