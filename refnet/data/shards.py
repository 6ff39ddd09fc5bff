"""Shards: the files of decoded images that a prepared data set consists of.

Decisions
---------
Which pictures go into which shard is decided before any is decoded, so the files do not depend on the number of
threads. A shard is written under another name, and renamed when it is complete; then its note (labels, sums, what was
left out, and a token of its pictures) is written beside it. If the process is killed, the next try keeps the shards
whose note still matches and writes all others again, including those whose pictures have changed.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from refnet.data.dataset import Labels, Pixels, Shape
from refnet.data.meta import VERSION
from refnet.data.parallel import Reading, in_order
from refnet.data.prepared import BLOCK_BYTES
from refnet.data.source import Pictures, Source
from refnet.data.statistics import Sums
from refnet.errors import DataError
from refnet.files import replace

SHARD_BYTES = 1 << 29  # of a shard, at most: 2,730 images of 256x256, so that ImageNet is less than 500 files
PIECE_PICTURES = 32  # that a thread takes at a time
PIECES_AHEAD = 2  # that each thread may be ahead of the writer
HEADER_BYTES = 128  # before the pixels in a shard


@dataclass(frozen=True, eq=False)
class PlannedShard:
    """Pictures start..stop of a split, which become one file."""

    split: str
    number: int
    pictures: Pictures
    start: int
    stop: int

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.split}-{self.number:05}.npy"

    def token(self, shape: Shape) -> str:
        """Return a string that changes if any of the shard's pictures, labels or its format changes."""
        digest = hashlib.sha256(f"{VERSION} {shape}".encode())
        for index in range(self.start, self.stop):
            digest.update(f"{self.pictures.token(index)} {self.pictures.labels[index]}\n".encode(errors="replace"))
        return digest.hexdigest()


@dataclass
class _Piece:
    """Some pictures of a shard, for one thread."""

    shard: PlannedShard
    start: int
    stop: int
    at: int = 0  # the index of the picture that is being read


@dataclass(frozen=True, eq=False)
class Decoded:
    """The images of a piece, and the pictures that could not be read."""

    piece: _Piece
    pixels: Pixels
    labels: Labels
    faults: dict[str, str]  # where each is, to what is wrong with it
    sums: Sums


@dataclass
class ShardNote:
    """The facts about a finished shard, stored beside it until the whole data set is prepared."""

    token: str
    bytes: int
    sha256: str
    labels: Labels
    faults: dict[str, str]
    sums: Sums


