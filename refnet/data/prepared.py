"""The prepared form: images as a net reads them, once and for all, in a directory that refnet itself wrote.

The directory
-------------
- ``train-00000.npy``, ``train-00001.npy``, ...: shards, uint8 (n,H,W,C), read through the memory map; likewise
  ``validation-``, and ``test-`` where there are test images of their own;
- ``train-labels.npy``, ...: int64 (n,), the labels of all shards of a split together;
- ``mean.npy``: the mean training image, float32 (H,W,C);
- ``bad_files.txt``: the images that could not be read and were left out, with the reason, one a line;
- ``meta.json``, written last: classes, colours, where the images came from, and for every file its length and SHA-256.

Nothing in it depends on when or with how many threads it was made.

Decisions
---------
On opening, every file must be there with its length. The checksums of a directory of up to `VERIFY` bytes are verified
too; those of a larger one on request (``refnet data info``), for reading 250 GB takes minutes.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from refnet.data.archive import open_file, read_bytes
from refnet.data.dataset import Colours, Dataset, Indices, Pixels, Shape, Split
from refnet.errors import DataError, setting
from refnet.terminal.printable import printable, reason

META, BAD = "meta.json", "bad_files.txt"
UNFINISHED = "unfinished"  # a directory in it, for as long as it is being written
VERSION = 1
VERIFY = 1 << 30
LARGEST_META = 1 << 28
BLOCK = 1 << 24  # bytes hashed at a time


class PreparedSplit(Split):
    """Images in shards, through the memory map."""

    def __init__(self, root: Path, shards: list[tuple[str, int]], labels: npt.NDArray[np.int64], shape: Shape) -> None:
        self.labels = labels
        self._shape = shape
        self._paths = [root / name for name, _ in shards]
        self._stops = np.cumsum([count for _, count in shards])
        self._maps = [
            np.asarray(_load(path, (count, *shape), np.uint8, mapped=True))
            for path, (_, count) in zip(self._paths, shards, strict=True)
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


@dataclass(frozen=True)
class Meta:
    """What ``meta.json`` says, checked.

    Attributes
    ----------
    splits
        The names and lengths of each split's shards.
    aliases
        For a split that is another one, which.
    files
        Bytes and SHA-256 of every file.
    """

    name: str
    source: str
    layout: str
    classes: tuple[str, ...]
    words: tuple[str, ...]
    shape: Shape
    colours: Colours
    splits: dict[str, list[tuple[str, int]]]
    test: str
    files: dict[str, tuple[int, str]]
    left_out: int

    def images(self, split: str) -> int:
        """Count the images of a split."""
        return sum(count for _, count in self.splits[split])

    @property
    def nbytes(self) -> int:
        """Length of all files together."""
        return sum(size for size, _ in self.files.values())


def recognise(root: Path, names: frozenset[str]) -> bool:
    """Tell whether a folder with such names in it was prepared. Raises ``DataError`` if that was not finished."""
    if UNFINISHED in names and META not in names:
        raise DataError(
            f"{printable(root)} has not been prepared to the end: run the same refnet data prepare again, which goes "
            "on where it was"
        )
    return META in names


def open_prepared(where: str, *, image_size: int, channels: int) -> Dataset:
    """Open a prepared directory.

    Raises
    ------
    DataError
        A file is missing, or not as it was written; or its images are not what the net asks for.
    """
    root = Path(where)
    meta = read_meta(root)
    if meta.shape != (image_size, image_size, channels):
        has = "x".join(map(str, meta.shape))
        raise DataError(
            f"{printable(where)} was prepared as {has}, the net asks for {image_size}x{image_size}x{channels}: prepare "
            f"its source again, with {setting('size', image_size)} {setting('channels', channels)}, in another "
            "directory"
        )
    check_lengths(root, meta)
    if meta.nbytes <= VERIFY:
        for _ in verify(root, meta):
            pass
    splits = {}
    for name, shards in meta.splits.items():
        labels = _load(root / f"{name}-labels.npy", (meta.images(name),), np.int64)
        if labels.min() < 0 or labels.max() >= len(meta.classes):
            raise DataError(
                f"{printable(root)}/{name}-labels.npy has labels beyond 0..{len(meta.classes) - 1}: prepare again"
            )
        splits[name] = PreparedSplit(root, shards, labels, meta.shape)
    return Dataset(
        name=meta.name,
        where=where,
        layout=f"prepared from {meta.layout}",
        classes=meta.classes,
        words=meta.words,
        image_shape=meta.shape,
        train=splits["train"],
        validation=splits["validation"],
        test=splits[meta.test],
        mean=_load(root / "mean.npy", meta.shape, np.float32),
        colours=meta.colours,
    )


def read_meta(root: Path) -> Meta:
    """Read ``meta.json``. Raises ``DataError`` if it is missing, damaged, or of another version."""
    path = root / META
    try:
        return _checked(json.loads(read_bytes(path, LARGEST_META)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise DataError(
            f"{printable(path)} is damaged ({type(error).__name__}: {reason(error)}): prepare the images again"
        ) from error


def check_lengths(root: Path, meta: Meta) -> None:
    """Raise ``DataError`` for a file that is missing, or shorter or longer than it was written."""
    for name, (size, _) in meta.files.items():
        with open_file(root / name) as file:
            found = file.seek(0, 2)
        if found != size:
            raise DataError(
                f"{printable(root / name)} has {found:,} bytes, it was written with {size:,}: prepare the images "
                "again, or copy it again"
            )


def verify(root: Path, meta: Meta) -> Iterator[int]:
    """Hash every file; gives the bytes done so far. Raises ``DataError`` for the first that was changed."""
    done = 0
    for name, (size, expected) in meta.files.items():
        digest = hashlib.sha256()
        with open_file(root / name) as file:
            while block := _read(root / name, file):
                digest.update(block)
                yield done + file.tell()
        if digest.hexdigest() != expected:
            raise DataError(
                f"{printable(root / name)} was changed: its SHA-256 is {digest.hexdigest()[:16]}..., it was written "
                f"with {expected[:16]}...; prepare the images again, or copy it again"
            )
        done += size


def _read(path: Path, file: BinaryIO) -> bytes:
    try:
        return file.read(BLOCK)
    except OSError as error:
        raise DataError(f"{printable(path)} cannot be read: {error.strerror}; mend or replace it") from error


def _load(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, *, mapped: bool = False) -> npt.NDArray[Any]:
    """Load an array, whose form is known."""
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


def _checked(raw: Any) -> Meta:
    """Turn JSON into a `Meta`; raises one of many errors where it is not as it was written."""
    _require(raw["format"] == "refnet-prepared", "it is of another format")
    _require(raw["version"] == VERSION, f"its version is {raw['version']}, this refnet reads {VERSION}")
    height, width, channels = map(int, raw["image_shape"])
    colours = Colours(*(np.array(raw["colours"][key], np.float64) for key in ("mean", "deviations", "vectors")))
    _require(
        (colours.mean.shape, colours.deviations.shape, colours.vectors.shape)
        == ((channels,), (channels,), (channels, channels)),
        "its colours do not fit the channels",
    )
    splits = {
        str(name): [(_plain(shard["file"]), int(shard["images"])) for shard in shards]
        for name, shards in raw["splits"].items()
    }
    files = {_plain(name): (int(file["bytes"]), str(file["sha256"])) for name, file in raw["files"].items()}
    named = {shard for shards in splits.values() for shard, _ in shards} | {f"{name}-labels.npy" for name in splits}
    _require(named | {"mean.npy"} <= files.keys(), "files are named without a checksum")
    _require(all(count > 0 for shards in splits.values() for _, count in shards), "a shard is empty")
    classes, words = tuple(map(str, raw["classes"])), tuple(map(str, raw["words"]))
    _require(len(classes) == len(words) >= 2, "its classes and words do not fit")
    _require({"train", "validation", raw["test"]} <= splits.keys(), "a split is missing")
    _require(all(map(len, splits.values())), "a split is empty")
    return Meta(
        name=str(raw["name"]),
        source=str(raw["source"]),
        layout=str(raw["layout"]),
        classes=classes,
        words=words,
        shape=(height, width, channels),
        colours=colours,
        splits=splits,
        test=str(raw["test"]),
        files=files,
        left_out=int(raw["left_out"]),
    )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _plain(name: str) -> str:
    """Return the name of a file beside ``meta.json``; anything else, such as a way out of the directory, is damage."""
    _require(
        bool(re.fullmatch(r"[a-z_]+(-[a-z0-9]+)?\.(npy|txt)", name)), f"{name!r} is no file of a prepared directory"
    )
    return name
