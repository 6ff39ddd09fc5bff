"""Make argparse's parsers from the table of commands.

argparse only splits the command line. It converts, checks and requires no values, because it would stop at the first
one that is wrong or missing.
"""

import argparse
import os
import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, NoReturn

from refnet.cli.commands import COMMANDS, Command
from refnet.config import registered
from refnet.config.settings import Setting, as_flag
from refnet.errors import ConfigError
from refnet.machine.version import __version__
from refnet.terminal.printable import printable
from refnet.terminal.suggestion import did_you_mean

EXIT_CODES = """\
exit codes:
    0  done
    1  a backend disagrees with the NumPy reference (compare), or the output
       pipe was closed
    2  usage or configuration: a flag, setting, network or run folder
    3  data: an image, a label, a folder
    4  checkpoint: a file of saved parameters
    5  numeric: NaN or infinity where a finite number belongs
    6  backend unavailable
  129  interrupted by SIGHUP, the end of a terminal's session
  130  interrupted by Ctrl-C
  143  interrupted by SIGTERM"""

NO_VALUE = object()  # what argparse stores for a flag that is last, or is followed by another flag

METAVARS = {int: "N", float: "X", str: "NAME"}


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """A formatter that never breaks a line within ``--no-graph``, and shows that a flag needs its value."""

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return str(action.metavar) if action.const is NO_VALUE else super()._format_args(action, default_metavar)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all errors of refnet, and that reads -1e-3 as a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **options)
        self._negative_number_matcher = re.compile(r"^-\d*\.?\d+(e[-+]?\d+)?$", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        """Raise ``ConfigError`` instead of ending the process."""
        raise ConfigError(f"{' '.join(message.split())}; see {self.prog} --help")


def parse(argv: list[str]) -> tuple[str, Command, argparse.Namespace, list[str]]:
    """Split a command line.

    Returns
    -------
    tuple
        The name of the command's module; the command; the given texts, by setting; and a message for each argument that
        is unknown, lacks its value, or is missing.

    Raises
    ------
    ConfigError
        There is no such command, or the line cannot be split.
    SystemExit
        Help or the version has been printed.
    """
    commands, prog = COMMANDS, "refnet"
    for word in argv:
        if word.startswith("-") or not commands:
            break
        if word not in commands:
            hint = did_you_mean(word, commands, f"{prog} --help lists them")
            raise ConfigError(f"{printable(word)} is not a command of {prog}{hint}")
        commands, prog = commands[word].commands, f"{prog} {word}"
    namespace, unknown = build(argv).parse_known_args(argv)
    command, prog = COMMANDS[namespace.command], f"refnet {namespace.command}"
    if command.commands:
        command, prog = command.commands[namespace.action], f"{prog} {namespace.action}"
    problems = [*_unknown(unknown, command, prog), *_missing(namespace, command, prog)]
    return namespace.command, command, namespace, problems


def build(argv: Sequence[str]) -> Parser:
    """Return the parser. Only the called command has its arguments, which keeps help fast."""
    parser = Parser(
        prog="refnet", description="The AlexNet paper as software to read, trust and use.", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"refnet {__version__}")
    _add_commands(parser, COMMANDS, ["command", "action"], argv)
    return parser


def _add_commands(parser: Parser, commands: Mapping[str, Command], dests: Sequence[str], argv: Sequence[str]) -> None:
    parsers = parser.add_subparsers(dest=dests[0], metavar="COMMAND", required=True)
    for name, command in commands.items():
        paragraphs = [part for part in (sentence(command.purpose), command.explanation) if part]
        description = "\n\n".join(map(_wrapped, paragraphs))
        prog = f"{parser.prog} {name}"
        added = parsers.add_parser(
            name,
            help=command.purpose,
            description=description,
            epilog=EXIT_CODES,
            usage=None if command.commands else usage(prog, command),
        )
        if argv[:1] == [name]:
            _add_settings(added, command)
            if command.commands:
                _add_commands(added, command.commands, dests[1:], argv[1:])


def _add_settings(parser: Parser, command: Command) -> None:
    groups = {"options": parser}
    for title, settings in grouped(command):
        group: Any = groups.get(title) or parser.add_argument_group(title)
        for setting in settings:
            group.add_argument(
                *_spellings(setting), **_options(setting), help=help_of(setting, command).replace("%", "%%")
            )


def _options(setting: Setting) -> dict[str, Any]:
    default = {"default": argparse.SUPPRESS}
    if setting.allowed.kind is bool:
        action = argparse.BooleanOptionalAction if setting.variable else "store_true"
        return {**default, "dest": setting.name, "action": action}
    options = {**default, "metavar": metavar(setting)}
    if setting.positional:
        return {**options, "nargs": "*" if setting.several else "?"}
    action = "append" if setting.several else "store"
    return {**options, "dest": setting.name, "action": action, "nargs": "?", "const": NO_VALUE}


def _spellings(setting: Setting) -> list[str]:
    if setting.positional:
        return [setting.name]
    return [*([f"-{setting.letter}"] if setting.letter else []), as_flag(setting.name)]


def _flags(setting: Setting) -> list[str]:
    """Return every flag that gives the setting, with ``--no-augment`` for a switch that is on by default."""
    if setting.positional:
        return []
    negated = setting.allowed.kind is bool and setting.variable
    return [*_spellings(setting), *([as_flag(f"no_{setting.name}")] if negated else [])]


def grouped(command: Command) -> list[tuple[str, list[Setting]]]:
    """Return the settings of a command under the headings of its help."""
    titles = list(dict.fromkeys(setting.group for setting in command.settings))
    ordered = sorted(command.settings, key=lambda setting: titles.index(setting.group))
    return [(title, list(settings)) for title, settings in groupby(ordered, key=lambda setting: setting.group)]


def usage(prog: str, command: Command) -> str:
    """Return the usage line of a command, in which ``[options]`` stands for all optional flags."""
    words = [prog]
    words += [_shown(setting) for setting in command.settings if _is_required_flag(setting)]
    words += ["[options]"]
    for setting in command.settings:
        if setting.positional:
            word = f"{metavar(setting)} ..." if setting.several else metavar(setting)
            words.append(word if setting.required else f"[{word}]")
    return " ".join(words)


def _is_required_flag(setting: Setting) -> bool:
    return setting.required and not setting.positional


def metavar(setting: Setting) -> str:
    """Return the placeholder of a setting's value in help."""
    allowed = setting.allowed
    if setting.metavar:
        return setting.metavar
    if setting.positional:
        return setting.name.upper()
    word = METAVARS.get(allowed.kind, "PATH")
    return f"{word},..." if allowed.many else word


def help_of(setting: Setting, command: Command) -> str:
    """Return the help of a setting: purpose, range and default, or one default for each net if they differ."""
    parts = [setting.purpose]
    if setting.allowed.choices and not all(choice in setting.purpose for choice in setting.allowed.choices()):
        parts.append(f": {', '.join(setting.allowed.choices())}")
    if setting.allowed.range and setting.allowed.range not in setting.purpose:
        parts.append(f", {setting.allowed.range}")
    if not setting.required and not (setting.allowed.kind is bool and not setting.variable):
        parts.append(f" (default: {_default(setting, command)})")
    return "".join(parts)


def _default(setting: Setting, command: Command) -> str:
    if not setting.by_net or "net" not in command.by_name or command.by_name["net"].allowed.many:
        return _written(setting, setting.default)
    values = {net: _written(setting, recipe.get(setting.name, setting.default)) for net, recipe in _recipes().items()}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    nets_by_value = {value: [net for net in values if values[net] == value] for value in values.values()}
    return "; ".join(f"{value} for {', '.join(nets)}" for value, nets in nets_by_value.items())


@cache
def _recipes() -> dict[str, Mapping[str, object]]:
    """Return the recipe of each net; cached, because looking for packages with nets is the slowest part of help."""
    return dict(registered().recipes)


def _written(setting: Setting, value: object) -> str:
    """Return a default as a command line would give it."""
    if value is None or value == ():
        return setting.unset or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def sentence(purpose: str) -> str:
    """Return a purpose as a sentence."""
    return f"{purpose[0].upper()}{purpose[1:]}."


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, min(shutil.get_terminal_size().columns, 100) - 2, break_on_hyphens=False)


