"""The table of an earlier ``refnet bench --json``, and what has become faster or slower since."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet import typed_json
from refnet.bench import machine
from refnet.bench.figures import PASSES
from refnet.errors import ConfigError
from refnet.terminal.spelling import setting


@dataclass(frozen=True)
class Timing:
    """The shortest of several rounds, in seconds."""

    minimum: float


@dataclass(frozen=True)
class LayerTimes:
    """One layer in one direction, by contender."""

    layer: str
    direction: str
    batch: int
    threads: int
    contenders: dict[str, Timing]


@dataclass(frozen=True)
class StepTimes:
    """The whole network by one contender: a training step and a forward pass."""

    contender: str
    layout: str | None
    batch: int
    threads: int
    training: Timing
    forward: Timing


@dataclass(frozen=True)
class Table:
    """What a comparison needs of the figures that ``refnet bench --json`` prints."""

    net: str
    columns: int
    fingerprint: dict[str, Any]
    ops: tuple[LayerTimes, ...]
    steps: tuple[StepTimes, ...]


def read(path: Path) -> Table:
    """Read a table that ``refnet bench --json`` has written.

    Raises
    ------
    ConfigError
        It cannot be read, or is something else.
    """
    try:
        return typed_json.decode(Table, path.read_text(encoding="utf-8"), ignore_unknown=True)
    except OSError as error:
        raise ConfigError(f"{setting('against', path)} cannot be read: {error.strerror}") from error
    except ValueError as error:
        wrong = "JSON" if isinstance(error, json.JSONDecodeError) else f"a table of refnet bench ({error})"
        raise ConfigError(
            f"{setting('against', path)} is not {wrong}; save one with refnet bench --json > FILE"
        ) from error


def require_comparable(then: Table, fingerprint: Mapping[str, Any], net: str, columns: int) -> None:
    """Raise ``ConfigError`` that says in which points an earlier table was made elsewhere or of something else."""
    made_of = {"net": then.net, "columns": then.columns, **then.fingerprint}
    differences = machine.differences(made_of, {"net": net, "columns": columns, **fingerprint})
    if differences:
        raise ConfigError(f"the saved table cannot be compared with this run: {'; '.join(differences)}")


def changes(then: Table, now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List every time that both tables have: seconds then and now, and how many times faster it has become.

    `now` is what :meth:`refnet.bench.figures.Figures.as_dict` returns.

    Raises
    ------
    ConfigError
        They have nothing in common.
    """
    before, after = dict(_times(then)), dict(_times(typed_json.check(Table, now, ignore_unknown=True)))
    common = [key for key in after if key in before]
    if not common:
        raise ConfigError(
            f"the saved table has no row of this run; give {setting('batch')} and {setting('contenders')} as they "
            "were given then"
        )
    return [
        {"what": key, "then": before[key], "now": after[key], "times_faster": before[key] / after[key]}
        for key in common
    ]


def _times(table: Table) -> Iterator[tuple[str, float]]:
    """Yield every minimum of a table with a description of what it is the time of."""
    for row in table.ops:
        for name, timing in row.contenders.items():
            at = f"batch {row.batch}, threads {row.threads}"
            yield f"{row.layer} {row.direction}, {name}, {at}", timing.minimum
    for step in table.steps:
        name = f"{step.contender} {step.layout or ''}".strip()
        for what in PASSES:
            timing = getattr(step, what)
            yield f"{what}, {name}, batch {step.batch}, threads {step.threads}", timing.minimum
