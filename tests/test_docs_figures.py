"""Each chapter has a figure, drawn with its own functions, for light and dark pages, the same at every build."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
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


# On GitHub

COMMITTED = sorted(path.stem for path in (DOCS / "figures").glob("*.svg"))
NUMBER = re.compile(r"-?\d+\.\d+")
SHOWN = re.compile(r"!\[(.+)\]\((?:\.\./)?figures/(\w+)\.svg\)\n\n\*((?:.+\n)+)")


def numbers(text):
    return np.array([float(each) for each in NUMBER.findall(text)])


@pytest.mark.parametrize("name", COMMITTED)
def test_a_figure_in_the_repository_is_the_one_that_is_drawn(figures, name):
    kept, drawn = numbers((DOCS / "figures" / f"{name}.svg").read_text()), numbers(figures.on_white(name))
    remedy = "draw it anew: python -m figures, in docs/_ext"
    assert kept.shape == drawn.shape, remedy
    assert np.allclose(kept, drawn, rtol=0, atol=0.5), remedy  # half a point


def test_every_page_that_shows_one_has_its_caption(figures):
    shown = [found for page in DOCS.rglob("*.md") for found in SHOWN.findall(page.read_text())]
    assert sorted({name for _, name, _ in shown}) == COMMITTED
    for alternative, name, caption in shown:
        assert alternative
        assert " ".join(caption.split()).removesuffix("*") == figures.caption(name)


def test_a_figure_that_has_moved_is_seen(figures, monkeypatch):
    before = numbers(figures.on_white("relu"))
    monkeypatch.setattr(relu, "forward", lambda x: x)
    after = numbers(figures.on_white("relu"))
    assert before.shape != after.shape or not np.allclose(before, after, rtol=0, atol=0.5)
