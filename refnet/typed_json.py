"""Dataclasses as strict JSON: every value that is read is checked against the type declared for it.

Types may be str, int, float, bool, dict (its values unchecked), dict[str, T], dataclasses, tuples of these, and any of
them or None. NaN, infinity and deep nesting are refused, and the message names the field.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def encode(record: Any, *, indent: int | None = None) -> str:
    """Return a dataclass as strict JSON. Raises ``ValueError`` for NaN and infinity."""
    return json.dumps(asdict(record), allow_nan=False, indent=indent)


def decode(kind: type[T], text: str | bytes, *, ignore_unknown: bool = False) -> T:
    """Return the dataclass that JSON describes.

    Parameters
    ----------
    ignore_unknown
        Ignore fields that the dataclass does not have.

    Raises
    ------
    ValueError
        It is not JSON, or a field is missing, unknown or of another type; the message names the field.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return check(kind, value, ignore_unknown)


def check(kind: type[T], value: Any, ignore_unknown: bool = False) -> T:
    """Return the dataclass that parsed JSON describes. Raises ``ValueError`` as `decode` does."""
    return cast("T", _build(kind, value, kind.__name__, ignore_unknown))


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if the file cannot be read or contains anything else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _build(kind: Any, value: Any, where: str, ignore_unknown: bool) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        (kind,) = set(arguments) - {NoneType}
        return None if value is None else _build(kind, value, where, ignore_unknown)
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise ValueError(f"{where} has {len(value)} items, not {len(kinds)}")
        items = enumerate(zip(kinds, value, strict=True))
        return tuple(_build(item, part, f"{where}[{i}]", ignore_unknown) for i, (item, part) in items)
    if origin is dict and isinstance(value, dict):
        return {key: _build(arguments[1], part, f"{where}.{key}", ignore_unknown) for key, part in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        return cast("Any", kind)(**dict(_fields(kind, value, where, ignore_unknown)))
    if kind is float and type(value) is int:
        return float(value)
    if kind is not Any and type(value) is not (origin or kind):
        raise ValueError(f"{where} is {type(value).__name__}, not {getattr(kind, '__name__', kind)}")
    return value


def _fields(kind: Any, value: dict[str, Any], where: str, ignore_unknown: bool) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    for name in names - set(value) if ignore_unknown else names ^ set(value):
        raise ValueError(f"{where}.{name} is {'unknown' if name in value else 'missing'}")
    for name, part in value.items():
        if name in names:
            yield name, _build(hints[name], part, f"{where}.{name}", ignore_unknown)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it contains {constant}")
