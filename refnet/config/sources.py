"""Merge several sources into one value for each setting.

A key has one name with four spellings: ``lr_factor`` in Python and in the TOML file, ``REFNET_LR_FACTOR`` in the
environment and ``--lr-factor`` on the command line. Each of these sources overrides the ones before it: the defaults,
the recipe of the chosen net, the file, the environment, the flags. Python code calls :func:`configure`, which reads
neither file nor environment.

Every value of every source is checked, even one that another source overrides, and all mistakes are reported at once,
so that a configuration can be corrected in one go.
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

# In TOML's double quotes a backslash begins an escape sequence, which paths of Windows do not intend.
BACKSLASH = re.compile(rb'^[^#\n]*"[^"\n]*\\', re.MULTILINE)
DRIVE = re.compile(rb'"[A-Za-z]:\\(?!\\)')
WRITE_PATHS = "write a path in single quotes ('C:\\data') or with / (\"C:/data\")"


class Resolved(NamedTuple):
    """A value for each setting, and the source of each: ``"--lr"``, ``"REFNET_LR"``, ``"config.toml"``, ..."""

    values: Mapping[str, Any]
    origin: Mapping[str, str]


def configure(net: str = "digits", **settings: object) -> Config:
    """Return the configuration of a training run for a Python caller: `settings`, then the net's recipe, then defaults.

    NumPy's numbers, paths and lists are accepted where Python's numbers, texts and tuples are.

    Raises
    ------
    ConfigError
        The message has one line for each argument that is unknown or not allowed.
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
        The settings of the command, by name.
    flags
        Only the settings that the command line gives: as texts, or as values of their own type.
    environ
        The environment. A variable that starts with ``REFNET_`` must be a key of :class:`Config`. It is read by every
        command that has the key, and ignored by the others.
    file
        Returns the TOML file, if there is one. Raises ``ConfigError``, which is reported with the others.
    nets
        Returns the known nets. It is only called if `settings` has a net.
    problems
        Messages about other mistakes, which are reported first.

    Raises
    ------
    ConfigError
        The message has one line for each unknown key and each value that is not allowed, in any source.
    """
    messages = list(problems)
    given = [
        _from_environ(environ),
        _Source(flags, spell=lambda name: settings[name].flag if name in settings else as_flag(name), equals=" "),
    ]
    base = [_defaults(settings)]
    try:
        if path := file():
            given.insert(0, _from_file(path))
    except ConfigError as error:
        messages.append(error.message)
        base = []  # the file may name another net, for which the default net would report mistakes that are none
    return _merge(settings, base, given, nets, messages)


def to_config(values: Mapping[str, Any]) -> Config:
    """Return the configuration of a training run from values that may include other settings."""
    return Config(**{name: values[name] for name in KEYS})


def to_toml(config: Config) -> str:
    """Return the configuration as TOML, from which `resolve` makes an equal one (if the recipes are the same).

    TOML has no None, so a key that is None is left out; its default is None, too.
    """
    return tomli_w.dumps({name: value for name, value in asdict(config).items() if value is not None})


def _plain(value: object) -> object:
    """Convert a NumPy number, a path or a list of them to Python's own types."""
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
    """Keys and values from one source, and how messages cite them.

    The defaults, a recipe and a file are cited by `where`, and their values have types. Flags, variables and Python
    arguments are cited by the spelling of their keys; flags and variables have texts as values. A file and the
    environment contain only keys of `Config` (`keys_alone`), no other flags.
    """

    values: Mapping[str, object]
    where: str = ""
    spell: Callable[[str], str] = shlex.quote
    equals: str = " = "
    python: bool = False
    keys_alone: bool = False

    def read(self, name: str, value: object, setting: Setting | None, rule: Allowed | None) -> object:
        """Return the value as its own type. Raises ``ConfigError`` if the key or the value is not allowed."""
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
    given: Sequence[_Source],
    nets: Callable[[], Nets],
    problems: list[str],
) -> Resolved:
    """Merge sources: the recipe overrides `base`, `given` overrides the recipe, and its later sources the earlier."""
    rules = {name: setting.allowed for name, setting in settings.items()}
    rules_of_init = rules
    if "net" in settings:
        known = nets()
        rules["net"] = replace(rules["net"], choices=lambda: known.recipes)
        naming_net = _strongest("net", [*base, *given])
        net = naming_net and naming_net.values["net"]
        if isinstance(net, str) and net in known.recipes and not rules["net"].many:
            recipe = {
                name: v for name, v in known.recipes[net].items() if name not in settings or settings[name].by_net
            }
            base = [*base, _Source(recipe, where=f"the recipe of {net}")]
            if "init" in settings:
                rules_of_init = {**rules, "init": one_of(known.inits[net])}

    sources = [*base, *given]
    # An init in a source that is overridden may belong to another net, which is overridden, too.
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
    # Swapping the case can be undone, unlike lowering it: REFNET_Lr is not a key, and is cited as it was written.
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
    except ValueError as error:  # tomllib's own error, or an integer with more digits than Python reads
        end = f"{_position(content)}, the end of the file"
        reason = str(error).replace("at end of document", end)
        remedy = WRITE_PATHS if BACKSLASH.search(content) else "correct the syntax there"
        raise ConfigError(f"{file}: not TOML: {reason}; {remedy}") from error
    if drive := DRIVE.search(content):  # for example, C:\temp was read as "C:", a tab and "emp"
        raise ConfigError(
            f"{file}: a path with a single \\ in double quotes {_position(content[: drive.start()])}; {WRITE_PATHS}"
        )
    return _Source(table, where=str(file), keys_alone=True)


def _position(before: bytes) -> str:
    lines = before.decode().split("\n")
    return f"at line {len(lines)}, column {len(lines[-1]) + 1}"


def _strongest(name: str, sources: Sequence[_Source]) -> _Source | None:
    return next((source for source in reversed(sources) if name in source.values), None)
