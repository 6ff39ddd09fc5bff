"""How several sources become one value for each setting.

A key has one name with four spellings: ``lr_factor`` in Python and in the TOML file, ``REFNET_LR_FACTOR`` in the
environment and ``--lr-factor`` on the command line. From the weakest source to the strongest: the defaults below, the
recipe of the chosen net, the file, the environment, the flags. Python code calls :func:`configure`, which reads neither
file nor environment.

Every value of every source is checked, also one that a stronger source replaces, and all that is wrong is reported
at once: whoever corrects a configuration should not have to run it once for each mistake.
"""

import codecs
import numbers
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from refnet.config.keys import KEYS, Config, Nets, registered
from refnet.config.settings import PREFIX, Allowed, Setting, as_flag, cut, one_of, shown
from refnet.errors import ConfigError
from refnet.terminal.printable import printable
from refnet.terminal.suggestion import nearest

# In TOML's double quotes a backslash begins an escape, as it does not in Windows' paths.
BACKSLASH = re.compile(rb'^[^#\n]*"[^"\n]*\\', re.MULTILINE)
DRIVE = re.compile(rb'"[A-Za-z]:\\(?!\\)')
WRITE_PATHS = "write a path in single quotes ('C:\\data') or with / (\"C:/data\")"


class Resolved(NamedTuple):
    """A value for each setting, and the source of each: ``"--lr"``, ``"REFNET_LR"``, ``"config.toml"``, ..."""

    values: Mapping[str, Any]
    origin: Mapping[str, str]


def configure(net: str = "digits", **settings: object) -> Config:
    """Return the configuration of a training run for a Python caller: defaults, the net's recipe, then `settings`.

    NumPy's numbers, paths and lists are accepted where Python's numbers, texts and tuples are.

    Raises
    ------
    ConfigError
        With one line for each argument that is unknown or not allowed.
    """
    arguments = {name: _plain(value) for name, value in {"net": net, **settings}.items()}
    source = _Source(arguments, spell=str, equals="=", python=True)
    return to_config(_merge(KEYS, [_defaults(KEYS)], [source], registered, []).values)


def resolve(
    settings: Mapping[str, Setting],
    flags: Mapping[str, object],
    *,
    environ: Mapping[str, str],
    file: Callable[[], Path | None] = lambda: None,
    nets: Callable[[], Nets] = registered,
    problems: Sequence[str] = (),
) -> Resolved:
    """Merge all sources into one value for each setting of a command.

    Parameters
    ----------
    settings
        Those of the command, by name.
    flags
        What the command line gave and nothing else: texts, or values that have their type already.
    environ
        The environment. A variable that starts with ``REFNET_`` must be a key of :class:`Config`. It is read by every
        command that has the key, and ignored by the others.
    file
        Returns the TOML file, if there is one. Raises ``ConfigError``, which is reported with the others.
    nets
        Returns the nets there are. Only called where `settings` has a net.
    problems
        What else is wrong, to be reported first.

    Raises
    ------
    ConfigError
        With one line for each unknown key and each value that is not allowed, in all sources together.
    """
    known = list(problems)
    stated = [
        _from_environ(environ),
        _Source(flags, spell=lambda name: settings[name].flag if name in settings else as_flag(name), equals=" "),
    ]
    base = [_defaults(settings)]
    try:
        if path := file():
            stated.insert(0, _from_file(path))
    except ConfigError as error:
        known.append(error.message)
        base = []  # the file may name a net: to go on with the default would report what is not wrong
    return _merge(settings, base, stated, nets, known)


def to_config(values: Mapping[str, Any]) -> Config:
    """Return the configuration in values that may have other settings too."""
    return Config(**{name: values[name] for name in KEYS})


def to_toml(config: Config) -> str:
    """Write the configuration as TOML, which `resolve` reads back to an equal one (with the same recipes).

    TOML has no None, so a key that is None is left out: its default is None too.
    """
    return tomli_w.dumps({name: value for name, value in asdict(config).items() if value is not None})


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