@dataclass
class _Writer:
    """Writes one shard to a file."""

    shard: PlannedShard
    shape: Shape
    path: Path
    labels: list[Labels] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        header = _header((self.shard.stop - self.shard.start, *self.shape))
        self._digest = hashlib.sha256(header)
        self._sums = Sums.none(self.shape)
        self._file: BinaryIO = self.path.open("w+b")
        self._file.write(header)

    def add(self, decoded: Decoded) -> None:
        """Write the images that a thread has decoded."""
        self._digest.update(decoded.pixels.data)
        self._file.write(decoded.pixels.data)
        self.labels.append(decoded.labels)
        self.faults |= decoded.faults
        self._sums.add(decoded.sums)

    def finish(self, token: str) -> ShardNote:
        """Flush the file to the disk and return the note of the shard."""
        labels = np.concatenate(self.labels)
        if self.faults:  # fewer images than the header promised
            self._file.seek(0)
            self._file.write(_header((len(labels), *self.shape)))
            self._file.seek(0)
            self._digest = hashlib.sha256()
            while block := self._file.read(BLOCK_BYTES):
                self._digest.update(block)
        size = self._file.seek(0, os.SEEK_END)
        self._file.flush()
        os.fsync(self._file.fileno())
        return ShardNote(token, size, self._digest.hexdigest(), labels, self.faults, self._sums)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def plan_shards(source: Source, shape: Shape) -> list[PlannedShard]:
    """Divide the pictures of each split into shards of at most `SHARD_BYTES`."""
    images = max(1, (SHARD_BYTES - HEADER_BYTES) // int(np.prod(shape)))
    return [
        PlannedShard(split, number, pictures, start, min(start + images, len(pictures)))
        for split, pictures in source.splits.items()
        for number, start in enumerate(range(0, len(pictures), images))
    ]


def write_shards(
    shards: list[PlannedShard],
    finished: dict[PlannedShard, ShardNote],
    tokens: dict[PlannedShard, str],
    shape: Shape,
    workplace: Path,
    destination: Path,
    reading: Reading,
) -> Iterator[tuple[Decoded, ShardNote | None]]:
    """Write the shards that are not finished; yield each piece and, with the last of a shard, the shard's note."""
    pieces = (
        _Piece(shard, start, min(start + PIECE_PICTURES, shard.stop))
        for shard in shards
        if shard not in finished
        for start in range(shard.start, shard.stop, PIECE_PICTURES)
    )
    writer: _Writer | None = None
    decoding = in_order(
        lambda piece: _decode(piece, shape),
        pieces,
        reading=reading,
        ahead=PIECES_AHEAD * reading.workers,
        where=lambda piece: piece.shard.pictures.where(piece.at),
    )
    try:
        for decoded in decoding:
            shard, note = decoded.piece.shard, None
            writer = writer or _Writer(shard, shape, workplace / f"{shard.file}.new")
            writer.add(decoded)
            if decoded.piece.stop == shard.stop:
                note = writer.finish(tokens[shard])
                writer.close()
                writer.path.replace(destination / shard.file)
                writer = None
                _write_note(workplace / f"{shard.file}.note", note)
            yield decoded, note
    finally:
        if writer:
            writer.close()


def _decode(piece: _Piece, shape: Shape) -> Decoded:
    pictures = piece.shard.pictures
    pixels = np.empty((piece.stop - piece.start, *shape), np.uint8)
    good: list[int] = []
    faults: dict[str, str] = {}
    for index in range(piece.start, piece.stop):
        piece.at = index
        try:
            pixels[len(good)] = pictures.image(index, shape[0], shape[2])
            good.append(index)
        except DataError as error:
            faults[pictures.where(index)] = error.message
    pixels = pixels[: len(good)]
    sums = Sums.of(pixels) if piece.shard.split == "train" and good else Sums.none(shape)
    return Decoded(piece, pixels, pictures.labels[good], faults, sums)


def read_note(workplace: Path, destination: Path, shard: PlannedShard, token: str) -> ShardNote | None:
    """Read the note of a finished shard; None if there is none, or if the shard or its pictures have changed since."""
    try:
        note_file = workplace / f"{shard.file}.note"
        with note_file.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            text = json.loads(bytes(saved["text"]))
            sums = Sums(text["images"], saved["pixels"], saved["products"])
            note = ShardNote(text["token"], text["bytes"], text["sha256"], saved["labels"], dict(text["faults"]), sums)
        whole = (destination / shard.file).stat().st_size == note.bytes
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the shard is made again
        return None
    return note if whole and note.token == token else None


def _write_note(path: Path, note: ShardNote) -> None:
    sums = note.sums
    names = ("token", "bytes", "sha256", "faults")
    text = {name: getattr(note, name) for name in names} | {"images": sums.images}
    content = io.BytesIO()
    np.savez(
        content,
        text=np.frombuffer(json.dumps(text).encode(), np.uint8),
        labels=note.labels,
        pixels=sums.pixels,
        products=sums.products,
    )
    replace(path, content.getvalue())


def _header(shape: tuple[int, ...]) -> bytes:
    """Return the header of an .npy file of uint8, `HEADER_BYTES` long."""
    text = repr({"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, shape))}).encode()
    magic = np.lib.format.magic(1, 0)
    length = HEADER_BYTES - len(magic) - 2
    return magic + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n"
