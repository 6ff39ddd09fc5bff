"""The class Setting: the name, the allowed values, the help and the default from which every flag is made.

The keys of a training run are in ``refnet.config.keys``, the other flags in ``refnet.cli.flags``.
"""

import json
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet import files

PREFIX = "REFNET_"


@dataclass(frozen=True)
class Allowed:
    """The values that a setting may have.

    Attributes
    ----------
    kind
        Its type, or with `many` the type of each item. An int is accepted for a float and a text for a path; no other
        type is converted: ``true`` is not 1, and ``"0.1"`` in a TOML file is not a number.
    words
        The allowed values in words, which complete "it must be ...". Not used if there are `choices`.
    holds
        Returns whether a value of the right type is allowed.
    many
        Whether the value is a tuple: a list in TOML, or one text with commas between the items.
    distinct
        Whether repeated items are removed.
    choices
        Returns the texts that are allowed for the value, or for each item. It is a function, so that the help of one
        command does not import the modules of another.
    range
        The part of `words` that help shows after the purpose, such as "at least 1".
    names_path
        Whether the value, or each item, is a path, in which a leading ``~`` or ``~user`` is that user's home folder.
    """

    kind: type
    words: str
    holds: Callable[[Any], bool]
    many: bool = False
    distinct: bool = False
    choices: Callable[[], Iterable[str]] | None = None
    range: str = ""
    names_path: bool = False

    @property
    def rule(self) -> str:
        """The allowed values in words, which complete "it must be ..."."""
        if self.choices is None:
            return self.words
        names = ", ".join(self.choices())
        return f"names among {names}, separated by commas" if self.many else f"one of {names}"

    def from_text(self, text: str) -> object:
        """Return the value of a flag or variable from its text. Raises ``ValueError`` if it is not allowed."""
        if self.many:
            return self.from_value([_FROM_TEXT[self.kind](item.strip()) for item in text.split(",")])
        return self.from_value(_FROM_TEXT[self.kind](text))

    def from_value(self, value: object) -> object:
        """Return a value that is not a text, as its own type. Raises ``ValueError`` if it is not allowed."""
        if not self.many:
            checked = self._typed(value)
        elif isinstance(value, str):
            return self.from_text(value)
        elif isinstance(value, list | tuple):
            items = tuple(self._typed(item) for item in value)
            checked = tuple(dict.fromkeys(items)) if self.distinct else items
        else:
            raise ValueError(self.words)
        if not self.holds(checked) or not self._chosen(checked):
            raise ValueError(self.words)
        return checked

    def _chosen(self, value: object) -> bool:
        if self.choices is None:
            return True
        return set(value if isinstance(value, tuple) else (value,)) <= set(self.choices())

    def _typed(self, value: object) -> object:
        if type(value) is int and value.bit_length() > 63:
            raise ValueError(self.words)  # neither TOML nor an array can store such an integer
        if self.names_path and isinstance(value, str | Path) and _is_text(str(value)):
            value = files.expanded(value)
        if type(value) is self.kind:
            return value
        if self.kind is float and type(value) is int:
            return float(value)
        if self.kind is Path and isinstance(value, str) and _is_text(value):
            return Path(value)
        raise ValueError(self.words)


@dataclass(frozen=True)
class Setting:
    """One setting, from which its flag, its help and every message about it are made.

    Attributes
    ----------
    name
        The name as a Python argument and as a key in TOML.
    default, unset
        The default, and what None or an empty tuple means, in words.
    group
        The heading under which help lists it.
    variable
        Whether the environment variable ``REFNET_NAME`` sets it, in every command that has it.
    by_net
        Whether the recipe of the command's net overrides the default.
    positional, required, several
        Whether the command line gives it without a flag; must give it; may give it several times.
    letter
        The letter of its short flag, if it has one.
    metavar
        The placeholder of its value in help.
    """

    name: str
    allowed: Allowed
    purpose: str
    default: object = None
    unset: str = ""
    group: str = "options"
    variable: bool = False
    by_net: bool = False
    positional: bool = False
    required: bool = False
    several: bool = False
    letter: str = ""
    metavar: str = ""

    @property
    def flag(self) -> str:
        """Its flag; for a positional argument, its placeholder."""
        if self.positional:
            return self.metavar or self.name.upper()
        return f"-{self.letter}" if self.letter else as_flag(self.name)


