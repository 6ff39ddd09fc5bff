"""The prepared form: decoded images, in the size that a net reads, in a directory that refnet wrote.

The directory
-------------
- ``train-00000.npy``, ``train-00001.npy``, ...: shards, uint8 (n,H,W,C), read through the memory map; likewise
  ``validation-``, and ``test-`` if there are separate test images;
- ``train-labels.npy``, ...: int64 (n,), the labels of all shards of a split together;
- ``mean.npy``: the mean training image, float32 (H,W,C);
- ``bad_files.txt``: the images that could not be read and were left out, with the reason, one per line;
- ``meta.json``, written last: :mod:`refnet.data.meta`.

The files are the same whenever, and with however many threads, they are made.

Decisions
---------
When the directory is opened, every file must exist and have its recorded length. The checksums of a directory of up to
`VERIFIED_BYTES` bytes are verified too; those of a larger one on request (``refnet data info``), since reading 250 GB
takes minutes.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from refnet.data.archive import open_file, unreadable
from refnet.data.damaged import counted
from refnet.data.dataset import Dataset, Indices, Pixels, Shape, Split
from refnet.data.meta import FORMAT, META, Meta, Shard, read_meta
from refnet.errors import DataError
from refnet.terminal.printable import dimensions, printable, reason
from refnet.terminal.spelling import setting

BAD = "bad_files.txt"
UNFINISHED = "unfinished"  # a directory in it, for as long as it is being written
VERIFIED_BYTES = 1 << 30  # a directory up to this size is verified whenever it is opened
BLOCK_BYTES = 1 << 24  # hashed at a time
BEGINNING_BYTES = 256  # the format is the first entry of meta.json


class PreparedSplit(Split):
    """Images in shards, through the memory map."""

    def __init__(self, root: Path, shards: Sequence[Shard], labels: npt.NDArray[np.int64], shape: Shape) -> None:
        self.labels = labels
        self._shape = shape
        self._paths = [root / shard.file for shard in shards]
        self._stops = np.cumsum([shard.images for shard in shards])
        self._maps = [
            np.asarray(_load(path, (shard.images, *shape), np.uint8, mapped=True))
            for path, shard in zip(self._paths, shards, strict=True)
        ]

    @property
    def shape(self) -> Shape:
        """See `Split.shape`."""
        return self._shape

    def fill(self, indices: Indices, out: Pixels) -> None:
        """See `Split.fill`."""
        shards = np.searchsorted(self._stops, indices, side="right")
        for image, index, shard in zip(out, indices, shards, strict=True):
            image[...] = self._maps[shard][index - self._stops[shard]]  # counted from the shard's end

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return printable(self._paths[int(np.searchsorted(self._stops, index, side="right"))])


def recognise(root: Path, names: frozenset[str]) -> bool:
    """Tell whether a folder that contains these names is a prepared directory.

    Raises ``DataError`` if its preparation was not finished.
    """
    if UNFINISHED in names and META not in names:
        raise DataError(
            f"{printable(root)} has not been prepared to the end: run the same refnet data prepare again, which goes "
            "on where it was"
        )
    return META in names and (_is_written_by_refnet(root / META) or any(name.endswith(".npy") for name in names))


def _is_written_by_refnet(path: Path) -> bool:
    """Tell whether a ``meta.json`` begins as refnet's do; annotation programs also write files of that name."""
    with open_file(path) as file:
        return FORMAT.encode() in file.read(BEGINNING_BYTES)


def open_prepared(where: str, *, image_size: int, channels: int) -> Dataset:
    """Open a prepared directory.

    Raises
    ------
    DataError
        A file is missing or was changed, or the images do not have the shape that the net needs.
    """
    root = Path(where)
    meta = read_meta(root)
    if meta.image_shape != (image_size, image_size, channels):
        has = dimensions(meta.image_shape)
        raise DataError(
            f"{printable(where)} was prepared as {has}, the net asks for {image_size}x{image_size}x{channels}: prepare "
            f"its source again, with {setting('size', image_size)} {setting('channels', channels)}, in another "
            "directory"
        )
    check_lengths(root, meta)
    if meta.nbytes <= VERIFIED_BYTES:
        for _ in verify(root, meta):
            pass
    splits = {}
    for name, shards in meta.splits.items():
        labels = _load(root / f"{name}-labels.npy", (meta.images(name),), np.int64)
        if labels.min() < 0 or labels.max() >= len(meta.classes):
            raise DataError(
                f"{printable(root)}/{name}-labels.npy has labels beyond 0..{len(meta.classes) - 1}: prepare again"
            )
        splits[name] = PreparedSplit(root, shards, labels, meta.image_shape)
    return Dataset(
        name=meta.name,
        where=where,
        layout=f"prepared from {meta.layout}{counted(meta.left_out)}",
        classes=meta.classes,
        words=meta.words,
        image_shape=meta.image_shape,
        train=splits["train"],
        validation=splits["validation"],
        test=splits[meta.test],
        mean=_load(root / "mean.npy", meta.image_shape, np.float32),
        colours=meta.principal,
    )


def check_lengths(root: Path, meta: Meta) -> None:
    """Raise ``DataError`` for a file that is missing, or shorter or longer than it was written."""
    for name, written in meta.files.items():
        with open_file(root / name) as file:
            length = file.seek(0, 2)
        if length != written.bytes:
            raise DataError(
                f"{printable(root / name)} has {length:,} bytes, it was written with {written.bytes:,}: prepare the "
                "images again, or copy it again"
            )


def verify(root: Path, meta: Meta) -> Iterator[int]:
    """Hash every file; yield the number of bytes done so far. Raises ``DataError`` for the first changed file."""
    done = 0
    for name, written in meta.files.items():
        digest = hashlib.sha256()
        with open_file(root / name) as file:
            while block := _read(root / name, file):
                digest.update(block)
                yield done + file.tell()
        if digest.hexdigest() != written.sha256:
            raise DataError(
                f"{printable(root / name)} was changed: its SHA-256 is {digest.hexdigest()[:16]}..., it was written "
                f"with {written.sha256[:16]}...; prepare the images again, or copy it again"
            )
        done += written.bytes


def _read(path: Path, file: BinaryIO) -> bytes:
    try:
        return file.read(BLOCK_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error


def _load(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, *, mapped: bool = False) -> npt.NDArray[Any]:
    """Return the array of an .npy file. Raises ``DataError`` unless it has this shape and dtype."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{printable(path)} cannot be read ({reason(error)}): prepare the images again") from error
    if array.shape != shape or array.dtype != dtype:
        raise DataError(
            f"{printable(path)} holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}: prepare the images "
            "again"
        )
    return array