def _unknown(unknown: list[str], command: Command, prog: str) -> Iterable[str]:
    """Yield a message for every unknown argument, with the most similar flag of the command."""
    flags = [flag for setting in command.settings for flag in _flags(setting)]
    for before, argument in zip(["", *unknown], unknown, strict=False):
        if before.startswith("--") and "=" not in before and not argument.startswith("-"):
            continue  # the value of the unknown flag before it
        flag = printable(argument.partition("=")[0])
        if argument in ("true", "false"):
            yield f"{argument} is not an argument of {prog}; a switch takes no value: write --NAME or --no-NAME"
            continue
        hint = did_you_mean(flag, [*flags, "--help"] if flag.startswith("-") else [], f"see {prog} --help")
        if argument.startswith("-") and os.path.lexists(argument):
            hint = f"; a file or folder of that name is written ./{flag}"
        yield f"{flag} is not an argument of {prog}{hint}"


def _missing(namespace: argparse.Namespace, command: Command, prog: str) -> Iterable[str]:
    """Yield a message for every flag without a value, and for missing arguments. Flags without a value are removed."""
    given, missing = vars(namespace), []
    for setting in command.settings:
        values = given.get(setting.name)
        if values is NO_VALUE or (isinstance(values, list) and NO_VALUE in values):
            del given[setting.name]
            yield f"{setting.flag} needs a value, {setting.allowed.rule}; see {prog} --help"
        elif setting.required and not values:
            missing.append(_shown(setting))
    if missing:
        yield f"{prog} needs {' and '.join(missing)}; see {prog} --help"


def _shown(setting: Setting) -> str:
    return metavar(setting) if setting.positional else f"{setting.flag} {metavar(setting)}"
