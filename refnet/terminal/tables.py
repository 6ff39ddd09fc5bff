"""Print tables without losing text in a narrow terminal."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

UNLIMITED_WIDTH = 10_000  # more than any table has


def print_table(table: Table, console: Console) -> None:
    """Print a table. If the console is too narrow, drop the padding and fold headings and long cells."""
    wide = console.options.update(max_width=UNLIMITED_WIDTH)
    if Measurement.get(console, wide, table).maximum > console.width:
        table.padding = (0, 0)
        for column in table.columns:
            column.overflow = "fold"
            column.header = str(column.header).replace(" ", "\n")
    console.print(table)
