"""The readers, one for each form in which data sets exist. A new form needs one module and a line in `READERS`.

Another package adds a reader with an entry point, without a change in refnet::

    [project.entry-points."refnet.readers"]
    myform = "mypackage.reader"

The module (or object) has the functions of :class:`Reader`. The entry point of a data set with a name has that name.
"""

import os
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from refnet.data import arrays
from refnet.data.dataset import Pixels
from refnet.data.readers import cifar, digits, folder, idx, ilsvrc
from refnet.data.source import Source
from refnet.errors import DataError
from refnet.terminal.printable import printable, reason

GROUP = "refnet.readers"


@runtime_checkable
class Reader(Protocol):
    """Reads data sets of one form."""

    def recognise(self, data: str, names: frozenset[str]) -> bool:
        """Tell whether data are in this form.

        Parameters
        ----------
        data
            What the user named: a path or a name.
        names
            The names of its files and folders that are not hidden; empty if it is not a folder that can be listed.
        """

    def read(self, data: str) -> Source:
        """List the images, with labels and classes. Raises ``DataError``, which names the file."""


@runtime_checkable
class NamedReader(Reader, Protocol):
    """Reads a data set that has a name instead of a path."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """The name by which a user asks for it; its `Source` has it too."""

    @property
    def WHERE(self) -> str:  # noqa: N802
        """Where its images are, as its `Source` says: not a path."""

    def fit(self, image: Image.Image) -> Pixels:
        """Return a photograph as an image of this data set: uint8 (H,W,C)."""


@runtime_checkable
class ReaderForTest(Reader, Protocol):
    """Also reads images to test on, which come without images to train on."""

    def read_for_test(self, data: str) -> Source | None:
        """List the images, of which each split has all; None if there are images to train on. Raises ``DataError``."""


# They are asked in this order. The last takes any folder, so readers of other packages are asked before it.
READERS: tuple[Reader, ...] = (
    digits,
    arrays,
    cifar,
    idx,
    ilsvrc,
    folder,
)


def reader_of(data: str) -> Reader:
    """Return the first reader that recognises what a user named.

    Raises ``DataError`` for a form that refnet refuses to read, and for a reader that cannot be loaded.
    """
    names = names_in(data)
    *first, last = READERS
    return next((reader for reader in _all(first) if reader.recognise(data, names)), last)


def read(data: str) -> Source:
    """List the images of what a user named. Raises ``DataError``."""
    return reader_of(data).read(data)


def named(name: str) -> NamedReader | None:
    """Return the reader of the data set that has this name; None for any other text, such as a path."""
    for reader in READERS:
        if isinstance(reader, NamedReader) and name == reader.NAME:
            return reader
    point = _entry_points().get(name)
    external = _load(point) if point else None
    return external if isinstance(external, NamedReader) and name == external.NAME else None


def fixed_path(data: str) -> str:
    """Return a data set's name unchanged, or its absolute path, which is valid from any folder."""
    return data if named(data) or data == arrays.NAME else str(Path(data).absolute())


def names_in(data: str) -> frozenset[str]:
    """Return the names in a folder that are not hidden; an empty set if it is not a folder that can be listed."""
    try:
        return frozenset(name for name in os.listdir(data) if not name.startswith("."))  # noqa: PTH208 - the names alone
    except (OSError, ValueError):
        return frozenset()


def _all(first: list[Reader]) -> Iterator[Reader]:
    yield from first
    for _, point in sorted(_entry_points().items()):
        yield _load(point)


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _load(point: EntryPoint) -> Reader:
    try:
        reader = point.load()
    except Exception as error:  # another package may raise anything when it is loaded
        raise DataError(
            f"the reader {printable(point.name)} ({printable(point.value)}) cannot be loaded ({reason(error)}): "
            "update its package or uninstall it"
        ) from error
    if not isinstance(reader, Reader):
        raise DataError(
            f"the reader {printable(point.name)} ({printable(point.value)}) lacks recognise or read: update its "
            "package or uninstall it"
        )
    return reader
