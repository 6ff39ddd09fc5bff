"""The data set that the trainer uses: three splits of labelled uint8 images, and statistics of the training images.

A `Dataset` hides where the images came from. Images are (H,W,C), as files hold them; the chapter
:mod:`refnet.ops.augment` turns them into what a net reads.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import numpy.typing as npt

from refnet.data import naming
from refnet.data.order import permutation
from refnet.errors import DataError
from refnet.randomness import Purpose
from refnet.terminal.printable import printable
from refnet.terminal.spelling import setting

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.integer]
Labels = npt.NDArray[np.int64]
Mean = npt.NDArray[np.float32]
Shape = tuple[int, int, int]  # (H,W,C)
Progress = Callable[[int, int], None]  # (done, total)


class Split(ABC):
    """Labelled images, all of one shape, numbered from 0.

    Attributes
    ----------
    labels
        The class of each image: int64 (n,).
    grain
        How many images a thread reads at a time.
    """

    labels: Labels
    grain: int = 32

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """The shape (H,W,C) of every image."""

    @abstractmethod
    def fill(self, indices: Indices, out: Pixels) -> None:
        """Write the images asked for, in that order, to `out`: uint8 (len(indices), H, W, C).

        Threads may call it at once. Raises ``DataError`` for a file that cannot be read.
        """

    @abstractmethod
    def where(self, index: int) -> str:
        """Return a name of an image, or of the file that contains it, for a one-line message."""

    def images(self, indices: Indices) -> Pixels:
        """Return the images asked for, in that order, as a fresh array: uint8 (len(indices), H, W, C)."""
        out = np.empty((len(indices), *self.shape), np.uint8)
        self.fill(indices, out)
        return out

    @overload
    def __getitem__(self, index: int) -> tuple[Pixels, int]: ...
    @overload
    def __getitem__(self, index: slice | Indices) -> tuple[Pixels, Labels]: ...
    def __getitem__(self, index: int | slice | Indices) -> tuple[Pixels, int | Labels]:
        """Return one image (H,W,C) and its label, or several of both: (n,H,W,C) and (n,)."""
        if isinstance(index, int | np.integer):
            number = int(np.arange(len(self))[index])
            return self.images(np.array([number]))[0], int(self.labels[number])
        chosen = np.arange(len(self))[index]
        return self.images(chosen), self.labels[chosen]

    def __repr__(self) -> str:
        height, width, channels = self.shape
        return f"<{len(self):,} images of {height}x{width}x{channels}>"


@dataclass(frozen=True, eq=False, repr=False)
class ArraySplit(Split):
    """A split in memory: labels int64 (n,), pixels uint8 (n,H,W,C)."""

    labels: Labels
    pixels: Pixels
    name: str = "memory"

    @property
    def shape(self) -> Shape:
        """See `Split.shape`."""
        _, height, width, channels = self.pixels.shape
        return height, width, channels

    def fill(self, indices: Indices, out: Pixels) -> None:
        """See `Split.fill`."""
        for image, index in zip(out, indices, strict=True):
            image[...] = self.pixels[index]

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return f"image {index} of {self.name}"


@dataclass(frozen=True, eq=False, repr=False)
class PartialSplit(Split):
    """A part of a split: `chosen` has the index of each image in `whole`, int64 (n,)."""

    whole: Split
    chosen: Indices

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.whole.labels[self.chosen])
        object.__setattr__(self, "grain", self.whole.grain)

    @property
    def shape(self) -> Shape:
        """See `Split.shape`."""
        return self.whole.shape

    def fill(self, indices: Indices, out: Pixels) -> None:
        """See `Split.fill`."""
        self.whole.fill(self.chosen[indices], out)

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return self.whole.where(int(self.chosen[index]))


@dataclass(frozen=True, eq=False, repr=False)
class RelabelledSplit(PartialSplit):
    """A part of a split under other labels: `number` has the new label of each old one, int64 (classes,)."""

    number: Labels

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "labels", self.number[self.labels])


def subset(split: Split, count: int) -> Split:
    """Return `count` random images of a split, the same ones each time; a smaller subset is part of a larger one."""
    if count >= len(split):
        return split
    order = permutation(len(split), key=(0, Purpose.SPLIT), counter=(1, 0, 0, 0))
    return PartialSplit(split, np.sort(order[:count]))


@dataclass(frozen=True, eq=False)
class Colours:
    """How the colours of the training pixels vary, in grey levels 0..255.

    Attributes
    ----------
    mean
        The mean of each channel: float64 (C,).
    deviations
        Standard deviations along the principal axes, in ascending order: float64 (C,).
    vectors
        The axes as columns of length 1: float64 (C,C).
    """

    mean: npt.NDArray[np.float64]
    deviations: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything the trainer needs of data."""

    name: str
    where: str  # a path, or the `WHERE` of a named data set's reader
    layout: str  # the form that was recognised, for messages
    classes: tuple[str, ...]  # a label is an index into these; WNIDs in ImageNet
    words: tuple[str, ...]  # a readable name of each class, or the class itself
    image_shape: Shape  # larger than the crop that the net reads, or equal
    train: Split
    validation: Split
    test: Split
    mean: Mean  # float32 (H,W,C), of the training images
    colours: Colours  # of the training images
    warning: str = ""  # a line about images that were left out; empty if there are none

    @property
    def names(self) -> tuple[str, ...]:
        """See :func:`refnet.data.naming.names`."""
        return naming.names(self.classes, self.words)

    @property
    def captions(self) -> tuple[str, ...]:
        """See :func:`refnet.data.naming.captions`."""
        return naming.captions(self.classes, self.words)

    def subset(self, images: int) -> "Dataset":
        """Return a data set of `images` training images and the same fraction of the validation images.

        All test images are kept; the mean and the colours are still those of all training images.
        """
        share = max(1, round(len(self.validation) * images / len(self.train)))
        validation = subset(self.validation, share)
        test = validation if self.test is self.validation else self.test
        return replace(self, train=subset(self.train, images), validation=validation, test=test)


def describe(dataset: Dataset) -> str:
    """Describe a data set in one line: where, layout, classes, counts and shape."""
    height, width, channels = dataset.image_shape
    counts = f"{len(dataset.train):,} training, {len(dataset.validation):,} validation and {len(dataset.test):,} test"
    if dataset.train is dataset.test:
        other = "" if dataset.validation is dataset.test else f"{len(dataset.validation):,} validation and "
        counts = f"{other}{len(dataset.test):,} test"
    place = "" if dataset.where == dataset.name else f" ({printable(dataset.where)})"
    return (
        f"{printable(dataset.name)}{place}: {dataset.layout}; {len(dataset.classes)} classes; "
        f"{counts} images of {height}x{width}x{channels}"
    )


def check_fits(dataset: Dataset, outputs: int) -> None:
    """Raise ``DataError`` unless every label of the data set names an output of the net."""
    name = printable(dataset.name)
    if len(dataset.classes) > outputs:
        raise DataError(
            f"{name} has {len(dataset.classes)} classes, the net has {outputs} outputs; give "
            f"{setting('outputs', len(dataset.classes))}, or leave it out for one output for each class"
        )
    splits = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for which, split in splits.items():
        wrong = split.labels[(split.labels < 0) | (split.labels >= len(dataset.classes))]
        if wrong.size:
            raise DataError(
                f"{name}: a {which} label is {wrong[0]}, but labels must lie in 0..{len(dataset.classes) - 1} "
                f"({wrong.size} of {len(split)} do not): correct the labels",
            )
