"""A source: labelled pictures in their own sizes, before they are converted for a net.

A *picture* is an original, as a file or an array. An *image* is what a net reads: the central square of a picture,
resized to the size of the net and with its number of channels.

Each reader in :mod:`refnet.data.readers` returns a `Source`; it is opened to train on (:mod:`refnet.data.on_demand`) or
prepared (:mod:`refnet.data.prepare`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from refnet.data import decode
from refnet.data.archive import Member, Place
from refnet.data.dataset import Indices, Labels, Pixels, Shape
from refnet.data.order import permutation
from refnet.errors import DataError
from refnet.randomness import Purpose
from refnet.terminal.printable import printable


class Pictures(Protocol):
    """Labelled pictures, numbered from 0."""

    @property
    def labels(self) -> Labels:
        """The class of each: int64 (n,)."""

    def __len__(self) -> int: ...

    def where(self, index: int) -> str:
        """Return the place of a picture, for messages."""

    def image(self, index: int, size: int, channels: int) -> Pixels:
        """Decode a picture and cut out its centre: uint8 (size,size,channels). Raises ``DataError``."""

    def token(self, index: int) -> str:
        """Return a string that changes if the picture does; the picture is not read."""

    def take(self, indices: Indices) -> "Pictures":
        """Return the pictures with these indices, in that order."""


class FilePictures:
    """Image files, or image files in archives."""

    def __init__(self, places: Sequence[Place], labels: Labels) -> None:
        self.paths = list(places)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, index: int) -> str:
        """See `Pictures.where`."""
        return printable(self.paths[index])

    def image(self, index: int, size: int, channels: int) -> Pixels:
        """See `Pictures.image`."""
        return decode.read(self.paths[index], size, channels)

    def token(self, index: int) -> str:
        """See `Pictures.token`: the file's name, size and time of change."""
        place = self.paths[index]
        try:
            status = Path(place.path if isinstance(place, Member) else place).stat()
        except OSError as error:
            return f"{place!r} {error.errno}"
        return f"{place!r} {status.st_size} {status.st_mtime_ns}"

    def take(self, indices: Indices) -> "FilePictures":
        """See `Pictures.take`."""
        return FilePictures([self.paths[i] for i in indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class ArrayPictures:
    """Pictures of one size in memory or from one file: labels int64 (n,), pixels uint8 (n,H,W,C) with C 1 or 3."""

    labels: Labels
    pixels: Pixels
    file: str
    digest: str  # changes if the file does

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, index: int) -> str:
        """See `Pictures.where`."""
        return f"{printable(self.file)}: image {index}"

    def image(self, index: int, size: int, channels: int) -> Pixels:
        """See `Pictures.image`.

        An image of the right shape is returned unchanged; any other is treated as if it came from a file.
        """
        pixels: Pixels = self.pixels[index]
        if pixels.shape == (size, size, channels):
            return pixels
        return decode.centre_square(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), size, channels)

    def token(self, index: int) -> str:
        """See `Pictures.token`."""
        return f"{self.digest} {index}"

    def take(self, indices: Indices) -> "ArrayPictures":
        """See `Pictures.take`."""
        return ArrayPictures(self.labels[indices], self.pixels[indices], self.file, self.digest)


SPLITS = ("train", "validation", "test")


class Form(NamedTuple):
    """The fixed shape of a source's images, and the remedy to print if a net needs another."""

    shape: Shape
    remedy: str


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as people have it: labelled images of any size.

    Attributes
    ----------
    layout
        The form that was recognised, for messages.
    classes, words
        As in :class:`refnet.data.dataset.Dataset`.
    test
        The same object as `validation` where one set of pictures serves as both.
    links
        The links that lead out of what the user named, as "name -> target"; they may be refused.
    form
        The only shape that the images can have; None, as for most sources, if any size can be made.
    test_only
        The images are for tests, not for training, so one class is enough.
    """

    name: str
    where: str
    layout: str
    classes: tuple[str, ...]
    words: tuple[str, ...]
    train: Pictures
    validation: Pictures
    test: Pictures
    form: Form | None = None
    links: tuple[str, ...] = ()
    test_only: bool = False

    def __post_init__(self) -> None:
        if len(self.classes) < 2 and not self.test_only:
            content = f"one class, '{printable(self.classes[0])}'" if self.classes else "no class"
            remedy = "a net needs at least 2 to tell apart; add images of another"
            raise DataError(f"{printable(self.where)} has {content}: {remedy}")

    @property
    def splits(self) -> dict[str, Pictures]:
        """Its different splits by name; the first name of those that are the same pictures."""
        different: dict[str, Pictures] = {}
        for name in SPLITS:
            if all(getattr(self, name) is not pictures for pictures in different.values()):
                different[name] = getattr(self, name)
        return different

    def same_as(self, split: str) -> str:
        """Return the name in `splits` of the pictures of a split."""
        return next(name for name, pictures in self.splits.items() if pictures is getattr(self, split))


def deal(where: str, pictures: Pictures, classes: Iterable[str], *, held_out: int, share: int) -> list[Pictures]:
    """Split pictures into a training part and `held_out` further parts, each with 1/share of every class.

    Return [training, first part, ...]; every part has at least one picture of each class. The choice is random with a
    fixed Philox key, so it is the same for every seed and run. Raises ``DataError`` for a class with too few pictures.
    """
    dealt: list[list[Indices]] = [[] for _ in range(held_out + 1)]
    for number, name in enumerate(classes):
        of_class = np.flatnonzero(pictures.labels == number)
        if len(of_class) <= held_out:
            raise DataError(
                f"{printable(where)}: the class '{printable(name)}' has {len(of_class)} of the {held_out + 1} images "
                f"needed to hold {held_out} out: add images, or remove the class",
            )
        order = permutation(len(of_class), key=(0, Purpose.SPLIT), counter=(0, number, 0, 0))
        count = max(1, len(of_class) // share)
        *held, rest = np.split(order, [count * part for part in range(1, held_out + 1)])
        for part, chosen in zip(dealt, (rest, *held), strict=True):
            part.append(of_class[chosen])
    return [pictures.take(np.sort(np.concatenate(part))) for part in dealt]
