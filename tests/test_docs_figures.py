"""Each chapter has a figure, drawn from its own functions: for light pages and for dark, the same at every build."""

import re
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


def shape(text):
    """Leave out coordinates, and names made of them: the last digits of a layout are not its solver's promise."""
    return re.sub(r"-?\d+\.\d+|\bp[0-9a-f]{10}", "", text)


@pytest.mark.parametrize("name", [*OPS, "columns", "parameters"])
def test_a_figure_is_drawn_for_light_and_for_dark(figures, name):
    drawn = figures.render(name)
    assert shape(drawn["light"]) == shape(figures.render(name)["light"]), "the same at every build"
    for text in drawn.values():
        ET.fromstring(text)  # noqa: S314 - our own file
    from figures.style import COLOURS

    assert not any(day in drawn["dark"] for day, _ in COLOURS)
    assert drawn["light"] != drawn["dark"]
    assert figures.caption(name).endswith((".", ".)"))


def test_there_are_no_others(figures):
    assert set(figures.NAMES) == {*OPS, "columns", "parameters"}


def test_a_figure_shows_what_the_chapter_computes(figures, monkeypatch):
    before = shape(figures.render("relu")["light"])
    monkeypatch.setattr(relu, "forward", lambda x: x)
    assert shape(figures.render("relu")["light"]) != before
