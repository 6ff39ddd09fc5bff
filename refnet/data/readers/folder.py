"""Image folders: a class is a folder, its name is the class, the images in it are its examples.

Layouts
-------
``train/<class>/*`` beside ``val/<class>/*`` (or ``validation/``) and ``test/<class>/*``:

- val and test: used as they are;
- only val: it is both validation and test, as the paper reports validation figures;
- only test: validation is a tenth of each class of train, at least one image.

``<class>/*`` alone: a fifth of each class, at least one image, is held out for test, and as much for validation.

What is held out is drawn with Philox by a fixed key, so it is the same for every seed and run.

Beside the folders a file may say what people call the classes (:mod:`refnet.data.naming`).

Decisions
---------
Classes are the sorted names of train's folders. Hidden names (with a leading dot) and files beside class folders
are passed over. A link to a folder is refused rather than followed (it may lead anywhere, even in a circle); a link
to a file is read. Whether a file is an image is seen later, when its first bytes are read.
"""

import os
from pathlib import Path

import numpy as np

from refnet.data.naming import read_words
from refnet.data.source import FilePictures, Pictures, Source, deal
from refnet.errors import DataError
from refnet.terminal.printable import printable

Listing = dict[str, list[str]]  # class to its files, both sorted

PARTS = ("train", "val", "validation", "test")
LAYOUTS = "train/<class>/<image> with val/ or test/ beside train/, or <class>/<image>"


def recognise(data: str, names: frozenset[str]) -> bool:  # noqa: ARG001
    """Take any folder: this reader is the last that is asked."""
    return True


def read(data: str) -> Source:
    """List a tree of images.

    Raises
    ------
    DataError
        For a path that is no folder, a layout that is none of the above, a class without images or too few of
        them, and a class that only validation or test has.
    """
    root = Path(data)
    parts = {entry.name: Path(entry.path) for entry in entries(root) if entry.name in PARTS and is_folder(entry)}
    if not parts:
        listing = list_classes(root)
        classes = tuple(listing)
        train, test, validation = deal(data, pictures(listing, classes), classes, held_out=2, share=5)
        layout = "one folder per class, a fifth of each held out for validation and for test"
        words = read_words(root, classes)
        return Source(root.resolve().name, data, layout, classes, words, train, validation, test)
    layout, listings = _listings(root, parts)
    classes = tuple(listings["train"])
    for part, which in (("val", "validation"), ("test", "test")):
        for name in listings.get(part, {}):
            if name not in classes:
                raise DataError(
                    f"{printable(data)}: the {which} class '{printable(name)}' has no folder in train/: add it there"
                )
    splits: dict[str, Pictures] = {part: pictures(listing, classes) for part, listing in listings.items()}
    if "val" not in splits:
        splits["train"], splits["val"] = deal(str(parts["train"]), splits["train"], classes, held_out=1, share=10)
    train, validation, test = splits["train"], splits["val"], splits.get("test", splits["val"])
    words = read_words(root, classes)
    return Source(root.resolve().name, data, layout, classes, words, train, validation, test)


def pictures(listing: Listing, classes: tuple[str, ...]) -> FilePictures:
    """Label the files of a listing by their classes."""
    number = {name: label for label, name in enumerate(classes)}
    labels = np.array([number[name] for name, files in listing.items() for _ in files], np.int64)
    return FilePictures([file for files in listing.values() for file in files], labels)


def _listings(root: Path, parts: dict[str, Path]) -> tuple[str, dict[str, Listing]]:
    """Return the layout in words, and what is in train/, val/ and test/."""
    if "train" not in parts:
        raise DataError(f"{printable(root)} has {' and '.join(parts)}/ but no train/: add it")
    if "val" in parts and "validation" in parts:
        raise DataError(f"{printable(root)} has both val/ and validation/: remove one")
    listings = {"val" if name == "validation" else name: list_classes(path) for name, path in parts.items()}
    match sorted(listings):
        case ["test", "train", "val"]:
            return "folders train, val and test", listings
        case ["train", "val"]:
            return "folders train and val, val also serving as test", listings
        case ["test", "train"]:
            return "folders train and test, a tenth of train held out to validate", listings
        case _:
            raise DataError(
                f"{printable(root)} has train/ but neither val/ nor test/: add one, or give "
                f"{printable(parts['train'])} itself to have images held out",
            )


def list_classes(folder: Path) -> Listing:
    """List the class folders in a folder."""
    listing = {entry.name: _files(Path(entry.path)) for entry in entries(folder) if is_folder(entry)}
    if not listing:
        raise DataError(f"{printable(folder)} has no class folders: refnet reads {LAYOUTS}")
    return listing


def _files(folder: Path) -> list[str]:
    """List the files of one class folder."""
    found = entries(folder)
    for entry in found:
        if is_folder(entry):
            raise DataError(
                f"{printable(folder)} is taken for a class, but the folder '{printable(entry.name)}' is in it: refnet "
                f"reads {LAYOUTS}",
            )
    if not found:
        raise DataError(f"{printable(folder)} is a class without images: add some, or remove the folder")
    return [entry.path for entry in found]


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """List what is in a folder and not hidden, sorted by name."""
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except FileNotFoundError as error:
        raise DataError(
            f"{printable(folder)} does not exist: give 'digits', or a folder of images ({LAYOUTS})"
        ) from error
    except NotADirectoryError as error:
        raise DataError(f"{printable(folder)} is a file: give 'digits', or a folder of images ({LAYOUTS})") from error
    except OSError as error:
        raise DataError(f"{printable(folder)} cannot be listed: {error.strerror}; fix its permissions") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell folders from all else. Raises ``DataError`` for a link to a folder."""
    try:
        folder = entry.is_dir()
    except OSError:  # a link in a circle
        return False
    if folder and entry.is_symlink():
        raise DataError(
            f"{printable(entry.path)} is a link to a folder, which is not followed: put a real folder there"
        )
    return folder
