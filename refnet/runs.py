"""A run's own directory: its resolved configuration, its surroundings, and its figures as they come."""

import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Self, TextIO

from refnet import environment
from refnet.config import Config, to_toml
from refnet.errors import ConfigError

DEFAULT = Path("runs")


@dataclass(frozen=True)
class RunDirectory:
    """A directory that belongs to one run.

    ``config.toml`` reproduces the run (``refnet train --config``), ``environment.json`` says where it ran,
    ``metrics.jsonl`` has one line for each step and epoch, ``result.json`` the end, and ``parameters.safetensors``
    what was learned. Metrics are flushed line by line, so a run that dies leaves all it knew.
    """

    path: Path
    metrics: TextIO

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
            (path / "config.toml").write_text(to_toml(_repeatable(config)), encoding="utf-8")
            (path / "environment.json").write_text(_json(environment.describe()), encoding="utf-8")
            return cls(path, (path / "metrics.jsonl").open("w", encoding="utf-8", buffering=1))
        except OSError as error:
            if made:
                shutil.rmtree(path, ignore_errors=True)
            raise ConfigError(
                f"--run-dir {path} cannot be written: {error.strerror}; choose another directory"
            ) from error

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
            raise ConfigError(f"--run-dir {path} cannot be read: {error.strerror}; choose another directory") from error
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            reason = "is not a directory" if not above.is_dir() else "cannot be written to"
            raise ConfigError(f"--run-dir {path} cannot be made: {above} {reason}; choose another directory")

    def log(self, kind: str, **figures: Any) -> None:
        """Add one line to the metrics. Raises ``ValueError`` for NaN and infinity, which JSON does not have."""
        self.metrics.write(json.dumps({"kind": kind, **figures}, allow_nan=False) + "\n")

    def finish(self, result: dict[str, Any]) -> None:
        """Write the end of the run."""
        (self.path / "result.json").write_text(_json(result), encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.metrics.close()


def _repeatable(config: Config) -> Config:
    """Leave out the run's own directory and name its data from the root, so that it can be run again from anywhere."""
    data = config.data if config.data in {None, "digits"} else str(Path(str(config.data)).absolute())
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
        raise ConfigError(f"--run-dir {path} is not empty; choose a new directory, so that no run is overwritten")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
