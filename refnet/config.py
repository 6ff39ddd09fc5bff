"""The configuration of a training run: every key, what it may be, and how five sources become one `Config`.

A key has one name with three spellings: ``lr_factor`` in the TOML file, ``REFNET_LR_FACTOR`` in the environment and
``--lr-factor`` on the command line. From the weakest source to the strongest: the defaults below, the recipe of the
chosen net, the file, the environment, the flags.

Every value of every source is checked, also one that a stronger source replaces, and all that is wrong is reported
at once: whoever mends a configuration should not have to run it once for each mistake.
"""

import argparse
import json
import math
import numbers
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tomli_w

from refnet.errors import ConfigError
from refnet.machine import packages
from refnet.nets.registry import INITS, RECIPES
from refnet.nets.spec import NetSpec
from refnet.nets.variants import VARIANTS
from refnet.terminal.printable import printable
from refnet.terminal.suggestion import nearest

_PREFIX = "REFNET_"

SCHEDULE_GROUP = "refnet.schedules"  # the entry points by which other packages add schedules
SCHEDULES: Mapping[str, str] = {  # refnet's own, see refnet.training.schedule
    "plateau": "refnet.training.schedule:plateau",
    "fixed": "refnet.training.schedule:fixed",
}


@dataclass(frozen=True)
class Allowed:
    """What a value may be.

    Attributes
    ----------
    kind
        Its type, or with `many` the type of each of its items. An int serves as a float, and nothing else as
        anything else: ``true`` is not 1, and ``"0.1"`` in a TOML file is not a number.
    rule
        The same in words; they complete "it must be ...".
    holds
        Whether the whole value, already of its type, is allowed.
    many
        A tuple: a list in TOML, or one text with commas between the items.
    """

    kind: type
    rule: str
    holds: Callable[[Any], bool]
    many: bool = False

    def from_text(self, text: str) -> object:
        """Read the text of a flag or variable. Raises ``ValueError`` where it is not allowed."""
        if self.many:
            return self.from_value([_FROM_TEXT[self.kind](item.strip()) for item in text.split(",")])
        return self.from_value(_FROM_TEXT[self.kind](text))

    def from_value(self, value: object) -> object:
        """Check a value that has a type already. Raises ``ValueError`` where it is not allowed."""
        if not self.many:
            checked = self._typed(value)
        elif isinstance(value, str):
            return self.from_text(value)
        elif isinstance(value, list | tuple):
            checked = tuple(self._typed(item) for item in value)
        else:
            raise ValueError(self.rule)
        if not self.holds(checked):
            raise ValueError(self.rule)
        return checked

    def _typed(self, value: object) -> object:
        if type(value) is int and value.bit_length() > 63:
            raise ValueError(self.rule)  # TOML has no such integer, and neither has any array
        if type(value) is self.kind:
            return value
        if self.kind is float and type(value) is int:
            return float(value)
        raise ValueError(self.rule)


def _switch(text: str) -> bool:
    if text not in ("true", "false", "1", "0"):
        raise ValueError(text)
    return text in ("true", "1")


_FROM_TEXT: Mapping[type, Callable[[str], object]] = {bool: _switch, int: int, float: float, str: str}


def _whole(low: int, high: int | None = None) -> Allowed:
    if high is None:
        return Allowed(int, f"a whole number of at least {low}", lambda v: v >= low)
    return Allowed(int, f"a whole number from {low} to {high}", lambda v: low <= v <= high)


def _number(rule: str, holds: Callable[[float], bool]) -> Allowed:
    return Allowed(float, f"a number {rule}", lambda v: math.isfinite(v) and holds(v))


def _text(rule: str) -> Allowed:
    return Allowed(str, rule, _is_text)


def _one_of(choices: Iterable[str]) -> Allowed:
    names = tuple(choices)
    return Allowed(str, f"one of {', '.join(names)}", lambda v: v in names)


def _is_text(value: str) -> bool:
    # No path holds a NUL, and TOML, in which every run is written down, holds no undecodable bytes (surrogates).
    return bool(value.strip()) and not re.search(r"[\0\ud800-\udfff]", value)


@dataclass(frozen=True)
class Key:
    """What is known of one key beside its name; flag, help and error messages are all made from it."""

    default: object
    allowed: Allowed
    purpose: str
    unset: str | None = None  # what the default None or () stands for, in words


