"""Run one command: read its settings from every source, call its module, and end with an exit code."""

import argparse
import io
import os
import sys
from contextlib import suppress
from importlib import import_module

from refnet import config
from refnet.cli.parser import parse
from refnet.errors import ConfigError, RefnetError
from refnet.terminal.printable import printable, reason
from refnet.terminal.signals import Interrupted
from refnet.terminal.spelling import setting, with_flags


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code. A user's mistake ends in one line, never in a traceback."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # so that a name which the terminal cannot show does not stop a command
    try:
        code = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except RefnetError as error:
        return _end(error.exit_code, error.message)
    except MemoryError as error:
        return _end(ConfigError.exit_code, f"out of memory ({error}); a smaller {setting('batch')} needs less")
    except KeyboardInterrupt as where:
        return _end(where.exit_code if isinstance(where, Interrupted) else 130, f"interrupted{where}")
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:
        _drop_output()
        return _end(ConfigError.exit_code, _of_system(error))
    return code


def _run(argv: list[str]) -> int:
    try:
        name, command, given, problems = parse(argv)
    except SystemExit as done:  # after --help or --version
        return int(done.code or 0)
    settings = command.by_name
    flags = {key: value for key, value in vars(given).items() if key in settings}
    module = f"refnet.cli.{name}"
    resolved = config.resolve(
        settings,
        flags,
        environ=os.environ,
        file=lambda: import_module(module).config_file(given) if command.reads_file else None,
        problems=problems,
    )
    arguments = argparse.Namespace(**resolved.values, given=frozenset(flags), action=getattr(given, "action", None))
    code: int = import_module(module).run(arguments)
    return code


def _of_system(error: OSError) -> str:
    """Return the message for an error of the operating system that no command has explained."""
    if "temporary directory" in str(error.strerror):  # tempfile's own error, which lists the folders that it tried
        return f"{error.strerror}; set TMPDIR to a folder that can be written to"
    return f"{error.filename or 'output'} cannot be used: {error.strerror or reason(error)}"


def _drop_output() -> None:
    """Discard output that could not be printed. Otherwise Python would try to print it at exit, and fail again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with suppress(OSError):  # no file of the system: a notebook's object
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end(code: int, message: str) -> int:
    if sys.stderr is not None:  # if it is closed, errors must not go to standard output
        for line in with_flags(message).splitlines():
            print(f"refnet: {printable(line)}", file=sys.stderr)
    return code
