"""A split whose images are in one folder, with their classes in a file.

Layouts
-------
- tiny-imagenet: ``val/images/*`` and ``val/val_annotations.txt``: any name that ends in ``_annotations.txt``. It has
  one image per line: the name of its file, a tab or blank, its class; the rest of the line (a bounding box) is not
  read.
- ILSVRC from Kaggle: ``ILSVRC/Data/CLS-LOC/val/*`` and, beside the folder ``ILSVRC`` or in any folder between,
  ``LOC_val_solution.csv``. It has one image per line: its name without its ending, a comma, its class and a bounding
  box; boxes of further objects, which are of the same class, are not read.
- Caffe: ``val/*`` and, in it or beside it, ``val.txt``. It has one image per line: the name of its file, a blank, its
  class as a number; ``synsets.txt`` or ``synset_words.txt``, in the same folder, has the class of number 0 in its first
  line, and so on.

Decisions
---------
Images that the file does not list are left out, and the description of the data set counts them. Test images without
such a file have no known classes and are not used.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from refnet.data.archive import read_bytes
from refnet.data.readers.splits import split_of, table_folders
from refnet.data.readers.walk import Walk
from refnet.errors import DataError
from refnet.terminal.printable import printable

IMAGES = "images"
SOLUTION = "LOC_val_solution.csv"
CAFFE, CAFFE_CLASSES = "val.txt", ("synsets.txt", "synset_words.txt")
HEADER = "ImageId"
MAX_BYTES = 1 << 26  # of the file; tiny-imagenet's has 400 kB, Kaggle's 2 MB


class SideBySide(NamedTuple):
    """A folder of images, and the file that says the class of each; None if there is no such file."""

    folder: Path
    file: Path | None


def described(walk: Walk, folder: Path) -> SideBySide | None:
    """Return the images of a split and the file with their classes; None for a split that has class folders."""
    inner = walk.folders(folder)
    annotations = min(folder.glob("*_annotations.txt"), default=None)
    if [entry.name for entry in inner] == [IMAGES] and not walk.folders(folder / IMAGES):
        return SideBySide(folder / IMAGES, annotations)
    if not inner and walk.has_files(folder):
        return SideBySide(folder, annotations or _table(walk, folder))
    return None


def _table(walk: Walk, folder: Path) -> Path | None:
    """Return Kaggle's or Caffe's table of the validation images, from their folder or one above it, or None."""
    if split_of(folder.name) != "val":
        return None
    places = (folder, *table_folders(walk.root, folder.parent))
    files = (place / name for place in places for name in (SOLUTION, CAFFE))
    return next((file for file in files if os.path.exists(file)), None)  # noqa: PTH110 - False where it may not look


def list_described(walk: Walk, images: SideBySide) -> dict[str, list[str]]:
    """List the images of each class, both sorted. Raises ``DataError`` if there is no file, or no image is in it."""
    folder, file = images
    if file is None:
        raise DataError(
            f"{printable(folder)} has no class folders, and no file says what its images show: put the images of each "
            f"class in a folder, or {SOLUTION} (ILSVRC from Kaggle) or {CAFFE} (Caffe) in {printable(folder)}"
        )
    class_of = dict(_READERS.get(file.name, _annotations)(file))
    listing: dict[str, list[str]] = {}
    for image in walk.images(folder):
        path = Path(image)
        if class_name := class_of.get(path.stem if file.name == SOLUTION else path.name):
            listing.setdefault(class_name, []).append(image)
        else:
            walk.unlabelled.append(path.name)
    if not listing:
        raise DataError(f"{printable(file)} has no class for any image in {printable(folder)}: it is of other images")
    return dict(sorted(listing.items()))


def _annotations(file: Path) -> Iterator[tuple[str, str]]:
    for line in _lines(file):
        words = line.split()
        if len(words) > 1:
            yield words[0], words[1]


def _solutions(file: Path) -> Iterator[tuple[str, str]]:
    for line in _lines(file):
        name, _, objects = line.replace('"', "").partition(",")
        if name != HEADER and objects.split():
            yield name, objects.split()[0]


def _caffe(file: Path) -> Iterator[tuple[str, str]]:
    tables = [file.parent / name for name in CAFFE_CLASSES if (file.parent / name).exists()]
    if not tables:
        raise DataError(
            f"{printable(file)} numbers the classes in an order that no {' or '.join(CAFFE_CLASSES)} beside it says: "
            "put one there"
        )
    classes = [line.split()[0] for line in _lines(tables[0]) if line.split()]
    for name, number in _annotations(file):
        if not (number.isascii() and number.isdigit() and int(number) < len(classes)):
            raise DataError(
                f"{printable(file)}: the class of {printable(name)} is {printable(number)}, but {printable(tables[0])} "
                f"has classes 0..{len(classes) - 1}: get both again"
            )
        yield name, classes[int(number)]


_READERS = {SOLUTION: _solutions, CAFFE: _caffe}


def _lines(file: Path) -> list[str]:
    return read_bytes(file, MAX_BYTES).decode("utf-8-sig", errors="replace").splitlines()
