"""The checkpoints of one run: which exist, which one is read, and which are deleted.

A run keeps the two newest checkpoints and the one with the lowest validation error. Each is a file
``checkpoints/step-000001066.safetensors``. The facts of every checkpoint name the best one so far, so there is no
separate index that could contradict the files.
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
NEWEST_KEPT = 2
DAMAGED = ".damaged"
Prefer = Literal["best", "newest"]

_NAME = re.compile(r"step-(\d{9,})\.safetensors")


def path_of(run: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return run / FOLDER / f"step-{step:09}.safetensors"


def listed(run: Path) -> list[Path]:
    """Return the paths of a run's checkpoints, the newest first, without checking them.

    Raises ``CheckpointError`` if the folder cannot be listed.
    """
    try:
        by_step = {int(match[1]): path for path in (run / FOLDER).iterdir() if (match := _NAME.fullmatch(path.name))}
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{run / FOLDER} cannot be listed: {error.strerror}; give a run's folder") from error
    return [path for _, path in sorted(by_step.items(), reverse=True)]


def load(where: str | Path, prefer: Prefer = "best") -> Checkpoint:
    """Read a checkpoint from a file or from a run folder.

    Parameters
    ----------
    where
        The path of a file or of a folder.
    prefer
        Which checkpoint of a run: the "best" by validation error (the newest if there was no validation) or the
        "newest".

    Raises
    ------
    CheckpointError
        There is no checkpoint, or it cannot be read, is damaged, or has another format.
    """
    where = Path(where)
    return checkpoint.read(choose(where, prefer) if where.is_dir() else where)


def choose(run: Path, prefer: Prefer = "best") -> Path:
    """Return the path of a run's best or newest checkpoint.

    Raises ``CheckpointError`` if there is none or its header is damaged.
    """
    paths = listed(run)
    if not paths:
        advice = f", {run.absolute().parent}" if run.name == FOLDER else " that has saved one"
        raise CheckpointError(f"{run} has no checkpoint; give the folder of a run{advice}")
    best = checkpoint.read_facts(paths[0]).state.best
    return path_of(run, best.step) if prefer == "best" and best else paths[0]


def newest_intact(run: Path) -> tuple[Checkpoint | None, dict[Path, CheckpointError]]:
    """Read the newest intact checkpoint; return it with the errors of the damaged ones that are newer.

    None if there is no checkpoint at all.

    Raises
    ------
    CheckpointError
        There are checkpoints, but all are damaged; the message has a line for each.
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
    """Rename a damaged checkpoint, so that it no longer counts as one of the newest. Raises ``CheckpointError``."""
    try:
        path.replace(path.with_name(path.name + DAMAGED))
    except OSError as error:
        raise CheckpointError(f"{path} is damaged and cannot be renamed: {error.strerror}; remove it") from error


def save(run: Path, saved: Checkpoint) -> None:
    """Write a checkpoint and, once it is on the disk, delete those that are no longer needed.

    Raises
    ------
    CheckpointError
        The disk is full or cannot be written to; no earlier checkpoint was deleted.
    """
    checkpoint.write(path_of(run, saved.facts.state.step), saved)
    try:
        for path in _superfluous(run):
            path.unlink(missing_ok=True)
        files.flush_folder(run / FOLDER)
    except OSError as error:
        raise CheckpointError(f"{run}: an old checkpoint cannot be removed: {error.strerror}") from error


def _superfluous(run: Path) -> list[Path]:
    """Return the checkpoints to delete: all but the newest ones and the best that each of these names.

    Each is asked for the best, because the newest may be damaged.
    """
    paths = listed(run)
    kept = set(paths[:NEWEST_KEPT])
    for path in paths[:NEWEST_KEPT]:
        with suppress(CheckpointError):
            best = checkpoint.read_facts(path).state.best
            kept |= {path_of(run, best.step)} if best else set()
    return [path for path in paths if path not in kept]
