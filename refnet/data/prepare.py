"""Prepare a source: decode every picture once, and write what :mod:`refnet.data.prepared` describes.

Source
------
Paper, section 2: "we first rescaled the image such that the shorter side was of length 256, and then cropped out the
central 256x256 patch". As this is the same for every epoch it is done once; then an epoch reads bytes instead of
decoding pictures.

Decisions
---------
Which pictures go into which shard is settled before any is decoded, so the number of threads changes no byte. A shard
is written under another name, and renamed when it is whole; then a note of it (labels, sums, what was left out, and a
token of the pictures it came from) is laid beside. After a kill, the shards whose note still fits are kept, and the
others made anew: also those whose pictures have changed meanwhile.

A picture that cannot be read is left out and listed. More than one in a hundred, or one under ``strict``, end the
preparation: then something is wrong with the source, not with a file.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from refnet import typed_json
from refnet.data.dataset import Labels, Pixels, Shape
from refnet.data.meta import FORMAT, META, VERSION, Axes, File, Meta, Shard
from refnet.data.on_demand import check_form
from refnet.data.parallel import Reading, in_order
from refnet.data.prepared import BAD, BLOCK_BYTES, UNFINISHED
from refnet.data.source import Pictures, Source
from refnet.data.statistics import Sums
from refnet.errors import ConfigError, DataError, setting
from refnet.files import remove_orphans, replace
from refnet.terminal.printable import printable
from refnet.terminal.progress import Show

SHARD = 1 << 29  # bytes of a shard, at most: 2,730 images of 256x256, so that ImageNet is less than 500 files
PIECE = 32  # pictures that a thread takes at a time
AHEAD = 2  # pieces that each thread is ahead of the writer
TOLERATED = 100  # one bad picture in so many is left out
HEADER = 128  # bytes before the pixels in a shard


@dataclass(frozen=True)
class Summary:
    """What was prepared: images by split, how many were left out, how many shards had been done before."""

    images: dict[str, int]
    left_out: int
    shards: int
    shards_kept: int
    seconds: float


@dataclass(frozen=True, eq=False)
class _Shard:
    """Pictures start..stop of a split, that become one file."""

    split: str
    number: int
    pictures: Pictures
    start: int
    stop: int

    @property
    def file(self) -> str:
        return f"{self.split}-{self.number:05}.npy"

    def token(self, shape: Shape) -> str:
        """Return a text that changes if anything does that the shard is made of."""
        digest = hashlib.sha256(f"{VERSION} {shape}".encode())
        for index in range(self.start, self.stop):
            digest.update(f"{self.pictures.token(index)} {self.pictures.labels[index]}\n".encode(errors="replace"))
        return digest.hexdigest()


@dataclass
class _Piece:
    """Some pictures of a shard, for one thread."""

    shard: _Shard
    start: int
    stop: int
    at: int = 0  # the picture that is being read


@dataclass(frozen=True, eq=False)
class _Decoded:
    """What became of a piece."""

    piece: _Piece
    pixels: Pixels
    labels: Labels
    faults: list[str]
    sums: Sums


@dataclass
class _Note:
    """What is known of a finished shard."""

    token: str
    bytes: int
    sha256: str
    labels: Labels
    faults: list[str]
    sums: Sums


@dataclass
class _Writer:
    """A shard on its way to the disk."""

    shard: _Shard
    shape: Shape
    path: Path
    labels: list[Labels] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        header = _header((self.shard.stop - self.shard.start, *self.shape))
        self._digest = hashlib.sha256(header)
        self._sums = Sums.none(self.shape)
        self._file: BinaryIO = self.path.open("w+b")
        self._file.write(header)

    def add(self, decoded: _Decoded) -> None:
        """Write what a thread has decoded."""
        self._digest.update(decoded.pixels.data)
        self._file.write(decoded.pixels.data)
        self.labels.append(decoded.labels)
        self.faults += decoded.faults
        self._sums.add(decoded.sums)

    def finish(self, token: str) -> _Note:
        """Write the last of it to the disk."""
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
        return _Note(token, size, self._digest.hexdigest(), labels, self.faults, self._sums)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def prepare(
    source: Source,
    destination: Path,
    *,
    size: int,
    channels: int,
    strict: bool,
    reading: Reading,
    show: Show,
) -> Summary:
    """Prepare a source as images of size x size x channels.

    Raises
    ------
    ConfigError
        The directory holds something else, was prepared already, is being prepared by another process, or cannot be
        written.
    DataError
        Too many pictures cannot be read, or all of a class.
    """
    began = time.monotonic()
    shape = (size, size, channels)
    check_form(source, shape)
    with _writing(destination), _claimed(destination, Path(source.where)) as workplace, threadpool_limits(1, "blas"):
        shards = _plan(source, shape)
        with show.task("looking for what is done", len(shards)) as advance:
            notes, tokens = {}, {}
            for done, shard in enumerate(shards, start=1):
                tokens[shard] = shard.token(shape)
                if note := _noted(workplace, destination, shard, tokens[shard]):
                    notes[shard] = note
                advance(done)
        kept = len(notes)
        _check_room(destination, [shard for shard in shards if shard not in notes], shape)
        total = sum(map(len, source.splits.values()))
        faults = [fault for note in notes.values() for fault in note.faults]
        _judge(destination, faults, total, strict=strict)
        with show.task("preparing", total) as advance:
            skipped = done = sum(shard.stop - shard.start for shard in notes)
            working = time.monotonic()
            for decoded, note in _write(shards, notes, tokens, shape, workplace, destination, reading):
                if note:
                    notes[decoded.piece.shard] = note
                faults += decoded.faults
                _judge(destination, faults, total, strict=strict)
                done += decoded.piece.stop - decoded.piece.start
                rate = (done - skipped) / max(time.monotonic() - working, 1e-9)
                advance(done, total, f"{rate:.0f} images/s, {(total - done) / rate:.0f} s left")
        images = _complete(source, destination, shape, {shard: notes[shard] for shard in shards})
        shutil.rmtree(workplace)
    return Summary(images, len(faults), len(shards), kept, round(time.monotonic() - began, 3))


def _plan(source: Source, shape: Shape) -> list[_Shard]:
    each = max(1, (SHARD - HEADER) // int(np.prod(shape)))
    return [
        _Shard(split, number, pictures, start, min(start + each, len(pictures)))
        for split, pictures in source.splits.items()
        for number, start in enumerate(range(0, len(pictures), each))
    ]


def _write(
    shards: list[_Shard],
    finished: dict[_Shard, _Note],
    tokens: dict[_Shard, str],
    shape: Shape,
    workplace: Path,
    destination: Path,
    reading: Reading,
) -> Iterator[tuple[_Decoded, _Note | None]]:
    """Write all shards that are not finished; gives each piece, and with the last of a shard the shard's note."""
    pieces = (
        _Piece(shard, start, min(start + PIECE, shard.stop))
        for shard in shards
        if shard not in finished
        for start in range(shard.start, shard.stop, PIECE)
    )
    writer: _Writer | None = None
    decoding = in_order(
        lambda piece: _decode(piece, shape),
        pieces,
        reading=reading,
        ahead=AHEAD * reading.workers,
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
                _save(workplace / f"{shard.file}.note", note)
            yield decoded, note
    finally:
        if writer:
            writer.close()


def _decode(piece: _Piece, shape: Shape) -> _Decoded:
    pictures = piece.shard.pictures
    pixels = np.empty((piece.stop - piece.start, *shape), np.uint8)
    good: list[int] = []
    faults = []
    for index in range(piece.start, piece.stop):
        piece.at = index
        try:
            pixels[len(good)] = pictures.image(index, shape[0], shape[2])
            good.append(index)
        except DataError as error:
            faults.append(str(error))
    pixels = pixels[: len(good)]
    sums = Sums.of(pixels) if piece.shard.split == "train" and good else Sums.none(shape)
    return _Decoded(piece, pixels, pictures.labels[good], faults, sums)


def _judge(destination: Path, faults: list[str], total: int, *, strict: bool) -> None:
    """Raise ``DataError`` if too many pictures cannot be read, after writing down which."""
    if strict and faults:
        raise DataError(f"{faults[0]}; {setting('strict')} leaves nothing out")
    if len(faults) * TOLERATED > total:
        (destination / BAD).write_text(_lines(faults), encoding="utf-8")
        raise DataError(
            f"{len(faults)} of {total:,} images cannot be read, and more than 1 % means that something else is wrong: "
            f"they are listed in {printable(destination / BAD)}, the first is: {faults[0]}. Mend or remove them and "
            "run the same command again"
        )


def _complete(source: Source, destination: Path, shape: Shape, notes: dict[_Shard, _Note]) -> dict[str, int]:
    """Write what belongs to all shards together, and last ``meta.json``; returns the images of each split."""
    files: dict[str, File] = {}
    splits: dict[str, list[Shard]] = {split: [] for split in source.splits}
    labels: dict[str, list[Labels]] = {split: [] for split in source.splits}
    sums = Sums.none(shape)
    for shard, note in notes.items():
        labels[shard.split].append(note.labels)
        sums.add(note.sums)
        if len(note.labels):
            files[shard.file] = File(note.bytes, note.sha256)
            splits[shard.split].append(Shard(shard.file, len(note.labels)))
        else:
            (destination / shard.file).unlink()
    joined = {split: np.concatenate(parts) for split, parts in labels.items()}
    for split, truth in joined.items():
        if not len(truth):
            raise DataError(
                f"{printable(source.where)}: no {split} image can be read; see {printable(destination / BAD)}"
            )
    bare = np.flatnonzero(np.bincount(joined["train"], minlength=len(source.classes)) == 0)
    if bare.size:
        raise DataError(
            f"{printable(source.where)}: no training image of the class '{printable(source.classes[bare[0]])}' can be "
            "read"
        )
    faults = [fault for note in notes.values() for fault in note.faults]
    contents = {f"{split}-labels.npy": _npy(truth) for split, truth in joined.items()}
    contents |= {"mean.npy": _npy(sums.mean()), BAD: _lines(faults).encode()}
    for name, content in contents.items():
        replace(destination / name, content)
        files[name] = File(len(content), hashlib.sha256(content).hexdigest())
    meta = Meta(
        format=FORMAT,
        version=VERSION,
        name=source.name,
        source=source.where,
        layout=source.layout,
        image_shape=shape,
        classes=source.classes,
        words=source.words,
        colours=Axes(**{name: values.tolist() for name, values in vars(sums.principal()).items()}),
        test="test" if "test" in splits else "validation",
        left_out=len(faults),
        splits={split: tuple(shards) for split, shards in splits.items()},
        files=dict(sorted(files.items())),
    )
    replace(destination / META, (typed_json.encode(meta, indent=1) + "\n").encode())
    return {split: len(truth) for split, truth in joined.items()}


@contextmanager
def _writing(destination: Path) -> Iterator[None]:
    """Say where a disk refused, and that what is done is kept."""
    again = "the shards that are done are kept, and the same command goes on"
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{printable(error.filename or destination)} cannot be written: {error.strerror}; mend that, or choose "
            f"another directory ({again})"
        ) from error
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"; {again}") from error


