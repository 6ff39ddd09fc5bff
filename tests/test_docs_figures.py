"""Each chapter has a figure, drawn from its own functions: for light pages and for dark, the same at every build."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from refnet.ops import OPS, relu

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_ext")
    import figures

    return figures


@pytest.mark.parametrize("op", OPS)
def test_a_chapter_has_a_figure_of_its_own(figures, op):
    drawn = figures.render(op)
    assert drawn == figures.render(op), "the same at every build"
    for text in drawn.values():
        ET.fromstring(text)  # noqa: S314 - our own file
    from figures.style import COLOURS

    assert not any(day in drawn["dark"] for day, _ in COLOURS)
    assert drawn["light"] != drawn["dark"]
    assert figures.caption(op).endswith((".", ".)"))


def test_no_figure_is_without_a_chapter():
    assert {path.stem for path in (DOCS / "_ext" / "figures").glob("*.py")} == {*OPS, "__init__", "style", "units"}


def test_a_figure_shows_what_the_chapter_computes(figures, monkeypatch):
    before = figures.render("relu")
    monkeypatch.setattr(relu, "forward", lambda x: x)
    assert figures.render("relu") != before
