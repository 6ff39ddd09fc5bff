"""Data sets: one function opens what a user names, whatever kind it is.

:mod:`~refnet.data.dataset` says what the trainer asks of data. Readers list what lies on disk:
:mod:`refnet.data.readers`; :mod:`~refnet.data.prepared` is the form that refnet makes itself, once, to train from.
:mod:`~refnet.data.loader` reads ahead of the trainer; :mod:`~refnet.data.order` and :mod:`~refnet.data.crops` draw
what differs from epoch to epoch.
"""

from pathlib import Path

from refnet.data import prepared
from refnet.data.dataset import Dataset, Progress, Split, check_fits, describe, few
from refnet.data.fingerprint import fingerprint
from refnet.data.opened import open_source
from refnet.data.parallel import Reading
from refnet.data.readers import cifar, digits, idx, ilsvrc
from refnet.data.readers.folder import list_names, read_folder
from refnet.data.source import Source
from refnet.errors import DataError
from refnet.terminal.printable import printable
from refnet.terminal.progress import Show

__all__ = [
    "Dataset",
    "Reading",
    "Source",
    "Split",
    "check_fits",
    "describe",
    "few",
    "fingerprint",
    "open_dataset",
    "open_showing",
    "read_source",
]


def open_dataset(
    what: str,
    *,
    image_size: int,
    channels: int,
    progress: Progress | None = None,
    reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
) -> Dataset:
    """Open the data set that a user named: "digits", or a path ("./digits" for a folder so named).

    `image_size` and `channels` are the images that the net's recipe asks for; `progress` is told (done, total) while
    images are looked at. Raises ``DataError`` if there is nothing to read there or it cannot give such images.
    """
    if what == "digits":
        if (image_size, channels) != (digits.SIZE, digits.CHANNELS):
            raise DataError(
                f"digits: its images are {digits.SIZE}x{digits.SIZE}x{digits.CHANNELS}, the net asks for "
                f"{image_size}x{image_size}x{channels}: train the net 'digits' on them, or give a folder of images",
            )
        return digits.open_digits()
    if prepared.recognise(Path(what), _names(what)):
        return prepared.open_prepared(what, image_size=image_size, channels=channels)
    source = read_source(what)
    return open_source(source, image_size=image_size, channels=channels, progress=progress, reading=reading)


def open_showing(
    show: Show,
    what: str,
    *,
    image_size: int,
    channels: int,
    reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
) -> Dataset:
    """Open a data set as `open_dataset` does, and show how far it is."""
    with show.task("reading images") as advance:
        return open_dataset(what, image_size=image_size, channels=channels, progress=advance, reading=reading)


def read_source(where: str) -> Source:
    """List what lies at a path, by the first reader that recognises it; a tree of images is the last.

    Raises ``DataError`` if there is nothing that any of them reads.
    """
    root, names = Path(where), _names(where)
    if prepared.recognise(root, names):
        raise DataError(
            f"{printable(where)} is prepared already: train on it, or give the images that it was made from"
        )
    if folder := cifar.recognise(root, names):
        return cifar.read_cifar(where, folder)
    if idx.recognise(names):
        return idx.read_idx(where)
    if ilsvrc.recognise(root, names):
        return ilsvrc.read_ilsvrc(where)
    return read_folder(where)


def _names(where: str) -> set[str]:
    """Name what lies in a folder. Raises ``DataError`` for what is none."""
    cifar.refuse_pickle(Path(where))
    return list_names(where)
