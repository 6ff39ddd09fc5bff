"""The checkpoints of one run: which there are, which is read, and which may go.

A run keeps the two newest and, as each of them knows it, the best by validation. Each is a file
``checkpoints/step-000001066.safetensors``, and which one is the best stands in the facts of all that are newer, so
there is nothing beside the files to get out of step with them.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Literal

from refnet import files
from refnet.errors import CheckpointError
from refnet.runs import checkpoint
from refnet.runs.checkpoint import Checkpoint

FOLDER = "checkpoints"
KEPT = 2
DAMAGED = ".damaged"
Prefer = Literal["best", "newest"]

_NAME = re.compile(r"step-(\d{9,})\.safetensors")


def path_of(run: Path, step: int) -> Path:
    """Name the checkpoint of a step."""
    return run / FOLDER / f"step-{step:09}.safetensors"


def listed(run: Path) -> list[Path]:
    """List a run's checkpoints, the newest first; whether they are whole is not looked at.

    Raises ``CheckpointError`` if the folder cannot be listed.
    """
    try:
        found = {int(match[1]): path for path in (run / FOLDER).iterdir() if (match := _NAME.fullmatch(path.name))}
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{run / FOLDER} cannot be listed: {error.strerror}; give a run's folder") from error
    return [path for _, path in sorted(found.items(), reverse=True)]


def load(where: Path, prefer: Prefer = "best") -> Checkpoint:
    """Read a checkpoint from its file, or from a run's folder.

    Parameters
    ----------
    where
        The path of a file or of a folder.
    prefer
        Which one of a run's: "best" by validation (the newest where none has been validated), or "newest".

    Raises
    ------
    CheckpointError
        There is none, or it cannot be read, is damaged, or is none of this refnet.
    """
    return checkpoint.read(find(where, prefer) if where.is_dir() else where)


def find(run: Path, prefer: Prefer = "best") -> Path:
    """Find a run's best or newest checkpoint. Raises ``CheckpointError`` if there is none or its header is damaged."""
    paths = listed(run)
    if not paths:
        raise CheckpointError(f"{run} has no checkpoint; give the folder of a run that has saved one")
    best = checkpoint.read_facts(paths[0]).state.best
    return path_of(run, best.step) if prefer == "best" and best else paths[0]


def newest_whole(run: Path) -> tuple[Checkpoint | None, dict[Path, CheckpointError]]:
    """Read the newest checkpoint that is whole, and say what is wrong with those that are newer.

    None where there is no checkpoint at all.

    Raises
    ------
    CheckpointError
        There are checkpoints, but none is whole; the message has a line for each.
    """
    damaged: dict[Path, CheckpointError] = {}
    for path in listed(run):
        try:
            return checkpoint.read(path), damaged
        except CheckpointError as error:
            damaged[path] = error
    if damaged:
        raise CheckpointError("\n".join(map(str, damaged.values())))
    return None, damaged


def set_aside(path: Path) -> None:
    """Rename a damaged checkpoint, so that it does not count as one of the newest. Raises ``CheckpointError``."""
    try:
        path.replace(path.with_name(path.name + DAMAGED))
    except OSError as error:
        raise CheckpointError(f"{path} is damaged and cannot be renamed: {error.strerror}; remove it") from error


def save(run: Path, saved: Checkpoint) -> None:
    """Write a checkpoint and, only when it is on the disk, remove those that it makes superfluous.

    Raises
    ------
    CheckpointError
        The disk is full or cannot be written to; all that was there still is.
    """
    checkpoint.write(path_of(run, saved.facts.state.step), saved)
    try:
        for path in _superfluous(run):
            path.unlink(missing_ok=True)
        files.flush_folder(run / FOLDER)
    except OSError as error:
        raise CheckpointError(f"{run}: an old checkpoint cannot be removed: {error.strerror}") from error


def _superfluous(run: Path) -> list[Path]:
    """List all but the newest, and the best as each of these knows it: the newest may turn out to be damaged."""
    paths = listed(run)
    kept = set(paths[:KEPT])
    for path in paths[:KEPT]:
        with suppress(CheckpointError):
            best = checkpoint.read_facts(path).state.best
            kept |= {path_of(run, best.step)} if best else set()
    return [path for path in paths if path not in kept]
