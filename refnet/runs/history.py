"""The history of a run, read from its metrics: one array for each quantity."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.errors import ConfigError
from refnet.runs import metrics
from refnet.runs.directory import METRICS

Figures = npt.NDArray[np.float64]

STEP = ("step", "loss", "lr", "images", "seconds")
EPOCH = ("epoch", "step", "train_loss", "validation_loss", "validation_top1_error", "validation_top5_error")
SCORED = ("epoch", "scored_train_top1_error", "validation_top1_error")
MAX_POINTS = 240  # of a curve in a picture


@dataclass(frozen=True, eq=False)
class History:
    """The quantities of each step and of each epoch, by name; those of one kind are equally long."""

    steps: Mapping[str, Figures]
    epochs: Mapping[str, Figures]

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.steps["step"])

    def smooth(self, name: str, other_steps: int = 0) -> tuple[Figures, Figures]:
        """Return steps and a quantity, averaged over intervals: at most `MAX_POINTS` of them.

        If a run of `other_steps` steps is longer, intervals are as long as its intervals, so noise is equal in both
        curves.
        """
        return self._means("step", other_steps), self._means(name, other_steps)

    def speed(self, other_steps: int = 0) -> tuple[Figures, Figures]:
        """Return steps and images per second over the same intervals as `smooth`."""
        seconds = np.maximum(self._means("seconds", other_steps), 1e-9)
        return self._means("step", other_steps), self._means("images", other_steps) / seconds

    def rate(self) -> tuple[Figures, Figures]:
        """Return steps and learning rates where the rate changes: before and after each change."""
        steps, rates = self.steps["step"], self.steps["lr"]
        ends = np.flatnonzero(np.diff(rates))
        corners = np.unique([0, *ends, *ends + 1, len(steps) - 1]) if len(steps) else np.array([], np.int64)
        return steps[corners], rates[corners]

    def _means(self, name: str, other_steps: int) -> Figures:
        figures = self.steps[name]
        intervals = -(-MAX_POINTS * len(figures) // max(len(figures), other_steps, MAX_POINTS)) if len(figures) else 0
        return np.array([part.mean() for part in np.array_split(figures, intervals)]) if intervals else figures


def read(run: Path) -> History:
    """Read a run's metrics. Lines that are cut off or have another form are ignored. Without a file it is empty.

    Raises
    ------
    ConfigError
        The file cannot be read.
    """
    lines = _read(run / METRICS)
    return History(_columns(lines, "step", STEP), _columns(lines, "epoch", EPOCH))


def read_scored(run: Path) -> Mapping[str, Figures]:
    """Read training and validation errors of each epoch, if the run had ``score_train``. Raises ``ConfigError``."""
    return _columns(_read(run / METRICS), "epoch", SCORED)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return list(metrics.lines(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; fix that, or copy the run") from error


def _columns(lines: Iterable[dict[str, Any]], kind: str, names: tuple[str, ...]) -> dict[str, Figures]:
    rows = [
        [line[name] for name in names]
        for line in lines
        if line.get("kind") == kind and all(_is_number(line.get(name)) for name in names)
    ]
    table = np.array(rows, np.float64).reshape(-1, len(names))
    return dict(zip(names, table.T, strict=True))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and -1e300 < value < 1e300  # not NaN, and not so large that a sum is infinite
