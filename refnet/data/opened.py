"""A source, opened to train on as it is: every picture decoded when it is asked for.

Everything is looked at once before a run begins: every header, so that a stray file is found now and not in the middle
of an epoch; then every picture is decoded, the training pictures for their mean and the others so that a damaged one
is found. Many pictures are better prepared once (:mod:`refnet.data.prepare`).
"""

from collections.abc import Callable

import numpy as np

from refnet.data import decode
from refnet.data.dataset import Dataset, Indices, Labels, Pixels, Progress, Shape, Split
from refnet.data.parallel import Reading, in_order
from refnet.data.source import Pictures, Source
from refnet.data.statistics import statistics
from refnet.errors import DataError
from refnet.terminal.printable import printable

KEEP = 1 << 30  # bytes of decoded pictures up to which a split stays in memory
AHEAD = 256  # headers looked at ahead


class PictureSplit(Split):
    """Pictures decoded when asked for, and kept decoded if all of them fit in `KEEP` bytes."""

    grain = 1

    def __init__(self, pictures: Pictures, size: int, channels: int) -> None:
        self.pictures = pictures
        self.labels: Labels = pictures.labels
        self._shape = (size, size, channels)
        fits = len(pictures) * size * size * channels <= KEEP
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
    source: Source, *, image_size: int, channels: int, progress: Progress | None = None, reading: Reading
) -> Dataset:
    """Open a source, each picture delivered as uint8 (image_size, image_size, channels).

    `progress` is told (done, total); each picture counts twice, its header and itself. Raises ``DataError`` for a
    picture that cannot be read, and for a number of channels that pictures do not have.
    """
    check_channels(source.where, channels)
    splits = {name: PictureSplit(pictures, image_size, channels) for name, pictures in source.splits.items()}
    total = sum(map(len, splits.values()))

    def report(done: int) -> None:
        if progress is not None:
            progress(done, 2 * total)

    _check_headers(list(source.splits.values()), reading, report)
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
        image_shape=(image_size, image_size, channels),
        train=splits["train"],
        validation=splits["validation"],
        test=splits.get("test", splits["validation"]),
        mean=sums["train"].mean(),
        colours=sums["train"].principal(),
    )


def check_channels(where: str, channels: int) -> None:
    """Raise ``DataError`` unless pictures can have so many channels."""
    if channels not in decode.MODES:
        raise DataError(f"{printable(where)}: images have 1 (gray) or 3 (RGB) channels, the net asks for {channels}")


def _check_headers(splits: list[Pictures], reading: Reading, report: Callable[[int], None]) -> None:
    """Raise ``DataError`` with the first picture that is none, and how many more there are."""
    everyone = ((split, index) for split in splits for index in range(len(split)))
    faults: list[str] = []
    found = in_order(
        lambda one: one[0].fault(one[1]),
        everyone,
        reading=reading,
        ahead=AHEAD,
        where=lambda one: one[0].where(one[1]),
    )
    for done, fault in enumerate(found, start=1):
        faults += [fault] if fault else []
        report(done)
    if faults:
        more = f"; and {len(faults) - 1} more files like it" if len(faults) > 1 else ""
        raise DataError(faults[0] + more)