@dataclass(frozen=True)
class _Source:
    """Keys and values from one place, and how that place is cited.

    A table (defaults, recipe, file) is cited by `where` and its values have their types; flags and environment are
    known by the spelling of their keys, and their values are texts; so are arguments of Python, with Python's values.
    A file and the environment state keys of `Config` alone, no other flags.
    """

    values: Mapping[str, object]
    where: str = ""
    spell: Callable[[str], str] = shlex.quote
    equals: str = " = "
    python: bool = False
    keys_alone: bool = False

    def read(self, name: str, value: object, setting: Setting | None, rule: Allowed | None) -> object:
        """Return the value in its own type. Raises ``ConfigError`` where key or value is not allowed."""
        cited = f"{self.where}: {self.spell(name)}" if self.where else self.spell(name)
        if isinstance(value, Mapping):
            raise ConfigError(f"{cited} is a table, not a key; write the keys at the top of the file, outside tables")
        if setting is None or rule is None:
            close = nearest(name, KEYS)
            hint = f"did you mean {self.spell(close)}?" if close else "refnet train --help lists all"
            raise ConfigError(f"{cited} is not a setting; {hint}")
        if value is None and setting.default is None:
            return None
        as_text = not self.where and not self.python and isinstance(value, str | list)
        try:
            return rule.from_text(value) if as_text and isinstance(value, str) else rule.from_value(value)
        except ValueError as error:
            written = cut(repr(value)) if self.python else shown(value, as_text=as_text)
            close = nearest(value, rule.choices()) if rule.choices else None
            hint = f"; did you mean {close}?" if close else ""
            raise ConfigError(f"{cited}{self.equals}{written} is not allowed; it must be {rule.rule}{hint}") from error


def _merge(
    settings: Mapping[str, Setting],
    base: list[_Source],
    stated: Sequence[_Source],
    nets: Callable[[], Nets],
    problems: list[str],
) -> Resolved:
    """Merge sources, the strongest last; `base` is weaker than the recipe, and `problems` are those found so far."""
    rules = {name: setting.allowed for name, setting in settings.items()}
    rules_of_init = rules
    if "net" in settings:
        there = nets()
        rules["net"] = replace(rules["net"], choices=lambda: there.recipes)
        naming_net = _strongest("net", [*base, *stated])
        net = naming_net and naming_net.values["net"]
        if isinstance(net, str) and net in there.recipes and not rules["net"].many:
            recipe = {
                name: v for name, v in there.recipes[net].items() if name not in settings or settings[name].by_net
            }
            base = [*base, _Source(recipe, where=f"the recipe of {net}")]
            if "init" in settings:
                rules_of_init = {**rules, "init": one_of(there.inits[net])}

    sources = [*base, *stated]
    # A weaker source may hold the init of another net, since its net is replaced too.
    naming_init = _strongest("init", sources)
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source in sources:
        for name, value in source.values.items():
            setting = settings.get(name)
            if source.keys_alone and setting is not None and not setting.variable:
                setting = None
            if setting is None and name in KEYS:
                continue  # a key of other commands
            rule = (rules_of_init if source is naming_init else rules).get(name)
            try:
                values[name] = source.read(name, value, setting, rule)
                origin[name] = source.where or source.spell(name)
            except ConfigError as error:
                problems.append(printable(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return Resolved(values, origin)


def _defaults(settings: Mapping[str, Setting]) -> _Source:
    return _Source({name: setting.default for name, setting in settings.items() if not setting.required}, "the default")


def _from_environ(environ: Mapping[str, str]) -> _Source:
    # Swapping the case, unlike lowering it, loses nothing: REFNET_Lr is no key, and is cited as it was written.
    values = {name.removeprefix(PREFIX).swapcase(): value for name, value in environ.items() if name.startswith(PREFIX)}
    return _Source(values, spell=lambda name: PREFIX + name.swapcase(), equals="=", keys_alone=True)


def _from_file(file: Path) -> _Source:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); name a TOML file") from error
    content = content.removeprefix(codecs.BOM_UTF8)  # Windows' editors begin a file with a byte order mark
    try:
        table = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 ({_position(content[: error.start])}); save it as UTF-8") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deeply; no key needs more than one list") from error
    except ValueError as error:  # tomllib's own error, or an integer of more digits than Python reads
        end = f"{_position(content)}, the end of the file"
        reason = str(error).replace("at end of document", end)
        remedy = WRITE_PATHS if BACKSLASH.search(content) else "correct the syntax there"
        raise ConfigError(f"{file}: not TOML: {reason}; {remedy}") from error
    if drive := DRIVE.search(content):  # it was read, but as "C:", a tab and "emp" for C:\temp
        raise ConfigError(
            f"{file}: a path with a single \\ in double quotes {_position(content[: drive.start()])}; {WRITE_PATHS}"
        )
    return _Source(table, where=str(file), keys_alone=True)


def _position(before: bytes) -> str:
    lines = before.decode().split("\n")
    return f"at line {len(lines)}, column {len(lines[-1]) + 1}"


def _strongest(name: str, sources: Sequence[_Source]) -> _Source | None:
    return next((source for source in reversed(sources) if name in source.values), None)
