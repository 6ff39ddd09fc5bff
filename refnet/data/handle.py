"""A data set in a Python program: its classes, its images as arrays, and how a net reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

from refnet import files
from refnet.data import arrays
from refnet.data.dataset import Dataset, Progress, Shape, Split
from refnet.data.fitted import Fit, fitted
from refnet.data.meta import read_meta
from refnet.data.naming import captions
from refnet.data.on_demand import open_source, split_of
from refnet.data.opening import is_prepared, open_dataset, read_source
from refnet.data.parallel import Reading
from refnet.data.source import ArrayPictures, Pictures, Source
from refnet.errors import DataError
from refnet.terminal.printable import dimensions, printable

SIZE, CHANNELS = 256, 3  # shape in which image files are shown, as in the paper


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set: classes, and labelled images for training, validation and test.

    ``data.train[0]`` is an image, uint8 (H,W,C), and its label; ``data.train[:100]`` is 100 of both;
    ``data.train.labels`` has all labels. Image files are read when they are indexed, and shown as 256x256x3. A
    network converts the images to the size that it needs.

    Attributes
    ----------
    name
        The name of the data set.
    given
        The path or name that opens it again; ``"<arrays>"`` for arrays.
    layout
        The form that was recognised, in words.
    classes
        The names of the classes; a label is an index into these.
    captions
        A readable name of each class; the class's own name if none is known.
    train
        The training images.
    validation
        The validation images.
    test
        The test images.
    source
        The labelled pictures, in their own sizes; None for a prepared data set.
    """

    name: str
    given: str
    layout: str
    classes: tuple[str, ...]
    captions: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    source: Source | None

    @classmethod
    def of(cls, source: Source, given: str) -> Self:
        """Return a source as a data set; `given` is the path or name that the user gave."""
        splits = {name: _in_own_size(pictures) for name, pictures in source.splits.items()}
        splits.setdefault("test", splits["validation"])
        called = captions(source.classes, source.words)
        return cls(source.name, given, source.layout, source.classes, called, **splits, source=source)

    @property
    def image_shape(self) -> Shape:
        """The shape (H,W,C) of the images of `train`."""
        return self.train.shape

    def dataset(
        self,
        *,
        image_size: int,
        channels: int,
        progress: Progress | None = None,
        reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
        fit: Fit | None = None,
    ) -> Dataset:
        """Return the data set with every image in the form that a net reads. Raises ``DataError``.

        `fit` converts the images, instead of a resized centre; see :mod:`refnet.data.fitted`.
        """
        if self.source is None:
            return open_dataset(
                self.given, image_size=image_size, channels=channels, progress=progress, reading=reading
            )
        return open_source(
            fitted(self.source, fit), image_size=image_size, channels=channels, progress=progress, reading=reading
        )

    def __repr__(self) -> str:
        counts = f"{len(self.train):,} training, {len(self.validation):,} validation, {len(self.test):,} test images"
        if self.test is self.validation:
            counts += " (the validation images)"
        shape = dimensions(self.image_shape)
        name = printable(self.name)
        return f"<Data {name}: {printable(self.layout)}; {len(self.classes)} classes; {counts} of {shape}>"


def open_data(
    data: str | PathLike[str] | Sequence[Any],
    *,
    validation: Sequence[Any] | None = None,
    test: Sequence[Any] | None = None,
    classes: Sequence[str] | None = None,
    follow_links: bool = False,
) -> Data:
    """Return a data set to look at, train on or evaluate with.

    Parameters
    ----------
    data
        The name of a data set (``"digits"``); a path: a folder of images by class, a prepared folder, or any other form
        that ``refnet train --data`` reads; or a pair of arrays (images, labels). Images are uint8 (N,H,W) or (N,H,W,C)
        with C 1 or 3. Labels are N integers, which count the classes from 0, or N names of classes.
    validation, test
        Pairs of arrays like `data`, only for arrays. Without them, images are held out of `data`: if both are missing,
        a fifth of each class for validation and another fifth for test; if one is missing, a tenth of each class.
    classes
        The names of the classes in the order of the labels, only for arrays. Without it, the labels name them.
    follow_links
        Whether to follow links that lead out of the folder of the images.

    Raises
    ------
    DataError
        There is nothing to read, or the arrays do not fit one another.
    """
    if not isinstance(data, str | PathLike):
        return Data.of(arrays.source(data, validation=validation, test=test, classes=classes), arrays.NAME)
    given = files.expanded(data)
    refuse_parts(f"data={given!r}", validation=validation, test=test, classes=classes)
    if not is_prepared(given):
        return Data.of(read_source(given, follow_links=follow_links), given)
    height, _, channels = read_meta(Path(given)).image_shape
    dataset = open_dataset(given, image_size=height, channels=channels)
    return Data(
        dataset.name,
        given,
        dataset.layout,
        dataset.classes,
        dataset.captions,
        dataset.train,
        dataset.validation,
        dataset.test,
        None,
    )


def refuse_parts(data: str, **parts: object) -> None:
    """Raise ``DataError`` for any argument that is only for arrays, when `data` is not arrays."""
    for name, value in parts.items():
        if value is not None:
            raise DataError(f"{name}= belongs to arrays, but {data} has its own; leave {name} out")


def _in_own_size(pictures: Pictures) -> Split:
    """Return arrays in their own size, and image files as `SIZE` x `SIZE` x `CHANNELS`."""
    shape = pictures.pixels.shape[1:] if isinstance(pictures, ArrayPictures) else (SIZE, SIZE, CHANNELS)
    return split_of(pictures, shape)