def as_flag(name: str) -> str:
    """Return the flag of a name: ``--lr-factor``."""
    return "--" + name.replace("_", "-")


def whole(low: int, high: int | None = None) -> Allowed:
    """Whole numbers from `low`, to `high` where that is given."""
    words = f"at least {low}" if high is None else f"from {low} to {high}"
    rule = f"a whole number {'of ' if high is None else ''}{words}"
    return Allowed(int, rule, lambda v: low <= v <= (v if high is None else high), range=words)


def number(range_: str, holds: Callable[[float], bool]) -> Allowed:
    """Finite numbers in a range, which is given in words too."""
    rule = f"a number {'of ' if range_.startswith('at least') else ''}{range_}"
    return Allowed(float, rule, lambda v: math.isfinite(v) and holds(v), range=range_)


def text(rule: str) -> Allowed:
    """Texts that are not blank."""
    return Allowed(str, rule, _is_text)


def texts(rule: str, *, distinct: bool = False) -> Allowed:
    """Texts that are not blank, separated by commas."""
    return Allowed(str, rule, _are_texts, many=True, distinct=distinct)


def whole_numbers(high: int | None = None) -> Allowed:
    """Different whole numbers from 1, to `high` where that is given, separated by commas."""
    words = f"whole numbers {'of at least 1' if high is None else f'from 1 to {high}'}, separated by commas"
    return Allowed(int, words, lambda v: all(1 <= n <= (high or n) for n in v), many=True, distinct=True)


def one_of(
    choices: Iterable[str] | Callable[[], Iterable[str]], *, many: bool = False, distinct: bool = False
) -> Allowed:
    """One of several texts, or with `many` several of them; a function that returns them is called when needed."""
    names = choices if callable(choices) else lambda: choices
    return Allowed(str, "", lambda _: True, many=many, distinct=distinct, choices=names)


def path(rule: str, *, ending: str = "") -> Allowed:
    """Paths, with an ending of the name where that is given."""
    return Allowed(Path, rule, lambda v: v.suffix.endswith(ending), names_path=True)


def paths(rule: str) -> Allowed:
    """Paths, each an argument of its own."""
    return Allowed(Path, rule, lambda _: True, many=True, names_path=True)


def path_text(rule: str) -> Allowed:
    """Texts that are paths, or names that stand beside paths, such as 'digits'."""
    return Allowed(str, rule, _is_text, names_path=True)


def path_texts(rule: str) -> Allowed:
    """Texts that are paths, each an argument of its own."""
    return Allowed(str, rule, _are_texts, many=True, names_path=True)


def switch() -> Allowed:
    """Either true or false."""
    return Allowed(bool, "true or false", lambda _: True)


def shown(value: object, *, as_text: bool) -> str:
    """Return a value as its source writes it: quoted for a shell if `as_text`, otherwise as TOML; cut if it is long."""
    if as_text:
        items = value if isinstance(value, list | tuple) else [value]
        written = " ".join(shlex.quote(str(item)) for item in items)
    elif isinstance(value, str | bool):
        written = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, list | tuple):
        written = f"[{', '.join(shown(item, as_text=False) for item in value)}]"
    elif isinstance(value, Mapping):
        written = "{...}"
    elif isinstance(value, int) and value.bit_length() > 63:
        written = f"{hex(value)[:20]}... (more than 64 bits)"  # Python refuses to write thousands of decimal digits
    else:
        written = str(value)
    return cut(written)


def cut(written: str) -> str:
    """Return at most 80 characters of a text."""
    return written if len(written) <= 80 else f"{written[:77]}..."


def _is_text(value: str) -> bool:
    # A path cannot contain NUL. TOML, which stores the settings of a run, cannot contain surrogates (undecodable
    # bytes).
    return bool(value.strip()) and not re.search(r"[\0\ud800-\udfff]", value)


def _are_texts(value: tuple[str, ...]) -> bool:
    return all(map(_is_text, value))


def _switch(written: str) -> bool:
    if written not in ("true", "false", "1", "0"):
        raise ValueError(written)
    return written in ("true", "1")


_FROM_TEXT: Mapping[type, Callable[[str], object]] = {bool: _switch, int: int, float: float, str: str, Path: str}
