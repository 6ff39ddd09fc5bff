"""A run's own directory: its resolved configuration, its surroundings, and its figures as they come."""

import fcntl
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
from refnet.errors import ConfigError, setting
from refnet.machine import environment
from refnet.runs import generations
from refnet.runs.metrics import Metrics, truncate

DEFAULT = Path("runs")
CONFIG, METRICS, RESULT, LOCK = "config.toml", "metrics.jsonl", "result.json", ".lock"
ENVIRONMENT = "environment.json"
GLANCES = 25  # how often a lock is tried, in half a second


@dataclass(frozen=True)
class RunDirectory:
    """A directory that belongs to one run, and to one process at a time.

    ``config.toml`` reproduces the run (``refnet train --config``), ``environment.json`` says where it ran,
    ``metrics.jsonl`` has one line for each step and epoch, ``checkpoints/`` what was learned
    (:mod:`refnet.runs.generations`) and ``result.json`` the end. A run that dies leaves all it knew.

    ``.lock`` is locked while a process trains. The system unlocks it when that process ends, however it ends.
    """

    path: Path
    metrics: Metrics
    lock: BinaryIO

    @classmethod
    def create(cls, config: Config) -> Self:
        """Make the directory.

        Raises
        ------
        ConfigError
            It cannot be written, or already holds something.
        """
        path = Path(config.run_dir or DEFAULT)
        made = False
        try:
            path = _made(path) if config.run_dir else _made_fresh(config.net)
            made = True  # and empty: whatever is in it from here on is this run's
            with ExitStack() as undo:
                lock = undo.enter_context(_locked(path))
                (path / generations.FOLDER).mkdir()
                files.replace(path / CONFIG, to_toml(repeatable(config)).encode())
                files.replace(path / ENVIRONMENT, _json(environment.describe()))
                metrics = Metrics(path / METRICS)
                undo.pop_all()
            return cls(path, metrics, lock)
        except OSError as error:
            if made:
                shutil.rmtree(path, ignore_errors=True)
            raise ConfigError(
                f"{setting('run_dir', path)} cannot be written: {error.strerror}; choose another directory"
            ) from error

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Take over a run that has ended or was killed, and clean up behind it. Its metrics stay as they are.

        Raises
        ------
        ConfigError
            It is no run, cannot be written, or another process trains in it.
        """
        configuration(path)
        try:
            with ExitStack() as undo:
                lock = undo.enter_context(_locked(path))
                (path / generations.FOLDER).mkdir(exist_ok=True)
                for folder in (path, path / generations.FOLDER):
                    files.remove_orphans(folder)
                metrics = Metrics(path / METRICS)
                undo.pop_all()
            return cls(path, metrics, lock)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}; mend that, or copy the run") from error

    def rewind(self, config: Config, lines: int) -> int:
        """Go back to where a checkpoint was made: forget the end, and all figures behind so many lines.

        The configuration and the environment become those of now. Returns how many lines there are, which is fewer
        only if they were lost. Raises ``ConfigError`` if the directory cannot be written.
        """
        try:
            (self.path / RESULT).unlink(missing_ok=True)
            self.metrics.lines = truncate(self.path / METRICS, lines)
            files.replace(self.path / CONFIG, to_toml(repeatable(config)).encode())
            files.replace(self.path / ENVIRONMENT, _json(environment.describe()))
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}; mend that, or copy the run") from error
        return self.metrics.lines

    @staticmethod
    def check(config: Config) -> None:
        """Say before any work is done that the directory could not be used. Leaves nothing behind.

        Raises
        ------
        ConfigError
            It holds something already, or neither it nor the nearest folder above it can be written to.
        """
        path = Path(config.run_dir or DEFAULT)
        try:
            if config.run_dir and path.is_dir():
                _refuse_unless_empty(path)
            above = next(place for place in (path, *path.absolute().parents) if place.exists() or place.is_symlink())
        except OSError as error:
            raise ConfigError(
                f"{setting('run_dir', path)} cannot be read: {error.strerror}; choose another directory"
            ) from error
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            reason = "is not a directory" if not above.is_dir() else "cannot be written to"
            raise ConfigError(f"{setting('run_dir', path)} cannot be made: {above} {reason}; choose another directory")

    def finish(self, result: dict[str, Any]) -> None:
        """Write the end of the run. Raises ``OSError``."""
        self.metrics.sync()
        files.replace(self.path / RESULT, _json(result))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.metrics.close()
        self.lock.close()


def configuration(path: Path) -> Path:
    """Give the path of a run's configuration. Raises ``ConfigError`` if it is no run."""
    if not (path / CONFIG).is_file():
        raise ConfigError(f"{path} is no run: it has no {CONFIG}; refnet runs lists the runs")
    return path / CONFIG


def is_training(path: Path) -> bool:
    """Tell whether a process trains in a run's directory. Raises ``OSError`` if its lock cannot be looked at."""
    with (path / LOCK).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _locked(path: Path) -> BinaryIO:
    """Lock a directory for this process. Raises ``OSError``, and ``ConfigError`` if another process has it."""
    lock = (path / LOCK).open("ab")
    for _ in range(GLANCES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)  # it may be no more than a glance of `is_training`
        except BaseException:
            lock.close()
            raise
        else:
            return lock
    lock.close()
    raise ConfigError(f"{path} is in use: another process trains there; wait for it, or stop it")


def repeatable(config: Config) -> Config:
    """Leave out the run's own directory and name its data from the root, so that it can be run again from anywhere."""
    data = None if config.data is None else registry.fixed_path(str(config.data))
    return replace(config, run_dir=None, data=data)


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    _refuse_unless_empty(path)
    return path


def _made_fresh(net: str) -> Path:
    """Make a directory named by net and time; where another run has just taken the name, it gets a number."""
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
