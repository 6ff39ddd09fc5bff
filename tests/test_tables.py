"""Tables in terminals of every width."""

import io

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from refnet.terminal.tables import print_table

CELLS = "runs/digits-20261129-001403", "digits", "finished", "2 x 192x13x13"


def printed(width):
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("run", "net", "state", "each column makes"):
        table.add_column(heading)
    table.add_row(*CELLS)
    console = Console(file=io.StringIO(), width=width)
    print_table(table, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 62, 64, 80, 200])
def test_no_text_is_lost(width):
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert sum(not c.isspace() for c in text) - text.count("\N{BOX DRAWINGS LIGHT HORIZONTAL}") == sum(
        len(word.replace(" ", "")) for word in (*CELLS, "run", "net", "state", "each column makes")
    )


def test_padding_is_dropped_before_text_is_folded():
    assert "each column makes" in printed(80)
    assert all(cell in printed(62) for cell in CELLS)
    assert not all(cell in printed(50) for cell in CELLS)