def _key(default: object, allowed: Allowed, purpose: str, unset: str | None = None) -> Mapping[str, Key]:
    return {"key": Key(default, allowed, purpose, unset)}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of a training run, in the order in which they are printed. A new key is one line here.

    No field has a default, since most values depend on the net: :func:`configure` makes a whole configuration.
    """

    net: str = field(metadata=_key("digits", _text("the name of a net"), "the network to train"))
    init: str | None = field(
        metadata=_key(None, _text("the name of one of the net's inits"), "the initial weights", "the net's own")
    )
    variant: tuple[str, ...] = field(
        metadata=_key(
            (),
            Allowed(
                str,
                f"names among {', '.join(VARIANTS)}, separated by commas",
                lambda v: set(v) <= set(VARIANTS),
                many=True,
            ),
            "what is changed in the net",
            "nothing",
        )
    )
    data: str | None = field(
        metadata=_key(None, _text("'digits' or a path"), "the images to train on", "the net's own")
    )
    images: int | None = field(
        metadata=_key(
            None, _whole(1), "train on so many of the images alone, validate on the same share", "all of them"
        )
    )
    backend: str = field(
        metadata=_key("auto", _text("the name of a backend, or auto for the fastest"), "the code that computes")
    )
    columns: int = field(metadata=_key(2, _whole(1, 2), "columns into which the network is split"))
    devices: tuple[str, ...] = field(
        metadata=_key(
            (),
            Allowed(str, "names of devices, separated by commas", lambda v: all(map(_is_text, v)), many=True),
            "where each column computes",
            "the backend's choice",
        )
    )
    precision: Literal["ieee", "tf32x3", "tf32"] | None = field(
        metadata=_key(
            None,
            _one_of(("ieee", "tf32x3", "tf32")),
            "how products round their factors: not, or to tf32, as three products or one",
            "the backend's choice",
        )
    )
    exchange: Literal["fp32", "fp16", "none"] = field(
        metadata=_key(
            "fp32",
            _one_of(("fp32", "fp16", "none")),
            "how arrays travel between columns; none: no convolution reads the other column",
        )
    )
    graph: bool = field(
        metadata=_key(False, Allowed(bool, "true or false", lambda _: True), "record the steps of GPUs as graphs")
    )
    checked: bool = field(
        metadata=_key(False, Allowed(bool, "true or false", lambda _: True), "check every op's arrays")
    )
    threads: int | None = field(metadata=_key(None, _whole(1), "threads that compute", "one for each core"))
    seed: int = field(metadata=_key(0, _whole(0, 2**32 - 1), "the seed of all that is random"))
    epochs: int = field(metadata=_key(1, _whole(1), "passes over the training images"))
    max_steps: int | None = field(metadata=_key(None, _whole(1), "stop after so many steps", "no limit"))
    batch: int = field(metadata=_key(128, _whole(1), "images in a step"))
    augment: bool = field(
        metadata=_key(
            True,
            Allowed(bool, "true or false", lambda _: True),
            "crop at random and mirror; if not: the centre, as it is",
        )
    )
    colour_noise: float = field(
        metadata=_key(
            0.0, _number("of at least 0", lambda v: v >= 0), "shift colours by so many of their standard deviations"
        )
    )
    crop_sharing: int = field(metadata=_key(1, _whole(1), "images in a row that share a random crop"))
    read_threads: int | None = field(metadata=_key(None, _whole(1), "threads that read images", "one for each core"))
    read_timeout: float = field(
        metadata=_key(60.0, _number("above 0", lambda v: v > 0), "seconds to wait for an image to be read")
    )
    lr: float = field(metadata=_key(0.01, _number("above 0", lambda v: v > 0), "the learning rate at the start"))
    momentum: float = field(
        metadata=_key(0.9, _number("of at least 0 and below 1", lambda v: 0 <= v < 1), "the momentum")
    )
    weight_decay: float = field(metadata=_key(5e-4, _number("of at least 0", lambda v: v >= 0), "the weight decay"))
    schedule: str = field(
        metadata=_key(
            "plateau",
            _one_of(SCHEDULES),
            "when to lower lr: as the validation error stops improving, or at drop_epochs",
        )
    )
    lr_factor: float = field(metadata=_key(10.0, _number("above 1", lambda v: v > 1), "by what to divide lr at a drop"))
    lr_drops: int = field(metadata=_key(3, _whole(0), "plateau: how often lr may drop"))
    patience: int = field(metadata=_key(3, _whole(1), "plateau: epochs without improvement before a drop"))
    drop_epochs: tuple[int, ...] = field(
        metadata=_key(
            (),
            Allowed(
                int,
                "rising whole numbers of at least 1, separated by commas",
                lambda v: all(a < b for a, b in pairwise((0, *v))),
                many=True,
            ),
            "fixed: the epochs at which lr drops",
            "none, a constant lr",
        )
    )
    score_train: int = field(
        metadata=_key(0, _whole(0), "training images to classify after each epoch, to see overfitting")
    )
    checkpoint_minutes: float = field(
        metadata=_key(30.0, _number("above 0", lambda v: v > 0), "minutes between checkpoints at most")
    )
    checkpoint_steps: int | None = field(
        metadata=_key(None, _whole(1), "steps between checkpoints at most", "minutes alone count")
    )
    non_finite: Literal["stop", "skip"] = field(
        metadata=_key(
            "stop", _one_of(("stop", "skip")), "when a loss or gradient is NaN or infinite: stop, or leave the step out"
        )
    )
    run_dir: str | None = field(
        metadata=_key(None, _text("the path of a folder"), "where to write", "a fresh folder under ./runs")
    )

    @property
    def spec(self) -> NetSpec:
        """The network that is trained."""
        return NetSpec(self.net, self.init, self.variant, self.columns, self.exchange)


KEYS: Mapping[str, Key] = {f.name: f.metadata["key"] for f in fields(Config)}
DEFAULTS: Mapping[str, Any] = {name: key.default for name, key in KEYS.items()}


class Resolved(NamedTuple):
    """A configuration, and for each key where its value stood: ``"--lr"``, ``"REFNET_LR"``, ``"config.toml"``, ..."""

    config: Config
    origin: Mapping[str, str]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each key; the parser keeps the texts as they are, for `resolve` to read.

    Checking them there, not in the parser, lets a bad flag be reported together with a bad file.
    """
    group = parser.add_argument_group(
        "configuration",
        "Each flag is also a key of the configuration file and a variable of the\nenvironment: --lr-factor, "
        "lr_factor, REFNET_LR_FACTOR. The net's recipe goes\nbefore the defaults shown here.",
    )
    for name, key in KEYS.items():
        group.add_argument(
            _as_flag(name),
            dest=name,
            default=argparse.SUPPRESS,
            action=argparse.BooleanOptionalAction if key.allowed.kind is bool else "store",
            help=f"{key.purpose}; {key.allowed.rule} (default: {key.unset or _shown(key.default, text=False)})",
        )


