"""The record of a prepared directory, ``meta.json``: what its images are, and the length and SHA-256 of every file."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refnet import typed_json
from refnet.data.archive import read_bytes
from refnet.data.dataset import Colours, Shape
from refnet.errors import DataError
from refnet.terminal.printable import printable, reason

FORMAT, VERSION = "refnet-prepared", 1
META = "meta.json"
NAME = re.compile(r"[a-z_]+(-[a-z0-9]+)?\.(npy|txt)")  # of a file; no such name leads out of the directory
MAX_BYTES = 1 << 28


@dataclass(frozen=True)
class Shard:
    """A file of images."""

    file: str
    images: int


@dataclass(frozen=True)
class FileRecord:
    """The length and the SHA-256 of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Axes:
    """:class:`refnet.data.dataset.Colours` as tuples, for JSON."""

    mean: tuple[float, ...]
    deviations: tuple[float, ...]
    vectors: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Version:
    """The fields that ``meta.json`` has in every version."""

    format: str
    version: int


@dataclass(frozen=True)
class Meta(Version):
    """The content of ``meta.json``.

    Attributes
    ----------
    source, layout
        Where the images came from, and what was recognised there.
    test
        The split to test on: "validation" if there are no separate test images.
    left_out
        How many images could not be read.
    splits
        The shards of each split.
    files
        Every file of the directory but this one.
    """

    name: str
    source: str
    layout: str
    image_shape: Shape
    classes: tuple[str, ...]
    words: tuple[str, ...]
    colours: Axes
    test: str
    left_out: int
    splits: dict[str, tuple[Shard, ...]]
    files: dict[str, FileRecord]

    def __post_init__(self) -> None:
        """Raise ``ValueError`` where parts do not fit together."""
        channels = self.image_shape[2]
        mean, deviations, vectors = (np.shape(axes) for axes in vars(self.colours).values())
        _require(
            (mean, deviations, vectors) == ((channels,), (channels,), (channels, channels)),
            "its colours do not fit the channels",
        )
        shards = [shard for shards in self.splits.values() for shard in shards]
        for name in (*self.files, *(shard.file for shard in shards)):
            _require(bool(NAME.fullmatch(name)), f"{name!r} is not a file of a prepared folder")
        named = {shard.file for shard in shards} | {f"{name}-labels.npy" for name in self.splits}
        _require(named | {"mean.npy"} <= self.files.keys(), "files are named without a checksum")
        _require(all(shard.images > 0 for shard in shards), "a shard is empty")
        _require(len(self.classes) == len(self.words) >= 2, "its classes and words do not fit")
        _require({"train", "validation", self.test} <= self.splits.keys(), "a split is missing")
        _require(all(map(len, self.splits.values())), "a split is empty")

    def images(self, split: str) -> int:
        """Count the images of a split."""
        return sum(shard.images for shard in self.splits[split])

    @property
    def nbytes(self) -> int:
        """Length of all files together."""
        return sum(file.bytes for file in self.files.values())

    @property
    def principal(self) -> Colours:
        """The colours of the training pixels."""
        return Colours(*(np.array(values, np.float64) for values in vars(self.colours).values()))


def read_meta(root: Path) -> Meta:
    """Read ``meta.json``. Raises ``DataError`` if it is missing, damaged, or of another version."""
    path = root / META
    content = read_bytes(path, MAX_BYTES)
    try:
        made_as = typed_json.decode(Version, content, ignore_unknown=True)
        _require(made_as.format == FORMAT, "it is of another format")
        _require(made_as.version == VERSION, f"its version is {made_as.version}, this refnet reads {VERSION}")
        return typed_json.decode(Meta, content)
    except ValueError as error:
        raise DataError(f"{printable(path)} is damaged ({reason(error)}): prepare the images again") from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
