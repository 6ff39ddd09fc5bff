"""What a data set is to the trainer: three splits of labelled uint8 images and one mean image.

A reader (:mod:`refnet.data.digits`, :mod:`refnet.data.folder`) returns a `Dataset`; nothing behind it knows where
the images came from. Images are (H,W,C), as files hold them; :mod:`refnet.data.crops` turns them into (C,h,w).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from refnet.errors import DataError

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.integer]
Labels = npt.NDArray[np.int64]
Mean = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]  # (done, total)

CHUNK = 256  # images held at once while the mean is summed


class Split(Protocol):
    """Labelled images, all of one shape, numbered from 0."""

    @property
    def labels(self) -> Labels:
        """The class of each image: int64 (n,)."""

    def __len__(self) -> int: ...

    def images(self, indices: Indices) -> Pixels:
        """Return the images asked for, in that order, as a fresh array: uint8 (len(indices), H, W, C).

        Raises ``DataError`` for a file that cannot be read.
        """


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """A split that lies in memory: labels int64 (n,), pixels uint8 (n,H,W,C)."""

    labels: Labels
    pixels: Pixels

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Indices) -> Pixels:
        """See `Split.images`."""
        return self.pixels[np.asarray(indices, np.intp)]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything the trainer asks of data."""

    name: str
    where: str  # a path, or "embedded"
    layout: str  # what was recognised there, in words for the user
    classes: tuple[str, ...]  # a label is an index into these
    image_shape: tuple[int, int, int]  # (H,W,C), larger than the crop that the net reads
    train: Split
    validation: Split
    test: Split
    mean: Mean  # float32 (H,W,C)


def mean_image(split: Split, report: Callable[[int], None] = lambda _: None) -> Mean:
    """Average a split's images pixel by pixel: float32 (H,W,C).

    Paper, section 2: "subtracting the mean activity over the training set from each pixel". Summed in integers, so
    exactly and in no particular order; divided in float64. `report` is told how many images are done.
    """
    sums = np.zeros((), np.int64)
    done = 0
    for pixels in chunks(split):
        sums = sums + pixels.sum(axis=0, dtype=np.int64)
        done += len(pixels)
        report(done)
    return (sums / len(split)).astype(np.float32)


def chunks(split: Split) -> Iterator[Pixels]:
    """Go through all images of a split, at most CHUNK at a time."""
    for start in range(0, len(split), CHUNK):
        yield split.images(np.arange(start, min(start + CHUNK, len(split))))


def describe(dataset: Dataset) -> str:
    """Say in one line what was recognised: where, layout, classes, counts and shape."""
    height, width, channels = dataset.image_shape
    return (
        f"{shown(dataset.name)} ({shown(dataset.where)}): {dataset.layout}; {len(dataset.classes)} classes; "
        f"{len(dataset.train):,} training, {len(dataset.validation):,} validation and {len(dataset.test):,} test "
        f"images of {height}x{width}x{channels}"
    )


def check_fits(dataset: Dataset, outputs: int) -> None:
    """Raise ``DataError`` unless every label of the data set names an output of the net."""
    name = shown(dataset.name)
    if len(dataset.classes) > outputs:
        raise DataError(
            f"{name} has {len(dataset.classes)} classes, the net has {outputs} outputs: give the net at least "
            f"{len(dataset.classes)} outputs, or remove classes",
        )
    splits = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for which, split in splits.items():
        wrong = split.labels[(split.labels < 0) | (split.labels >= len(dataset.classes))]
        if wrong.size:
            raise DataError(
                f"{name}: a {which} label is {wrong[0]}, but labels must lie in 0..{len(dataset.classes) - 1} "
                f"({wrong.size} of {len(split)} do not): mend the labels",
            )


def shown(name: str | Path) -> str:
    """Return a file's name fit for a message of one line: as it is, or escaped if it holds control characters."""
    text = str(name)
    return text if text.isprintable() else ascii(text)
