"""The folder of a run: its configuration, environment, metrics, checkpoints and result."""

import json
import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Self

from refnet import files
from refnet.config import Config, to_toml
from refnet.data.readers import registry
from refnet.errors import ConfigError
from refnet.machine import environment
from refnet.runs import generations
from refnet.runs.metrics import Metrics, truncate
from refnet.terminal.spelling import setting

DEFAULT = Path("runs")
CONFIG, METRICS, RESULT, LOCK = "config.toml", "metrics.jsonl", "result.json", ".lock"
ENVIRONMENT = "environment.json"
LOCK_TRIES = 25
LOCK_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class RunDirectory:
    """A folder that belongs to one run, and to one process at a time.

    ``config.toml`` reproduces the run (``refnet train --config``), ``environment.json`` describes the machine and the
    software, ``metrics.jsonl`` has one line for each step and epoch, ``checkpoints/`` the parameters
    (:mod:`refnet.runs.generations`) and ``result.json`` the result. All but the result exist also after a crash.

    ``.lock`` is locked while a process trains. The system unlocks it when that process ends, however it ends.
    `locked` is False on a file system without locks, where a second process is not detected.
    """

    path: Path
    metrics: Metrics
    lock: BinaryIO
    locked: bool = True

    @classmethod
    def create(cls, config: Config) -> Self:
        """Create the folder.

        Raises
        ------
        ConfigError
            It cannot be written or is not empty.
        """
        path = Path(config.run_dir or DEFAULT)
        created = False
        try:
            path = _made(path) if config.run_dir else _made_fresh(config.net)
            created = True  # and it was empty, so from now on everything in it belongs to this run
            with ExitStack() as undo:
                lock, locked = _locked(path)
                undo.enter_context(lock)
                (path / generations.FOLDER).mkdir()
                files.replace(path / CONFIG, to_toml(repeatable(config)).encode())
                files.replace(path / ENVIRONMENT, _json(environment.describe()))
                metrics = Metrics(path / METRICS)
                undo.pop_all()
            return cls(path, metrics, lock, locked)
        except OSError as error:
            if created:
                shutil.rmtree(path, ignore_errors=True)
            raise ConfigError(
                f"{setting('run_dir', path)} cannot be written: {error.strerror}; choose another directory"
            ) from error

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Open the folder of a run that has ended or was killed, and remove temporary files. Its metrics are unchanged.

        Raises
        ------
        ConfigError
            It is not a run folder, cannot be written, or another process is training in it.
        """
        configuration(path)
        try:
            with ExitStack() as undo:
                lock, locked = _locked(path)
                undo.enter_context(lock)
                (path / generations.FOLDER).mkdir(exist_ok=True)
                for folder in (path, path / generations.FOLDER):
                    files.remove_orphans(folder)
                metrics = Metrics(path / METRICS)
                undo.pop_all()
            return cls(path, metrics, lock, locked)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}; fix that, or copy the run") from error

    def rewind(self, config: Config, lines: int) -> int:
        """Go back to a checkpoint: delete the result, and the metrics after the first `lines` lines.

        Configuration and environment are replaced by the current ones. Return the number of lines left, which is below
        `lines` only if lines were lost. Raises ``ConfigError`` if the directory cannot be written.
        """
        try:
            (self.path / RESULT).unlink(missing_ok=True)
            self.metrics.lines = truncate(self.path / METRICS, lines)
            files.replace(self.path / CONFIG, to_toml(repeatable(config)).encode())
            files.replace(self.path / ENVIRONMENT, _json(environment.describe()))
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}; fix that, or copy the run") from error
        return self.metrics.lines

    @staticmethod
    def check(config: Config) -> None:
        """Check, before any work is done, that the folder can be used. Creates nothing.

        Raises
        ------
        ConfigError
            It is not empty, or neither it nor the nearest folder above it can be written to.
        """
        path = Path(config.run_dir or DEFAULT)
        try:
            if config.run_dir and path.is_dir():
                _refuse_unless_empty(path)
            nearest = next(place for place in (path, *path.absolute().parents) if place.exists() or place.is_symlink())
        except OSError as error:
            raise ConfigError(
                f"{setting('run_dir', path)} cannot be read: {error.strerror}; choose another directory"
            ) from error
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            reason = "is not a directory" if not nearest.is_dir() else "cannot be written to"
            raise ConfigError(
                f"{setting('run_dir', path)} cannot be made: {nearest} {reason}; choose another directory"
            )

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result of the run. Raises ``OSError``."""
        self.metrics.sync()
        files.replace(self.path / RESULT, _json(result))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.metrics.close()
        self.lock.close()


def configuration(path: Path) -> Path:
    """Return the path of a run's configuration. Raises ``ConfigError`` if it is not a run folder."""
    if not (path / CONFIG).is_file():
        raise ConfigError(f"{path} is not a run folder (no {CONFIG}); refnet runs lists the runs")
    return path / CONFIG


def is_training(path: Path) -> bool | None:
    """Tell whether a process is training in a run folder; None where the file system has no locks.

    Raises ``OSError`` if its lock cannot be opened.
    """
    with (path / LOCK).open("rb") as lock:
        try:
            locked = files.lock(lock, shared=True)
        except BlockingIOError:
            return True
    return False if locked else None


def _locked(path: Path) -> tuple[BinaryIO, bool]:
    """Lock a folder for this process; return the lock, and whether the file system has locks.

    Raises ``OSError``, and ``ConfigError`` if another process has locked it.
    """
    lock = (path / LOCK).open("ab")
    for _ in range(LOCK_TRIES):
        try:
            locked = files.lock(lock)
        except BlockingIOError:
            time.sleep(LOCK_POLL_SECONDS)  # `is_training` in another process holds the lock for a moment
        except BaseException:
            lock.close()
            raise
        else:
            return lock, locked
    lock.close()
    raise ConfigError(f"{path} is in use: another process is training there; wait for it, or stop it")


def repeatable(config: Config) -> Config:
    """Return the configuration without the run's own folder and with an absolute path of the data."""
    data = None if config.data is None else registry.fixed_path(str(config.data))
    return replace(config, run_dir=None, data=data)


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    _refuse_unless_empty(path)
    return path


def _made_fresh(net: str) -> Path:
    """Create a folder named by net and time, with a number if another run has just taken that name."""
    base = DEFAULT / f"{net}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in count(2):
        try:
            base.mkdir(parents=True)
        except FileExistsError:
            if not DEFAULT.is_dir():
                raise
            base = base.with_name(f"{net}-{time.strftime('%Y%m%d-%H%M%S')}-{number}")
        else:
            break
    return base


def _refuse_unless_empty(path: Path) -> None:
    if any(path.iterdir()):
        raise ConfigError(
            f"{setting('run_dir', path)} is not empty; choose a new directory, so that no run is overwritten"
        )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
