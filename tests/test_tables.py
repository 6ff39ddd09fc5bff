"""Tables in terminals of every width."""

import io

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from refnet import nets
from refnet.nets.summary import summarise
from refnet.pictures.summary import show
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


def figures(width, terminal=True):
    """Print a table of eight columns of figures, which must not be folded."""
    table = Table(title="times", caption="x: times", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("contender", no_wrap=True)
    table.add_column("of", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("numba", "a", *(f"{n}.25" for n in range(7)))
    table.add_row("torch-compiled", "b", *(f"{n}.75" for n in range(7)))
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_table(table, console)
    return console.file.getvalue()


HEADINGS = ["training s", "median", "images/s", "%", "forward s", "peak memory", "last"]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_columns_of_figures_that_do_not_fit_follow_below(width):
    text = figures(width)
    assert max(map(len, text.splitlines())) <= width
    parts = {40: 3, 60: 2, 80: 1}[width]
    assert text.count("numba") == text.count("torch-compiled") == text.count("contender") == parts
    words = text.replace("contender", "").split()
    assert words.count("of") == words.count("a") == words.count("b") == parts
    for heading in HEADINGS:
        assert all(word in words for word in heading.split())
    for n in range(7):
        assert words.count(f"{n}.25") == words.count(f"{n}.75") == 1
    assert text.count("times") == 2  # the title and the caption, once each
    assert text.rstrip().endswith("x: times")


def test_in_a_file_all_columns_are_beside_each_other():
    text = figures(40, terminal=False)
    assert text.count("numba") == 1
    assert all(heading in text for heading in HEADINGS)
    assert figures(200) == figures(200, terminal=False)


def test_the_summary_of_the_paper_in_eighty_columns():
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    show(summarise(nets.get("paper"), 2, 128), console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    words = {word for line in lines for word in line.split()}
    assert {"parameters", "MMAC/image", "activations", "37,752,832"} <= words
    assert sum(line.split()[:1] == ["conv2"] and "128x27x27" in line for line in lines) == 1
