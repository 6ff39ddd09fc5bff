"""Dataclasses as JSON: every value that is read is held to the type that is declared for it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def encode(record: Any) -> str:
    """Write a dataclass as strict JSON. Raises ``ValueError`` for NaN and infinity."""
    return json.dumps(asdict(record), allow_nan=False)


def decode(kind: type[T], text: str, lacking: Mapping[str, Any] | None = None) -> T:
    """Read a dataclass back. Raises ``ValueError`` that names the field which is missing, unknown or of another type.

    `lacking` has the fields that a text may lack because it is older than they are, and what they are then.
    Fields may be str, int, float, bool, dict (taken as it is), dataclasses, tuples of these, and any of them or None.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
        whole = {**lacking, **value} if lacking and isinstance(value, dict) else value
        return cast("T", _build(kind, whole, kind.__name__))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _build(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        (kind,) = set(arguments) - {NoneType}
        return None if value is None else _build(kind, value, where)
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise ValueError(f"{where} has {len(value)} items, not {len(kinds)}")
        return tuple(
            _build(item, part, f"{where}[{i}]") for i, (item, part) in enumerate(zip(kinds, value, strict=True))
        )
    if is_dataclass(kind) and isinstance(value, dict):
        return cast("Any", kind)(**dict(_fields(kind, value, where)))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not (origin or kind):
        raise ValueError(f"{where} is {type(value).__name__}, not {getattr(kind, '__name__', kind)}")
    return value


def _fields(kind: Any, value: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    for name in {field.name for field in fields(kind)} ^ set(value):
        raise ValueError(f"{where}.{name} is {'unknown' if name in value else 'missing'}")
    for name, part in value.items():
        yield name, _build(hints[name], part, f"{where}.{name}")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}")
