"""Break lines at words for a terminal, so that the terminal breaks none of them within a word."""

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable

from refnet.terminal.printable import printable
from refnet.terminal.streams import is_terminal

LABEL = re.compile(r"\S.{1,16}?\s{2,}|\s*")  # "test error   ", after which continued lines are aligned, or the margin
COMMAND = re.compile(r"\brefnet [a-z]+ .*(--|FOLDER)")  # to be copied from the terminal in one piece


def wrapped(line: str, width: int) -> str:
    """Return a line broken at spaces to at most `width` characters.

    Continued lines are indented: to the text after a label, otherwise by two more than the line. A line with a command
    to copy, or with a word that does not fit, such as a long path, is left to the terminal.
    """
    match = LABEL.match(line)
    assert match is not None, "it matches every line"
    indent = match.end() if match[0].strip() else match.end() + 2
    longest = max(map(len, line.split()), default=0)
    if len(line) <= width or indent + longest > width or COMMAND.search(line):
        return line
    return textwrap.fill(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to standard output, made printable and, on a terminal, wrapped."""
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    for line in map(printable, lines):
        print(line if width is None else wrapped(line, width))  # noqa: T201 - it is what commands print with