@contextmanager
def _claimed(destination: Path, source: Path) -> Iterator[Path]:
    """Make the directory, and hold it against other processes; yields the place in it for unfinished work."""
    if destination.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"{printable(destination)} lies in {printable(source)} itself: choose a directory outside it")
    workplace = destination / UNFINISHED
    destination.mkdir(parents=True, exist_ok=True)
    if (destination / META).exists() and not workplace.exists():
        raise ConfigError(
            f"{printable(destination)} was prepared already (refnet data info describes it): choose another"
        )
    if not workplace.exists() and any(destination.iterdir()):
        raise ConfigError(
            f"{printable(destination)} is not empty: choose a new directory, so that nothing is overwritten"
        )
    workplace.mkdir(exist_ok=True)
    with (workplace / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{printable(destination)} is being prepared by another process: wait for it") from error
        for leftover in workplace.glob("*.new"):
            leftover.unlink()
        for folder in (destination, workplace):
            remove_orphans(folder)
        yield workplace


def _check_room(destination: Path, shards: list[_Shard], shape: Shape) -> None:
    """Raise ``ConfigError`` if the disk has not enough room."""
    needed = sum(shard.stop - shard.start for shard in shards) * int(np.prod(shape))
    free = shutil.disk_usage(destination).free
    if needed > free:
        raise ConfigError(
            f"{printable(destination)} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed: make room"
        )


def _noted(workplace: Path, destination: Path, shard: _Shard, token: str) -> _Note | None:
    """Read the note of a finished shard; None if there is none, or shard or pictures are not what it says."""
    try:
        note_file = workplace / f"{shard.file}.note"
        with note_file.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            text = json.loads(bytes(saved["text"]))
            sums = Sums(text["images"], saved["pixels"], saved["products"])
            note = _Note(text["token"], text["bytes"], text["sha256"], saved["labels"], text["faults"], sums)
        whole = (destination / shard.file).stat().st_size == note.bytes
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the shard is made again
        return None
    return note if whole and note.token == token else None


def _save(path: Path, note: _Note) -> None:
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
    """Write the head of an .npy file of uint8, always of the same length."""
    text = repr({"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, shape))}).encode()
    magic = np.lib.format.magic(1, 0)
    length = HEADER - len(magic) - 2
    return magic + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n"


def _npy(array: npt.NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _lines(faults: list[str]) -> str:
    return "".join(f"{fault}\n" for fault in faults)
