"""Generate the command-line reference from the commands' own parsers."""

import argparse
import os
import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

from refnet import cli

INTRODUCTION = """\
This page is generated from the commands themselves; ``refnet COMMAND --help`` prints the same. If you make a mistake,
the command prints one line that explains it, never a traceback, and ends with one of the exit codes below.
"""


def write_page(app: Any) -> None:
    """Write docs/commands.rst if it has changed."""
    os.environ["COLUMNS"] = "96"  # the width of argparse's output
    parser, commands = cli._parser()  # noqa: SLF001 - this is the parser to document
    lines = ["Commands", "========", "", *INTRODUCTION.splitlines(), ""]
    for name, command in commands.items():
        import_module(f"refnet.cli.{name}").add_arguments(command)
        lines += _section(command, "-")
        for nested in _nested(command):
            lines += _section(nested, "~")
    codes = textwrap.dedent((parser.epilog or "").partition("\n")[2])
    lines += ["Exit codes", "----------", "", "::", "", textwrap.indent(codes, "   "), ""]
    page = Path(app.srcdir) / "commands.rst"
    text = "\n".join(lines)
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def _section(command: argparse.ArgumentParser, line: str) -> list[str]:
    usage = command.format_usage().removeprefix("usage: ").rstrip().splitlines()
    indent = len("usage: ")
    return [
        command.prog,
        line * len(command.prog),
        "",
        command.description or "",
        "",
        ".. code-block:: text",
        "",
        *(f"   {text[indent:] if text.startswith(' ' * indent) else text}" for text in usage),
        "",
        *(text for group in command._action_groups for text in _group(group)),  # noqa: SLF001 - there is no public list
    ]


def _group(group: argparse._ArgumentGroup) -> list[str]:
    actions = [action for action in group._group_actions if not isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001
    lines: list[str] = []
    if group.description and actions:
        lines += [_escaped(" ".join(group.description.split())), ""]
    for action in actions:
        if isinstance(action, argparse._HelpAction):  # noqa: SLF001
            continue
        lines += [f"``{_spelling(action)}``", f"   {_escaped(_help(action))}", ""]
    return lines


def _spelling(action: argparse.Action) -> str:
    metavar = action.metavar or action.dest.upper()
    if not action.option_strings:
        return str(metavar)
    flags = ", ".join(action.option_strings)
    return flags if action.nargs == 0 else f"{flags} {metavar}"


def _help(action: argparse.Action) -> str:
    return " ".join((action.help or "its name").split()).replace("%%", "%")


def _escaped(text: str) -> str:
    """Escape the characters that reStructuredText would interpret, and mark flags as code."""
    return re.sub(r"(?<!\S)(--[\w-]*\w)", r"``\1``", re.sub(r"([\\*`_])", r"\\\1", text))


def _nested(command: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Return a command's own subcommands."""
    for action in command._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return list(action.choices.values())
    return []


def setup(app: Any) -> dict[str, Any]:
    """Register this Sphinx extension."""
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
