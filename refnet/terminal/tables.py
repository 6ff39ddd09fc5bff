"""Print tables without losing text in a narrow terminal."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

from refnet.terminal.streams import is_terminal

UNLIMITED_WIDTH = 10_000  # more than any table has
FILE_WIDTH = 120  # characters of a table that is not printed to a terminal, unless it needs more


def stdout() -> Console:
    """Return a console for standard output: as wide as the terminal, or `FILE_WIDTH`."""
    return Console(width=None if is_terminal(sys.stdout) else FILE_WIDTH, highlight=False)


def print_table(table: Table, console: Console) -> None:
    """Print a table.

    If the console is too narrow, drop the padding and fold headings and long cells. Columns that must not be folded and
    do not fit beside each other follow below, in further tables with the same first columns. In a file they stay beside
    each other.
    """
    wide = console.options.update(max_width=UNLIMITED_WIDTH)
    width = Measurement.get(console, wide, table).maximum
    if width <= console.width:
        console.print(table, soft_wrap=width < len(str(table.title or "")))  # a long title is kept in one line
        return
    if not console.is_terminal and any(column.no_wrap for column in table.columns):
        before, console.width = console.width, UNLIMITED_WIDTH
        console.print(table, soft_wrap=True)
        console.width = before
        return
    table.padding = (0, 0)
    for column in table.columns:
        column.overflow = "fold"
        column.header = str(column.header).replace(" ", "\n")
    for part in _parts(table, console):
        console.print(part)


def _parts(table: Table, console: Console) -> Iterator[Table]:
    """Yield the table, or if not all of its columns fit, tables that each have its first columns and some others.

    The first columns, which say what a row is about, are those before the first that is aligned to the right.
    """
    names = list(takewhile(lambda column: column.justify == "left", table.columns))
    part, title = [*names], table.title
    for column in table.columns[len(names) :]:
        together = _with_columns(table, [*part, column], title)
        wide = console.options.update(max_width=UNLIMITED_WIDTH)
        if (
            column.no_wrap
            and len(part) > len(names)
            and Measurement.get(console, wide, together).maximum > console.width
        ):
            yield _with_columns(table, part, title)
            part, title = [*names], None
        part.append(column)
    last = _with_columns(table, part, title)
    last.caption = table.caption
    yield last


def _with_columns(table: Table, columns: list[Column], title: object) -> Table:
    """Return a table of some of the columns of another."""
    part = Table(title=title, box=table.box, padding=table.padding)  # type: ignore[arg-type]
    part.columns = [replace(column, _index=index) for index, column in enumerate(columns)]
    part.rows = table.rows
    return part
