"""The command line: ``refnet COMMAND``, with one module per command, imported when the command is called."""

import argparse
import io
import os
import re
import sys
from importlib import import_module
from typing import Any, NoReturn

from refnet import __version__
from refnet.errors import ConfigError, RefnetError, with_flags
from refnet.terminal.printable import printable
from refnet.terminal.signals import Interrupted
from refnet.terminal.suggestion import did_you_mean

# In the order in which one meets them.
COMMANDS = {
    "train": "train a network and test it",
    "eval": "test trained networks on labelled images: one crop or ten, one network or several",
    "predict": "say what is on images, and how sure the network is",
    "features": "write the last hidden layer's outputs for labelled images to a file",
    "similar": "find the images that look most alike to a network, as a picture",
    "data": "prepare images once for all epochs, look at what was prepared, fetch public data sets",
    "summary": "describe a network: layers, columns, parameters, multiply-adds, and what crosses",
    "bench": "time every layer and whole training steps, beside PyTorch where that is installed",
    "compare": "hold backends to the textbook: every op, and every layer of a network",
    "doctor": "tell what this machine computes with, and what holds it back",
    "warmup": "compile what training needs, so that it starts at once",
    "tune": "fit a backend's kernels to the machine at hand",
    "runs": "list the runs: net, data, backend, progress, best error",
    "show": "describe one run or checkpoint, and say whether it is whole",
    "report": "write a run as one page to look at: network, curves, kernels, confusion, predictions",
    "reproduce": "try a claim of the paper: several seeds, one thing changed, and an honest verdict",
    "plot": "draw runs as PNG or SVG: kernels, curves, activations, neighbours, predictions",
    "backends": "list the backends and what they lack; --check: whether they can run here",
}

EXIT_CODES = """\
exit codes:
    0  done
    1  a backend disagrees with the textbook (compare), or whoever read the output has gone
    2  usage or configuration: a flag, key, network or run directory
    3  data: an image, a label, a folder
    4  checkpoint: a file of saved parameters
    5  numeric: NaN or infinity where a finite number belongs
    6  backend unavailable
  129  interrupted by SIGHUP, the end of a terminal's session
  130  interrupted by Ctrl-C
  143  interrupted by SIGTERM"""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code. A user's mistake ends in one line, never in a traceback."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to stop
    try:
        code = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except RefnetError as error:
        return _end(error.exit_code, with_flags(error.message))
    except MemoryError as error:
        return _end(ConfigError.exit_code, f"out of memory ({error}); a smaller --batch needs less")
    except KeyboardInterrupt as where:
        return _end(where.exit_code if isinstance(where, Interrupted) else 130, f"interrupted{where}")
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:
        _drop_output()
        return _end(ConfigError.exit_code, f"{error.filename or 'output'} cannot be used: {error.strerror}")
    return code


def _run(argv: list[str]) -> int:
    parser, commands = _parser()
    if argv and argv[0] in COMMANDS:
        import_module(f"refnet.cli.{argv[0]}").add_arguments(commands[argv[0]])
    try:
        arguments, unknown = parser.parse_known_args(argv)
    except SystemExit as done:  # after --help or --version
        return int(done.code or 0)
    _refuse(unknown, getattr(arguments, "parser", commands[arguments.command]))
    code: int = import_module(f"refnet.cli.{arguments.command}").run(arguments)
    return code


def _drop_output() -> None:
    """Forget what could not be printed: Python would try again, and fail again, at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end(code: int, message: str) -> int:
    if sys.stderr is not None:  # closed, it must not become standard output
        for line in message.splitlines():
            print(f"refnet: {printable(line)}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others, and that takes -1e-3 for a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)
        self._negative_number_matcher = re.compile(r"^-\d*\.?\d+(e[-+]?\d+)?$", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{' '.join(message.split())}; see {self.prog} --help")


def within(flag: str, value: int, low: int, high: int | None = None) -> None:
    """Raise ``ConfigError`` unless low <= value <= high."""
    if value < low or (high is not None and value > high):
        most = "" if high is None else f" and at most {high}"
        raise ConfigError(f"{flag} {value} is not allowed; it must be a whole number of at least {low}{most}")


def numbers(flag: str, text: str | None) -> list[int]:
    """Read whole numbers of at least 1 with commas between them, each once; none where the flag was not given."""
    found = []
    for item in names(flag, text):
        if not item.isascii() or not item.isdecimal() or int(item[:10]) < 1 or len(item) > 9:
            raise ConfigError(
                f"{flag} {item} is not allowed; it must be whole numbers of at least 1, with commas between"
            )
        found.append(int(item))
    return found


def names(flag: str, text: str | None) -> list[str]:
    """Read names with commas between them, each once; none where the flag was not given."""
    if text is None:
        return []
    found = [item.strip() for item in text.split(",")]
    if not all(found):
        raise ConfigError(f"{flag} '{text}' is not allowed; it must be names or numbers, with commas between")
    return list(dict.fromkeys(found))


def _refuse(unknown: list[str], command: argparse.ArgumentParser) -> None:
    """Report every argument that the command does not have, with the nearest that it has."""
    problems = []
    for before, argument in zip(["", *unknown], unknown, strict=False):
        if before.startswith("--") and "=" not in before and not argument.startswith("-"):
            continue  # the value of the unknown flag before it
        flag = printable(argument.partition("=")[0])
        flags = command._option_string_actions  # noqa: SLF001 - no public list exists
        hint = did_you_mean(flag, flags if flag.startswith("-") else (), f"see {command.prog} --help")
        problems.append(f"{flag} is not an argument of {command.prog}{hint}")
    if problems:
        raise ConfigError("\n".join(problems))


def _parser() -> tuple[argparse.ArgumentParser, dict[str, _Parser]]:
    """Build the parser; a command's own arguments are added when it is called, to keep ``--help`` fast."""
    parser = _Parser(
        prog="refnet", description="The AlexNet paper as software to read, trust and use.", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"refnet {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands = {
        name: subparsers.add_parser(
            name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".", epilog=EXIT_CODES
        )
        for name, purpose in COMMANDS.items()
    }
    return parser, commands
