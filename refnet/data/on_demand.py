"""Open a source to train on without preparing it: each picture is decoded when it is needed.

Everything is checked once before a run begins: every header, so that a stray file is found now and not in the middle of
an epoch; then every picture is decoded, the training pictures for their mean and the others to find damaged ones. For
many pictures it is faster to prepare them once (:mod:`refnet.data.prepare`).
"""

from collections.abc import Callable

import numpy as np

from refnet.data import decode
from refnet.data.dataset import ArraySplit, Dataset, Indices, Labels, Pixels, Progress, Shape, Split
from refnet.data.parallel import Reading, in_order
from refnet.data.source import ArrayPictures, Pictures, Source
from refnet.data.statistics import statistics
from refnet.errors import DataError
from refnet.terminal.printable import dimensions, printable

MAX_KEPT_BYTES = 1 << 30  # of decoded pictures, up to which a split stays in memory
HEADERS_AHEAD = 256  # headers that threads may read before they are needed


class PictureSplit(Split):
    """Pictures decoded when asked for, and kept decoded if all of them fit in `MAX_KEPT_BYTES`."""

    grain = 1

    def __init__(self, pictures: Pictures, size: int, channels: int) -> None:
        self.pictures = pictures
        self.labels: Labels = pictures.labels
        self._shape = (size, size, channels)
        fits = len(pictures) * size * size * channels <= MAX_KEPT_BYTES
        self._kept: Pixels | None = np.empty((len(pictures), *self._shape), np.uint8) if fits else None
        self._decoded = np.zeros(len(pictures), np.bool_)

    @property
    def shape(self) -> Shape:
        """See `Split.shape`."""
        return self._shape

    def fill(self, indices: Indices, out: Pixels) -> None:
        """See `Split.fill`. Two threads that want the same picture at the same time may both decode it."""
        size, _, channels = self._shape
        for image, index in zip(out, indices, strict=True):
            if self._decoded[index] and self._kept is not None:
                image[...] = self._kept[index]
                continue
            image[...] = self.pictures.image(int(index), size, channels)
            if self._kept is not None:
                self._kept[index] = image
                self._decoded[index] = True

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return self.pictures.where(index)


def open_source(
    source: Source,
    *,
    image_size: int,
    channels: int,
    progress: Progress | None = None,
    reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
) -> Dataset:
    """Open a source, each picture delivered as uint8 (image_size, image_size, channels).

    `progress` is called with (done, total); each picture counts twice, once for its header and once for its pixels.
    Raises ``DataError`` for a picture that cannot be read, and if the source cannot give images of that shape.
    """
    shape = (image_size, image_size, channels)
    check_form(source, shape)
    splits = {name: split_of(pictures, shape) for name, pictures in source.splits.items()}
    total = sum(map(len, splits.values()))

    def report(done: int) -> None:
        if progress is not None:
            progress(done, 2 * total)

    _check_headers([split.pictures for split in splits.values() if isinstance(split, PictureSplit)], reading, report)
    done = total
    sums = {}
    for name, split in splits.items():
        sums[name] = statistics(split, reading, lambda count, done=done: report(done + count))  # type: ignore[misc]
        done += len(split)
    return Dataset(
        name=source.name,
        where=source.where,
        layout=source.layout,
        classes=source.classes,
        words=source.words,
        image_shape=shape,
        train=splits["train"],
        validation=splits["validation"],
        test=splits.get("test", splits["validation"]),
        mean=sums["train"].mean(),
        colours=sums["train"].principal(),
    )


def check_form(source: Source, shape: Shape) -> None:
    """Raise ``DataError`` unless the source can give images of that shape (H,W,C)."""
    where, channels = printable(source.where), shape[2]
    if source.form and shape != source.form.shape:
        has, asked = (dimensions(form) for form in (source.form.shape, shape))
        raise DataError(
            f"{printable(source.name)}: its images are {has}, the net asks for {asked}: {source.form.remedy}"
        )
    if channels not in decode.MODES:
        raise DataError(f"{where}: images have 1 (gray) or 3 (RGB) channels, the net asks for {channels}")


def split_of(pictures: Pictures, shape: Shape) -> Split:
    """Return pictures as images of a shape; arrays of that shape are taken as they are."""
    if isinstance(pictures, ArrayPictures) and pictures.pixels.shape[1:] == shape:
        return ArraySplit(pictures.labels, pictures.pixels, pictures.file)
    return PictureSplit(pictures, shape[0], shape[2])


def _check_headers(splits: list[Pictures], reading: Reading, report: Callable[[int], None]) -> None:
    """Raise ``DataError`` for the first file that is not a readable picture, with the number of further ones."""
    pictures = ((split, index) for split in splits for index in range(len(split)))
    faults: list[str] = []
    checked = in_order(
        lambda picture: picture[0].fault(picture[1]),
        pictures,
        reading=reading,
        ahead=HEADERS_AHEAD,
        where=lambda picture: picture[0].where(picture[1]),
    )
    for done, fault in enumerate(checked, start=1):
        faults += [fault] if fault else []
        report(done)
    if faults:
        more = f"; and {len(faults) - 1} more files like it" if len(faults) > 1 else ""
        raise DataError(faults[0] + more)
