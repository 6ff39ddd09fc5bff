"""A table that an earlier run has saved, and what has become faster or slower since."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from refnet.bench import machine
from refnet.bench.figures import PASSES
from refnet.errors import ConfigError, setting


def read(path: Path) -> dict[str, Any]:
    """Read a table that ``refnet bench --json`` has written.

    Raises
    ------
    ConfigError
        It cannot be read, or is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{setting('against', path)} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{setting('against', path)} is not JSON; save one with refnet bench --json > FILE"
        ) from error
    try:
        assert isinstance(found["fingerprint"], dict)
        dict(_times(found))
    except (AssertionError, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{setting('against', path)} is no table of refnet bench; save one with refnet bench --json > FILE"
        ) from error
    return dict(found)


def require_comparable(then: Mapping[str, Any], fingerprint: Mapping[str, Any], net: str, columns: int) -> None:
    """Raise ``ConfigError`` that says in which points a saved table was made elsewhere or of something else."""
    made_of = {"net": then.get("net"), "columns": then.get("columns"), **then["fingerprint"]}
    found = machine.differences(made_of, {"net": net, "columns": columns, **fingerprint})
    if found:
        raise ConfigError(f"the saved table cannot be compared with this run: {'; '.join(found)}")


def against(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List every time that both tables have: seconds then and now, and how many times faster it has become.

    Raises
    ------
    ConfigError
        They have nothing in common.
    """
    before, after = dict(_times(then)), dict(_times(now))
    common = [key for key in after if key in before]
    if not common:
        raise ConfigError(
            f"the saved table has no row of this run; give {setting('batch')} and {setting('contenders')} as they "
            "were then"
        )
    return [
        {"what": key, "then": before[key], "now": after[key], "times_faster": before[key] / after[key]}
        for key in common
    ]


def _times(found: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Give every minimum of a table as JSON by what it is of, in words."""
    for row in found["ops"]:
        for name, timing in row["contenders"].items():
            at = f"batch {row['batch']}, threads {row['threads']}"
            yield f"{row['layer']} {row['direction']}, {name}, {at}", float(timing["minimum"])
    for entry in found["steps"]:
        name = f"{entry['contender']} {entry['layout'] or ''}".strip()
        for what in PASSES:
            at = f"batch {entry['batch']}, threads {entry['threads']}"
            yield f"{what}, {name}, {at}", float(entry[what]["minimum"])
