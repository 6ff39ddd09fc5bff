"""Prepare a source: decode every picture once, and write a directory as :mod:`refnet.data.prepared` describes.

Source
------
Paper, section 2: "we first rescaled the image such that the shorter side was of length 256, and then cropped out the
central 256x256 patch". As this is the same for every epoch it is done once; then an epoch reads bytes instead of
decoding pictures.

Decisions
---------
A picture that cannot be read is left out and listed. More than one in a hundred, or a single one with ``strict``, ends
the preparation: then the fault is probably in the source, not in single files.
"""

import hashlib
import io
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from refnet import typed_json
from refnet.data.dataset import Labels, Shape
from refnet.data.meta import FORMAT, META, VERSION, Axes, FileRecord, Meta, Shard
from refnet.data.on_demand import check_form
from refnet.data.parallel import Reading
from refnet.data.prepared import BAD, UNFINISHED
from refnet.data.shards import PlannedShard, ShardNote, plan_shards, read_note, write_shards
from refnet.data.source import Source
from refnet.data.statistics import Sums
from refnet.errors import ConfigError, DataError
from refnet.files import lock as lock_file
from refnet.files import remove_orphans, replace, warn_unlocked
from refnet.terminal.printable import printable
from refnet.terminal.progress import Show
from refnet.terminal.spelling import setting

PICTURES_PER_FAULT = 100  # more than one unreadable picture in 100 ends the preparation


@dataclass(frozen=True)
class Summary:
    """The result: images of each split, images left out, shards, and how many of them an earlier try had finished."""

    images: dict[str, int]
    left_out: int
    shards: int
    shards_kept: int
    seconds: float


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
    """Write a source's images as size x size x channels to a directory; return what was written.

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
    with (
        _writing(destination),
        _claimed(destination, Path(source.where), show) as workplace,
        threadpool_limits(1, "blas"),
    ):
        shards = plan_shards(source, shape)
        with show.task("checking for finished shards", len(shards)) as advance:
            notes, tokens = {}, {}
            for done, shard in enumerate(shards, start=1):
                tokens[shard] = shard.token(shape)
                if note := read_note(workplace, destination, shard, tokens[shard]):
                    notes[shard] = note
                advance(done)
        kept = len(notes)
        _check_room(destination, [shard for shard in shards if shard not in notes], shape)
        total = sum(map(len, source.splits.values()))
        faults = [fault for note in notes.values() for fault in note.faults]
        _check_faults(destination, faults, total, strict=strict)
        with show.task("preparing", total) as advance:
            skipped = done = sum(shard.stop - shard.start for shard in notes)
            working = time.monotonic()
            for decoded, note in write_shards(shards, notes, tokens, shape, workplace, destination, reading):
                if note:
                    notes[decoded.piece.shard] = note
                faults += decoded.faults
                _check_faults(destination, faults, total, strict=strict)
                done += decoded.piece.stop - decoded.piece.start
                rate = (done - skipped) / max(time.monotonic() - working, 1e-9)
                advance(done, total, f"{rate:.0f} images/s, {(total - done) / rate:.0f} s left")
        images = _complete(source, destination, shape, {shard: notes[shard] for shard in shards})
        shutil.rmtree(workplace)
    return Summary(images, len(faults), len(shards), kept, round(time.monotonic() - began, 3))


def _check_faults(destination: Path, faults: list[str], total: int, *, strict: bool) -> None:
    """Raise ``DataError`` if too many pictures cannot be read, after listing them in a file."""
    if strict and faults:
        raise DataError(f"{faults[0]}; {setting('strict')} leaves nothing out")
    if len(faults) * PICTURES_PER_FAULT > total:
        (destination / BAD).write_text(_lines(faults), encoding="utf-8")
        raise DataError(
            f"{len(faults)} of {total:,} images cannot be read, and more than 1 % means that something else is wrong: "
            f"they are listed in {printable(destination / BAD)}, the first is: {faults[0]}. Repair or remove them and "
            "run the same command again"
        )


def _complete(source: Source, destination: Path, shape: Shape, notes: dict[PlannedShard, ShardNote]) -> dict[str, int]:
    """Write the labels, the mean and last ``meta.json``; return the number of images of each split."""
    files: dict[str, FileRecord] = {}
    splits: dict[str, list[Shard]] = {split: [] for split in source.splits}
    labels: dict[str, list[Labels]] = {split: [] for split in source.splits}
    sums = Sums.none(shape)
    for shard, note in notes.items():
        labels[shard.split].append(note.labels)
        sums.add(note.sums)
        if len(note.labels):
            files[shard.file] = FileRecord(note.bytes, note.sha256)
            splits[shard.split].append(Shard(shard.file, len(note.labels)))
        else:
            (destination / shard.file).unlink()
    joined = {split: np.concatenate(parts) for split, parts in labels.items()}
    for split, split_labels in joined.items():
        if not len(split_labels):
            raise DataError(
                f"{printable(source.where)}: no {split} image can be read; see {printable(destination / BAD)}"
            )
    empty = np.flatnonzero(np.bincount(joined["train"], minlength=len(source.classes)) == 0)
    if empty.size:
        raise DataError(
            f"{printable(source.where)}: no training image of the class '{printable(source.classes[empty[0]])}' can be "
            "read"
        )
    faults = [fault for note in notes.values() for fault in note.faults]
    contents = {f"{split}-labels.npy": _npy(split_labels) for split, split_labels in joined.items()}
    contents |= {"mean.npy": _npy(sums.mean()), BAD: _lines(faults).encode()}
    for name, content in contents.items():
        replace(destination / name, content)
        files[name] = FileRecord(len(content), hashlib.sha256(content).hexdigest())
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
    return {split: len(split_labels) for split, split_labels in joined.items()}


@contextmanager
def _writing(destination: Path) -> Iterator[None]:
    """Turn errors of the disk, and an interrupt, into messages that say that finished shards are kept."""
    again = "finished shards are kept, and the same command continues"
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{printable(error.filename or destination)} cannot be written: {error.strerror}; fix that, or choose "
            f"another directory ({again})"
        ) from error
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"; {again}") from error


@contextmanager
def _claimed(destination: Path, source: Path, show: Show) -> Iterator[Path]:
    """Make the directory and lock it against other processes; yield the folder in it for unfinished work."""
    if destination.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"{printable(destination)} is inside {printable(source)}: choose a directory outside it")
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
            if not lock_file(lock):
                show.say(warn_unlocked(destination))
        except BlockingIOError as error:
            raise ConfigError(f"{printable(destination)} is being prepared by another process: wait for it") from error
        for leftover in workplace.glob("*.new"):
            leftover.unlink()
        for folder in (destination, workplace):
            remove_orphans(folder)
        yield workplace


def _check_room(destination: Path, shards: list[PlannedShard], shape: Shape) -> None:
    """Raise ``ConfigError`` if the disk has too little free space."""
    needed = sum(shard.stop - shard.start for shard in shards) * int(np.prod(shape))
    free = shutil.disk_usage(destination).free
    if needed > free:
        raise ConfigError(
            f"{printable(destination)} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed: make room"
        )


def _npy(array: npt.NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _lines(faults: list[str]) -> str:
    return "".join(f"{fault}\n" for fault in faults)