def given(namespace: argparse.Namespace) -> dict[str, object]:
    """Pick what the flags of `add_flags` were given from all that a parser read."""
    return {name: value for name, value in vars(namespace).items() if name in KEYS}


def resolve(
    flags: Mapping[str, object],
    *,
    environ: Mapping[str, str],
    file: Path | None,
    recipes: Mapping[str, Mapping[str, object]],
    inits: Mapping[str, Sequence[str]],
) -> Resolved:
    """Merge all sources into one configuration.

    Parameters
    ----------
    flags
        What the command line gave and nothing else (see `given`): texts, or values that have their type already.
    environ
        The environment. Every variable that starts with ``REFNET_`` must be a key.
    file
        The TOML file, if there is one.
    recipes, inits
        For each net its recipe (keys and values) and the names of its inits.

    Raises
    ------
    ConfigError
        With one line for each unknown key and each value that is not allowed, in all sources together.
    """
    problems: list[str] = []
    stated = [_from_environ(environ), _Source(flags, spell=_as_flag, equals=" ")]
    base = [_DEFAULTS]
    if file is not None:
        try:
            stated.insert(0, _from_file(file))
        except ConfigError as error:
            problems.append(printable(error))
            base = []  # the file may name a net: to go on with the default would report what is not wrong
    return _merge(base, stated, recipes, inits, problems)


def configure(net: str = "digits", **settings: object) -> Config:
    """Return the configuration of a training run for a Python caller: defaults, the net's recipe, then `settings`.

    Numbers of NumPy, paths and lists are taken for what they mean.

    Raises
    ------
    ConfigError
        With one line for each argument that is unknown or not allowed.
    """
    arguments = {name: _plain(value) for name, value in {"net": net, **settings}.items()}
    source = _Source(arguments, spell=str, equals="=", python=True)
    return _merge([_DEFAULTS], [source], RECIPES, INITS, []).config


