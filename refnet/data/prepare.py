"""Prepare a source: decode every picture once, and write a directory as :mod:`refnet.data.prepared` describes.

Source
------
Paper, section 2: "we first rescaled the image such that the shorter side was of length 256, and then cropped out the
central 256x256 patch". As this is the same for every epoch it is done once; then an epoch reads bytes instead of
decoding pictures.

Decisions
---------
A picture that cannot be read is left out and listed. If there are more than the user allows
(:mod:`refnet.data.damaged`), the preparation fails at its end, when all are known. Then every shard is finished, and
the same command with ``--bad skip`` completes it at once.
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
from refnet.data import damaged
from refnet.data.dataset import Labels, Shape
from refnet.data.meta import FORMAT, META, VERSION, Axes, FileRecord, Meta, Shard
from refnet.data.on_demand import check_form
from refnet.data.parallel import Reading
from refnet.data.prepared import BAD, UNFINISHED
from refnet.data.shards import PlannedShard, ShardNote, plan_shards, read_note, write_shards
from refnet.data.source import Source
from refnet.data.statistics import Sums
from refnet.errors import ConfigError
from refnet.files import lock as lock_file
from refnet.files import remove_orphans, replace, warn_unlocked
from refnet.terminal.printable import printable
from refnet.terminal.progress import Show


@dataclass(frozen=True)
class Summary:
    """The result: images of each split, shards, and how many of them an earlier try had finished.

    `left_out` counts the images that could not be read; `warning` is a line about them, empty if there are none.
    """

    images: dict[str, int]
    left_out: int
    warning: str
    shards: int
    shards_kept: int
    seconds: float


def prepare(
    source: Source,
    destination: Path,
    *,
    size: int,
    channels: int,
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
        with show.task("preparing", total) as advance:
            skipped = done = sum(shard.stop - shard.start for shard in notes)
            working = time.monotonic()
            for decoded, note in write_shards(shards, notes, tokens, shape, workplace, destination, reading):
                if note:
                    notes[decoded.piece.shard] = note
                done += decoded.piece.stop - decoded.piece.start
                rate = (done - skipped) / max(time.monotonic() - working, 1e-9)
                advance(done, total, f"{rate:.0f} images/s, {(total - done) / rate:.0f} s left")
        notes = {shard: notes[shard] for shard in shards}
        faults = {place: fault for note in notes.values() for place, fault in note.faults.items()}
        listed = destination / BAD
        replace(listed, _lines(faults))
        damaged.refuse_damaged(faults, total, reading.bad, where=source.where, listed_in=listed)
        images = _complete(source, destination, shape, notes)
        shutil.rmtree(workplace)
    warning = damaged.left_out(faults, total, listed) if faults else ""
    return Summary(images, len(faults), warning, len(shards), kept, round(time.monotonic() - began, 3))


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
    damaged.refuse_empty(joined, source.classes, source.where)
    faults = {place: fault for note in notes.values() for place, fault in note.faults.items()}
    contents = {f"{split}-labels.npy": _npy(split_labels) for split, split_labels in joined.items()}
    contents |= {"mean.npy": _npy(sums.mean()), BAD: _lines(faults)}
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


def _lines(faults: dict[str, str]) -> bytes:
    return "".join(f"{fault}\n" for fault in faults.values()).encode()
