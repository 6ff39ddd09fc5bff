"""Compare with the table of an earlier ``refnet bench --json``: what has become faster or slower."""

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
    """The time of the shortest of several rounds, in seconds."""

    minimum: float


@dataclass(frozen=True)
class LayerTimes:
    """The times of one layer in one direction, by contender."""

    layer: str
    direction: str
    batch: int
    threads: int
    contenders: dict[str, Timing]


@dataclass(frozen=True)
class StepTimes:
    """The times of the whole network of one contender: a training step and a forward pass."""

    contender: str
    layout: str | None
    batch: int
    threads: int
    training: Timing
    forward: Timing


@dataclass(frozen=True)
class Table:
    """The part of the output of ``refnet bench --json`` that a comparison needs."""

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
        It cannot be read, or is not such a table.
    """
    try:
        return typed_json.decode(Table, path.read_text(encoding="utf-8"), ignore_unknown=True)
    except OSError as error:
        raise ConfigError(f"{setting('against', path)} cannot be read: {error.strerror}") from error
    except ValueError as error:
        expected = "JSON" if isinstance(error, json.JSONDecodeError) else f"a table of refnet bench ({error})"
        raise ConfigError(
            f"{setting('against', path)} is not {expected}; save one with refnet bench --json > FILE"
        ) from error


def require_comparable(before: Table, fingerprint: Mapping[str, Any], net: str, columns: int) -> None:
    """Raise ``ConfigError`` if an earlier table is of another network or another machine; the message lists how."""
    timed_before = {"net": before.net, "columns": before.columns, **before.fingerprint}
    differences = machine.differences(timed_before, {"net": net, "columns": columns, **fingerprint})
    if differences:
        raise ConfigError(f"the saved table cannot be compared with this run: {'; '.join(differences)}")


def changes(before: Table, after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List every time that both tables have: the seconds before and after, and how many times faster it is now.

    `after` is what :meth:`refnet.bench.figures.Figures.as_dict` returns.

    Raises
    ------
    ConfigError
        The tables have no time in common.
    """
    old, new = dict(_times(before)), dict(_times(typed_json.check(Table, after, ignore_unknown=True)))
    common = [key for key in new if key in old]
    if not common:
        raise ConfigError(
            "the saved table has no row of this run; give the same "
            f"{setting('batch')} and {setting('contenders')} as for that table"
        )
    return [{"what": key, "then": old[key], "now": new[key], "times_faster": old[key] / new[key]} for key in common]


def _times(table: Table) -> Iterator[tuple[str, float]]:
    """Yield every minimum of a table, with a description of what was timed."""
    for row in table.ops:
        for name, timing in row.contenders.items():
            at = f"batch {row.batch}, threads {row.threads}"
            yield f"{row.layer} {row.direction}, {name}, {at}", timing.minimum
    for step in table.steps:
        name = f"{step.contender} {step.layout or ''}".strip()
        for what in PASSES:
            timing = getattr(step, what)
            yield f"{what}, {name}, batch {step.batch}, threads {step.threads}", timing.minimum
