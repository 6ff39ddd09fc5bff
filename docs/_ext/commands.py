"""Write the command-line reference from the table of commands."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refnet.cli.commands import COMMANDS, Command
from refnet.cli.parser import EXIT_CODES, grouped, help_of, metavar, sentence, usage
from refnet.config.settings import Setting, as_flag

INTRODUCTION = """\
This page is made from the commands themselves; ``refnet COMMAND --help`` prints the same. A user's mistake never ends
in a traceback: one line says what is wrong, and the exit code is that of the kind of mistake (see the end of this
page).
"""


def write_page(app: Any) -> None:
    """Write docs/commands.rst if its text has changed."""
    lines = ["Commands", "========", "", *INTRODUCTION.splitlines(), ""]
    for name, command in COMMANDS.items():
        lines += _section(f"refnet {name}", command, "-")
        for nested, own in command.commands.items():
            lines += _section(f"refnet {name} {nested}", own, "~")
    codes = EXIT_CODES.partition("\n")[2]
    lines += ["Exit codes", "----------", "", "::", "", *(f"   {line}" for line in codes.splitlines()), ""]
    page = Path(app.srcdir) / "commands.rst"
    text = "\n".join(lines)
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def _section(prog: str, command: Command, line: str) -> Iterator[str]:
    yield from [prog, line * len(prog), "", _escaped(sentence(command.purpose)), ""]
    if command.explanation:
        yield from [_escaped(command.explanation), ""]
    usage_line = f"{prog} COMMAND ..." if command.commands else usage(prog, command)
    yield from [".. code-block:: text", "", f"   {usage_line}", ""]
    for title, settings in grouped(command):
        if title != "options":
            yield from [f"**{title}**", ""]
        for setting in settings:
            yield from [f"``{_spelling(setting)}``", f"   {_escaped(help_of(setting, command))}", ""]


def _spelling(setting: Setting) -> str:
    if setting.positional:
        return metavar(setting)
    flags = [*([f"-{setting.letter}"] if setting.letter else []), as_flag(setting.name)]
    if setting.allowed.kind is not bool:
        return f"{', '.join(flags)} {metavar(setting)}"
    return ", ".join([*flags, *([f"--no-{flags[-1][2:]}"] if setting.variable else [])])


def _escaped(text: str) -> str:
    """Escape the markup of reStructuredText, and format flags as code."""
    return re.sub(r"(?<!\S)(--[\w-]*\w)", r"``\1``", re.sub(r"([\\*`_])", r"\\\1", text))


def setup(app: Any) -> dict[str, Any]:
    """Register this Sphinx extension."""
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
