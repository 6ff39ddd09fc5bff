"""Open a source to train on without preparing it: each picture is decoded when it is needed.

Every picture is decoded once before a run begins: the training pictures for their mean, and all of them to find the
damaged ones (:mod:`refnet.data.damaged`). For many pictures it is faster to prepare them once
(:mod:`refnet.data.prepare`).
"""

from collections.abc import Callable

import numpy as np

from refnet.data import damaged, decode
from refnet.data.dataset import ArraySplit, Dataset, Indices, Labels, PartialSplit, Pixels, Progress, Shape, Split
from refnet.data.parallel import Reading, in_order
from refnet.data.source import ArrayPictures, Pictures, Source
from refnet.data.statistics import BATCH, Sums
from refnet.errors import DataError
from refnet.terminal.printable import dimensions, printable

MAX_KEPT_BYTES = 1 << 30  # of decoded pictures, up to which a split stays in memory


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

    `progress` is called with (done, total) while every picture is decoded once.
    Raises ``DataError`` for more damaged pictures than `reading` allows, and if the source cannot give images of that
    shape.
    """
    shape = (image_size, image_size, channels)
    check_form(source, shape)
    splits = {name: split_of(pictures, shape) for name, pictures in source.splits.items()}
    total = sum(map(len, splits.values()))

    done = 0

    def report(count: int) -> None:
        if progress is not None:
            progress(done + count, total)

    faults: dict[str, str] = {}
    sums: dict[str, Sums] = {}
    for name, split in splits.items():
        sums[name], damaged_here = _decode_all(split, reading, report)
        done += len(split)
        faults |= {split.where(index): fault for index, fault in damaged_here.items()}
        if damaged_here:
            splits[name] = PartialSplit(split, np.delete(np.arange(len(split)), [*damaged_here]))
    damaged.refuse_damaged(faults, total, reading.bad, where=source.where)
    needed = () if source.test_only else source.classes
    damaged.refuse_empty({name: split.labels for name, split in splits.items()}, needed, source.where)
    return Dataset(
        name=source.name,
        where=source.where,
        layout=source.layout + damaged.counted(len(faults)),
        classes=source.classes,
        words=source.words,
        image_shape=shape,
        train=splits["train"],
        validation=splits[source.same_as("validation")],
        test=splits[source.same_as("test")],
        mean=sums["train"].mean(),
        colours=sums["train"].principal(),
        warning=damaged.left_out(faults, total) if faults else "",
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


def _decode_all(split: Split, reading: Reading, report: Callable[[int], None]) -> tuple[Sums, dict[int, str]]:
    """Decode each image of a split once; return the sums over the readable ones, and the faults of the others by index.

    `report` is called with the number of images done.
    """
    sums, faults = Sums.none(split.shape), dict[int, str]()
    batch: list[Pixels] = []
    pieces = [range(start, min(start + split.grain, len(split))) for start in range(0, len(split), split.grain)]
    decoded = in_order(
        lambda piece: _decode(split, piece),
        pieces,
        reading=reading,
        ahead=BATCH // split.grain,
        where=lambda piece: split.where(piece[0]),
    )
    for piece, (images, damaged_here) in zip(pieces, decoded, strict=True):
        faults |= damaged_here
        batch.append(images)
        if piece.stop % BATCH == 0 or piece.stop == len(split):
            sums.add(Sums.of(np.concatenate(batch)))
            batch.clear()
        report(piece.stop)
    return sums, faults


def _decode(split: Split, piece: range) -> tuple[Pixels, dict[int, str]]:
    """Return the images of a piece that can be read, and the faults of the others by index."""
    try:
        return split.images(np.arange(piece.start, piece.stop)), {}
    except DataError as error:
        if len(piece) == 1:
            return np.empty((0, *split.shape), np.uint8), {piece[0]: error.message}
    images, faults = zip(*(_decode(split, range(index, index + 1)) for index in piece), strict=True)
    return np.concatenate(images), {index: fault for found in faults for index, fault in found.items()}
