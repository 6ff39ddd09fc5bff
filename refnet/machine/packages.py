"""Objects that installed packages add to refnet: each is registered by name in an entry-point group."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from refnet.errors import ConfigError
from refnet.terminal.printable import printable, reason

REMEDY = "update its package or uninstall it"


def points(group: str, own: Mapping[str, str]) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name: refnet's own in their order, then those of other packages.

    Parameters
    ----------
    own
        Names of refnet's own entry points with their values (``"module:attribute"``). No package can replace them.
    """
    others = {point.name: point for point in entry_points(group=group)}
    return {name: EntryPoint(name, value, group) for name, value in own.items()} | {
        name: point for name, point in sorted(others.items()) if name not in own
    }


def load(point: EntryPoint, what: str) -> Any:
    """Return the object of an entry point. Raises ``ConfigError`` if its package cannot be imported."""
    try:
        return point.load()
    except Exception as error:  # importing another package may raise anything
        raise ConfigError(f"{describe(point, what)} cannot be loaded ({reason(error)}); {REMEDY}") from error


def describe(point: EntryPoint, what: str) -> str:
    """Return an entry point as it appears in a message: ``net mini (package.module:mini)``."""
    return f"{what} {printable(point.name)} ({printable(point.value)})"
