"""The loader: images in batches, which threads read ahead.

Threads read and decode; they run no parallel compiled loops, and no process is forked. They read at most
`BATCHES_AHEAD` batches ahead, which bounds the memory. An epoch is a permutation of the training images, a pure
function of seed and epoch (:mod:`refnet.data.order`), and the random choices for an image are one of seed, epoch and
image (:mod:`refnet.data.crops`): so a resumed run gets the same batches as one that was never stopped.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refnet.data.crops import Augmentation
from refnet.data.dataset import Dataset, Indices, Labels, Pixels, Split
from refnet.data.order import epoch_order
from refnet.data.parallel import Reading, in_order
from refnet.errors import ConfigError
from refnet.ops.augment import Draws

BATCHES_AHEAD = 2  # that threads read while another batch is used


@dataclass(frozen=True, eq=False)
class Batch:
    """Images, labels and indices of a batch.

    Attributes
    ----------
    images
        uint8 (n,H,W,C).
    labels
        int64 (n,).
    indices
        Their numbers in the split: int64 (n,).
    """

    images: Pixels
    labels: Labels
    indices: Indices


@dataclass(frozen=True, eq=False)
class TrainingBatch(Batch):
    """A batch of an epoch.

    Attributes
    ----------
    draws
        Where to crop each image, whether to mirror it, and what to add to its colours.
    stop
        Number of images of the epoch up to the end of this batch: the position from which a run stopped after it
        resumes.
    """

    draws: Draws
    stop: int


class _Piece(NamedTuple):
    """A part of a batch that one thread reads."""

    indices: Indices
    out: Pixels


def batches(split: Split, order: Indices, size: int, *, reading: Reading) -> Iterator[Batch]:
    """Yield the images of a split in the order given, `size` in a batch; the last batch may be smaller.

    At most `BATCHES_AHEAD` batches are read ahead. Raises ``DataError``, when its batch is asked for, for a file that
    cannot be read, or not in time.
    """
    waiting: deque[tuple[Indices, Pixels]] = deque()  # batches of which pieces have been handed out

    def pieces() -> Iterator[_Piece]:
        for start in range(0, len(order), size):
            indices = order[start : start + size]
            out = np.empty((len(indices), *split.shape), np.uint8)
            waiting.append((indices, out))
            for first in range(0, len(indices), split.grain):
                part = slice(first, first + split.grain)
                yield _Piece(indices[part], out[part])

    def fill(piece: _Piece) -> int:
        split.fill(*piece)
        return len(piece.indices)

    done = 0
    ahead = BATCHES_AHEAD * -(-size // split.grain)
    for count in in_order(fill, pieces(), reading=reading, ahead=ahead, where=lambda p: split.where(int(p.indices[0]))):
        done += count
        if done == len(waiting[0][0]):
            done = 0
            indices, images = waiting.popleft()
            yield Batch(images, split.labels[indices], indices)


class Loader:
    """The training images of a data set, epoch by epoch.

    Parameters
    ----------
    size
        Images in a batch.
    augmentation
        How images are varied.
    """

    def __init__(self, dataset: Dataset, size: int, augmentation: Augmentation, *, seed: int, reading: Reading) -> None:
        self._split = dataset.train
        self._colours = dataset.colours
        self._size = size
        self._augmentation = augmentation
        self._seed = seed
        self._reading = reading

    def batches(self, start: int = 0) -> int:
        """Return the number of batches left in an epoch from position `start` on."""
        return -(-(len(self._split) - start) // self._size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[TrainingBatch]:
        """Yield the batches of an epoch, beginning with the image at position `start` of its order.

        Raises ``ConfigError`` for a start that is not in the epoch, and ``DataError`` as `batches` does.
        """
        if not 0 <= start <= len(self._split):
            raise ConfigError(f"an epoch of {len(self._split)} images cannot be continued at its image {start}")
        order = epoch_order(len(self._split), self._seed, epoch)
        position = start
        for batch in batches(self._split, order[start:], self._size, reading=self._reading):
            draws = self._augmentation.draw(
                batch.indices,
                shape=self._split.shape,
                colours=self._colours,
                seed=self._seed,
                epoch=epoch,
                position=position,
            )
            position += len(batch.indices)
            yield TrainingBatch(batch.images, batch.labels, batch.indices, draws, position)