def _plain(value: object) -> object:
    """Return the Python value that a NumPy number, a path or a list of them stands for."""
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _merge(
    base: list["_Source"],
    stated: Sequence["_Source"],
    recipes: Mapping[str, Mapping[str, object]],
    inits: Mapping[str, Sequence[str]],
    problems: list[str],
) -> Resolved:
    """Merge sources, the strongest last; `base` is weaker than the recipe, and `problems` are those found so far."""
    rules = {name: key.allowed for name, key in KEYS.items()}
    rules["net"] = _one_of(recipes)
    rules["schedule"] = _one_of(packages.points(SCHEDULE_GROUP, SCHEDULES))
    rules_of_init = rules
    naming_net = _strongest("net", [*base, *stated])
    net = naming_net and naming_net.values["net"]
    if isinstance(net, str) and net in recipes:
        base = [*base, _Source(recipes[net], where=f"the recipe of {net}")]
        rules_of_init = {**rules, "init": _one_of(inits[net])}

    sources = [*base, *stated]
    # A weaker source may hold the init of another net, since its net is replaced too.
    naming_init = _strongest("init", sources)
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source in sources:
        for name, value in source.values.items():
            try:
                values[name] = source.read(name, value, rules_of_init if source is naming_init else rules)
                origin[name] = source.where or source.spell(name)
            except ConfigError as error:
                problems.append(printable(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return Resolved(Config(**values), origin)


def to_toml(config: Config) -> str:
    """Write the configuration as TOML, which `resolve` reads back to an equal one (with the same recipes).

    TOML has no None, so a key that is None is left out: its default is None too.
    """
    return tomli_w.dumps({name: value for name, value in asdict(config).items() if value is not None})


@dataclass(frozen=True)
class _Source:
    """Keys and values from one place, and how that place is cited.

    A table (defaults, recipe, file) is cited by `where` and its values have their types; flags and environment are
    known by the spelling of their keys, and their values are texts; so are arguments of Python, with Python's values.
    """

    values: Mapping[str, object]
    where: str = ""
    spell: Callable[[str], str] = shlex.quote
    equals: str = " = "
    python: bool = False

    def read(self, name: str, value: object, rules: Mapping[str, Allowed]) -> object:
        """Return the value in its own type. Raises ``ConfigError`` where key or value is not allowed."""
        cited = f"{self.where}: {self.spell(name)}" if self.where else self.spell(name)
        if isinstance(value, Mapping):
            raise ConfigError(f"{cited} is a table, not a key; write the keys at the top of the file, outside tables")
        if name not in rules:
            close = nearest(name, KEYS)
            hint = f"did you mean {self.spell(close)}?" if close else "refnet train --help lists all"
            raise ConfigError(f"{cited} is not a setting; {hint}")
        if value is None and KEYS[name].default is None:
            return None
        text = not self.where and not self.python and isinstance(value, str)
        try:
            return rules[name].from_text(str(value)) if text else rules[name].from_value(value)
        except ValueError as error:
            shown = _cut(repr(value)) if self.python else _shown(value, text=text)
            setting = f"{cited}{self.equals}{shown}"
            raise ConfigError(f"{setting} is not allowed; it must be {rules[name].rule}") from error


_DEFAULTS = _Source(DEFAULTS, where="the default")


def _from_environ(environ: Mapping[str, str]) -> _Source:
    # Swapping the case, unlike lowering it, loses nothing: REFNET_Lr is no key, and is cited as it was written.
    values = {name.removeprefix(_PREFIX).swapcase(): text for name, text in environ.items() if name.startswith(_PREFIX)}
    return _Source(values, spell=lambda name: _PREFIX + name.swapcase(), equals="=")


def _from_file(file: Path) -> _Source:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); name a TOML file") from error
    try:
        return _Source(tomllib.loads(content.decode()), where=str(file))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 ({_position(content[: error.start])}); save it as UTF-8") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deeply; no key needs more than one list") from error
    except ValueError as error:  # tomllib's own error, or an integer of more digits than Python reads
        end = f"{_position(content)}, the end of the file"
        reason = str(error).replace("at end of document", end)
        raise ConfigError(f"{file}: not TOML: {reason}; mend the syntax there") from error


def _position(before: bytes) -> str:
    lines = before.decode().split("\n")
    return f"at line {len(lines)}, column {len(lines[-1]) + 1}"


def _strongest(name: str, sources: Sequence[_Source]) -> _Source | None:
    return next((source for source in reversed(sources) if name in source.values), None)


def _as_flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(value: object, *, text: bool) -> str:
    """Write a value as its source would: a text as the shell takes it, anything else as in TOML, cut if it is long."""
    if text:
        shown = shlex.quote(str(value))
    elif isinstance(value, str | bool):
        shown = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, list | tuple):
        shown = f"[{', '.join(_shown(item, text=False) for item in value)}]"
    elif isinstance(value, Mapping):
        shown = "{...}"
    elif isinstance(value, int) and value.bit_length() > 63:
        shown = f"{hex(value)[:20]}... (more than 64 bits)"  # Python refuses to write thousands of decimal digits
    else:
        shown = str(value)
    return _cut(shown)


def _cut(shown: str) -> str:
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
