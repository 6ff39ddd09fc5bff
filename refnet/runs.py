"""A run's own directory: its resolved configuration, its surroundings, and its figures as they come."""

import json
import os
import time
from dataclasses import dataclass, replace
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
        path = Path(config.run_dir) if config.run_dir else _fresh(config.net)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise ConfigError(
                    f"--run-dir {path} is not empty; choose a new directory, so that no run is overwritten"
                )
            # Without its own directory, so that the file can be given to --config for another run.
            (path / "config.toml").write_text(to_toml(replace(config, run_dir=None)), encoding="utf-8")
            (path / "environment.json").write_text(_json(environment.describe()), encoding="utf-8")
            return cls(path, (path / "metrics.jsonl").open("w", encoding="utf-8", buffering=1))
        except OSError as error:
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
        path = Path(config.run_dir) if config.run_dir else DEFAULT
        try:
            if config.run_dir and path.is_dir() and any(path.iterdir()):
                raise ConfigError(
                    f"--run-dir {path} is not empty; choose a new directory, so that no run is overwritten"
                )
            above = next(place for place in (path, *path.absolute().parents) if place.exists())
        except OSError as error:
            raise ConfigError(f"--run-dir {path} cannot be read: {error.strerror}; choose another directory") from error
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            reason = "is not a directory" if not above.is_dir() else "cannot be written to"
            raise ConfigError(f"--run-dir {path} cannot be made: {above} {reason}; choose another directory")

    def log(self, kind: str, **figures: Any) -> None:
        """Add one line to the metrics."""
        self.metrics.write(json.dumps({"kind": kind, **figures}) + "\n")

    def finish(self, result: dict[str, Any]) -> None:
        """Write the end of the run."""
        (self.path / "result.json").write_text(_json(result), encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.metrics.close()


def _fresh(net: str) -> Path:
    """Name a directory by net and time; a second run in the same second gets a number."""
    base = DEFAULT / f"{net}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(
        path for path in (base, *(base.with_name(f"{base.name}-{i}") for i in range(2, 1000))) if not path.exists()
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
