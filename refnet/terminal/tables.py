"""Tables that lose no text in a narrow terminal."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

MAX_WIDTH = 10_000  # more than any table has


def print_table(table: Table, console: Console) -> None:
    """Print a table; in a console that is too narrow without padding, with its headings and long texts folded."""
    wide = console.options.update(max_width=MAX_WIDTH)
    if Measurement.get(console, wide, table).maximum > console.width:
        table.padding = (0, 0)
        for column in table.columns:
            column.overflow = "fold"
            column.header = str(column.header).replace(" ", "\n")
    console.print(table)
