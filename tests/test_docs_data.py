"""The page about data, which lists names and numbers that the code has."""

import re
from pathlib import Path

import pytest

from refnet.data import decode, unread_formats
from refnet.data.damaged import ALLOWED_IMAGES, ALLOWED_SHARE
from refnet.data.readers import cifar, idx_names, ilsvrc, registry, splits, walk

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/data.md").read_text()
ROWS = dict(re.findall(r"^\| (.+?) \| (.+) \|$", PAGE, re.MULTILINE))
BRANDS = {unread_formats.AVIF}  # which is read where Pillow can


def names(row):
    """Return the names in the rightmost cell of a row, which is given by its first cell or the beginning of that."""
    cell = ROWS.get(row) or next(cell for first, cell in ROWS.items() if first.startswith(row))
    return set(re.findall(r"`(.+?)`", cell)) or set(cell.split(", "))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("training images", splits.SPLITS["train"]),
        ("validation images", splits.SPLITS["val"]),
        ("test images", splits.SPLITS["test"]),
        ("words that may be added", splits.AFFIXES),
        ("folders that systems add", walk.SIDECARS),
        ("names of images", [f".{suffix}" for suffix in walk.SUFFIXES]),
        ("formats that are named", {name for *_, name in unread_formats._SIGNATURES} - BRANDS | {"SVG"}),
    ],
)
def test_names_are_those_of_the_code(row, expected):
    assert names(row) == set(expected)


def test_formats_are_those_of_the_decoder():
    cell = re.sub(r" \(.*?\)", "", ROWS["formats that are read"])
    assert cell == decode.FORMATS_IN_WORDS


def test_limits_are_those_of_the_code():
    assert f"more than {decode.MAX_PIXELS:,} pixels" in PAGE
    assert f"up to {ALLOWED_IMAGES} images that cannot be read, or {100 // ALLOWED_SHARE} % if that is more" in PAGE


def test_files_of_data_sets_are_those_of_the_readers():
    files = (
        cifar.TRAIN[0],
        cifar.TEST,
        cifar.ARCHIVED,
        *splits.KAGGLE[:1],
        *idx_names.INNER,
        ilsvrc.TRAIN[0],
        ilsvrc.VALIDATION[0],
        ilsvrc.DEVKIT[0],
    )
    assert [name for name in files if f"`{name}" not in PAGE] == []


def test_each_reader_has_a_row():
    rows = "".join(ROWS.values())
    paths = [reader.__name__.replace(".", "/") + ".py" for reader in registry.READERS]
    assert [path for path in paths if f"(../{path})" not in rows] == []


def test_links_to_sources_lead_somewhere():
    links = re.findall(r"\]\(\.\./(.+?)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
