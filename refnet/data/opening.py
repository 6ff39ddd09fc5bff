"""Open the data set that a user names: a named data set, a prepared directory, or a folder of images."""

import os
from pathlib import Path

from refnet.data import prepared
from refnet.data.dataset import Dataset, Progress
from refnet.data.fitted import Fit, fitted
from refnet.data.image_files import refuse_address
from refnet.data.on_demand import open_source
from refnet.data.parallel import Reading
from refnet.data.readers import registry
from refnet.data.source import Source
from refnet.errors import DataError
from refnet.terminal.printable import first_few, printable
from refnet.terminal.progress import Show
from refnet.terminal.spelling import setting


def open_dataset(
    data: str | os.PathLike[str],
    *,
    image_size: int,
    channels: int,
    progress: Progress | None = None,
    reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
    fit: Fit | None = None,
) -> Dataset:
    """Open the data set that a user names.

    Parameters
    ----------
    data
        The name of a data set ("digits"), or a path ("./digits" for a folder of that name).
    image_size, channels
        Side in pixels, and number of channels, of the images that the net's recipe needs.
    progress
        Called with (done, total) while the images are checked.
    fit
        What converts images that are not prepared, instead of a resized centre; see :mod:`refnet.data.fitted`.

    Raises
    ------
    DataError
        There are no images to read, or they cannot have that size.
    """
    data = os.fspath(data)
    if is_prepared(data):
        return prepared.open_prepared(data, image_size=image_size, channels=channels)
    source = fitted(read_source(data, follow_links=reading.follow_links), fit)
    return open_source(source, image_size=image_size, channels=channels, progress=progress, reading=reading)


def open_for_test(
    show: Show,
    data: str,
    *,
    image_size: int,
    channels: int,
    reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
    fit: Fit | None = None,
) -> Dataset | None:
    """Open images to test on, such as a folder of classes, none held out; None for data that have training images.

    The three splits are the same images, unless the folder has val/ and test/. Raises ``DataError`` as `open_dataset`
    does.
    """
    reader = None if is_prepared(data) else registry.reader_of(data)
    source = reader.read_for_test(data) if isinstance(reader, registry.ReaderForTest) else None
    if source is None:
        return None
    if not reading.follow_links:
        _refuse_links(source)
    with show.task("reading images") as advance:
        return open_source(
            fitted(source, fit), image_size=image_size, channels=channels, progress=advance, reading=reading
        )


def open_showing(
    show: Show,
    data: str,
    *,
    image_size: int,
    channels: int,
    reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
    fit: Fit | None = None,
) -> Dataset:
    """Open a data set as `open_dataset` does, with a progress bar."""
    with show.task("reading images") as advance:
        return open_dataset(data, image_size=image_size, channels=channels, progress=advance, reading=reading, fit=fit)


def read_source(data: str, *, follow_links: bool = False) -> Source:
    """List the images of a data set that is not prepared, with the first reader that recognises it.

    Raises ``DataError`` if no reader does, for a prepared directory and, unless `follow_links` is set, for links that
    lead out of what the user named.
    """
    refuse_address(data)
    if is_prepared(data):
        raise DataError(f"{printable(data)} is prepared already: train on it, or give the images that it was made from")
    source = registry.read(data)
    if not follow_links:
        _refuse_links(source)
    return source


def _refuse_links(source: Source) -> None:
    """Raise ``DataError`` for links that lead out of what the user named."""
    if source.links:
        lead = "a link leads" if len(source.links) == 1 else f"{len(source.links):,} links lead"
        raise DataError(
            f"{printable(source.where)}: {lead} out of it ({first_few(source.links)}): read what is there with "
            f"{setting('follow_links', True)}, or copy it into the folder"
        )


def is_absent(data: str) -> bool:
    """Tell whether what a configuration names is not on this machine: no path, and nothing that a reader knows."""
    return not os.path.exists(data) and registry.reader_of(data) is registry.READERS[-1]  # noqa: PTH110 - any form of name


def is_prepared(data: str) -> bool:
    """Tell whether a user names a prepared directory. Raises ``DataError`` if preparing it was never finished."""
    return registry.named(data) is None and prepared.recognise(Path(data), registry.names_in(data))
