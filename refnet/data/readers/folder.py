"""Image folders: a class is a folder, its name is the class, the images in it are its examples.

Layouts
-------
``train/<class>/*`` beside ``val/<class>/*`` and ``test/<class>/*``, or other names for these:

- val and test: used as they are;
- only val: it is both validation and test, as the paper reports validation figures;
- only test: validation is a tenth of each class of train, at least one image.

``<class>/*`` alone: a fifth of each class, at least one image, is held out for test, and as much for validation.

The choice of held-out images is random with a fixed Philox key, so it is the same for every seed and run.

A file next to the folders may give readable names of the classes (:mod:`refnet.data.naming`).

Decisions
---------
Classes are the sorted names of train's folders; a name that is composed differently in another split (Unicode's NFC and
NFD) is the same class. A class without images is an error, but for val and test, which may lack some classes. Images
beside the class folders belong to no class: they are left out and counted in the layout. A folder in which folders of
other classes are, or splits, is no class but a second copy, and refused.

Which folders are splits is decided in :mod:`refnet.data.readers.splits`; a split may also have its images side by side,
with a file (:mod:`refnet.data.readers.annotated`). Skipped files are counted in the layout, too (see
:mod:`refnet.data.readers.walk`); whether a file is an image is found out when it is decoded.
"""

import unicodedata
from pathlib import Path

import numpy as np

from refnet.data.naming import read_words
from refnet.data.readers.annotated import IMAGES, SideBySide, described, list_described
from refnet.data.readers.splits import split_of, splits_in, table_folders, without_wrapper
from refnet.data.readers.walk import LAYOUTS, Walk
from refnet.data.source import FilePictures, Pictures, Source, deal
from refnet.errors import DataError
from refnet.terminal.printable import first_few, printable

Listing = dict[str, list[str]]  # class to its files, both sorted

USUAL = ("train", "val", "validation", "test")


def recognise(data: str, names: frozenset[str]) -> bool:  # noqa: ARG001
    """Return True: this reader is asked last and takes any folder."""
    return True


def read(data: str) -> Source:
    """Return the images of a folder, by class.

    Raises
    ------
    DataError
        For a path that is no folder, a layout that is none of the above, a class without images or too few of
        them, a class that only validation or test has, two folders for one split, and a link that is broken or
        leads into a circle.
    """
    walk = Walk(Path(data))
    root = without_wrapper(walk)
    parts = splits_in(walk, root)
    if not parts:
        listing = list_classes(walk, root)
        classes = tuple(listing)
        train, test, validation = deal(data, pictures(listing, classes), classes, held_out=2, share=5)
        layout = "one folder per class, a fifth of each held out for validation and for test"
    else:
        layout, listings = _listings(walk, root, parts)
        classes = tuple(listings["train"])
        splits: dict[str, Pictures] = {
            split: pictures(_named_as_in_train(data, split, listing, classes), classes)
            for split, listing in listings.items()
        }
        if "val" not in splits:
            splits["train"], splits["val"] = deal(str(parts["train"]), splits["train"], classes, held_out=1, share=10)
        train, validation, test = splits["train"], splits["val"], splits.get("test", splits["val"])
    layout = "; ".join([layout, *walk.remarks()])
    words = read_words(table_folders(walk.root, root), classes)
    return Source(walk.root.resolve().name, data, layout, classes, words, train, validation, test, links=walk.links())


def read_for_test(data: str) -> Source | None:
    """Return the images of a folder of classes, or of one with val/ and test/ alone, as images to test on.

    None are held out: each split has all images of ``<class>/*``. Of a folder with val/ and test/, the validation
    images are those of val/. Return None for a folder with train/.

    Raises ``DataError`` for a folder without classes and for links as `read` does.
    """
    walk = Walk(Path(data))
    root = without_wrapper(walk)
    parts = splits_in(walk, root)
    if "train" in parts:
        return None
    listings = {split: _classes_with_images(walk, path) for split, path in (parts or {"test": root}).items()}
    classes = tuple(sorted({name for listing in listings.values() for name, files in listing.items() if files}))
    if not classes:
        raise DataError(
            f"{printable(data)} has no folders of classes with images in them: refnet tests on <class>/<image>; images "
            "whose classes are not known are for predict"
        )
    empty = sorted({name for listing in listings.values() for name in listing} - {*classes})
    labelled = {
        split: pictures({k: v for k, v in listing.items() if v}, classes) for split, listing in listings.items()
    }
    tested = labelled.get("test") or labelled["val"]
    validation = labelled.get("val") or tested
    named = " and ".join(f"{printable(path.name)}/" for path in parts.values())
    layout = f"folders {named} without train/" if len(parts) > 1 else f"folder {named} alone" if parts else ""
    remarks = [layout or "one folder per class, all images to test on", *walk.remarks()]
    if empty:
        remarks.append(f"classes without images: {', '.join(map(printable, empty))}")
    words = read_words(table_folders(walk.root, root), classes)
    name, layout = walk.root.resolve().name, "; ".join(remarks)
    splits = (tested, validation, tested)
    return Source(name, data, layout, classes, words, *splits, links=walk.links(), test_only=True)


def _classes_with_images(walk: Walk, folder: Path) -> Listing:
    """List the images of each class, which may have none."""
    images = described(walk, folder)
    if images and images.file:
        return list_described(walk, images)
    walk.refuse_broken_links(folder)
    walk.note_stray(folder)
    return {entry.name: walk.images(Path(entry.path)) for entry in walk.folders(folder)}


def pictures(listing: Listing, classes: tuple[str, ...]) -> FilePictures:
    """Return the files of a listing, each labelled with its class's index in `classes`."""
    number = {name: label for label, name in enumerate(classes)}
    labels = np.array([number[name] for name, files in listing.items() for _ in files], np.int64)
    return FilePictures([file for files in listing.values() for file in files], labels)


def _listings(walk: Walk, root: Path, parts: dict[str, Path]) -> tuple[str, dict[str, Listing]]:
    """Return the layout in words, and what is in train/, val/ and test/."""
    if "train" not in parts:
        names = " and ".join(f"{printable(path.name)}/" for path in parts.values())
        raise DataError(f"{printable(root)} has {names} but no train/: add it")
    training = list_classes(walk, parts["train"])
    classes = frozenset(training)
    if "test" in parts:
        images = _described(walk, parts["test"], classes)
        if images and images.file is None:
            walk.leave(images.folder)
            parts = {split: path for split, path in parts.items() if split != "test"}
    if len(parts) == 1:
        unused = f" (not used: {walk.unused_in_words()})" if walk.unused else ""
        raise DataError(
            f"{printable(root)} has {printable(parts['train'].name)}/ but neither val/ nor test/{unused}: add one, or "
            f"give {printable(parts['train'])} itself to have images held out",
        )
    called = {
        split: split if path.name in USUAL else f"{split} ({printable(path.name)}/)" for split, path in parts.items()
    }
    listings = {
        split: training if split == "train" else _list_split(walk, path, classes) for split, path in parts.items()
    }
    match sorted(listings):
        case ["test", "train", "val"]:
            return f"folders {called['train']}, {called['val']} and {called['test']}", listings
        case ["train", "val"]:
            return f"folders {called['train']} and {called['val']}, val also serving as test", listings
        case _:
            held_out = "a tenth of train held out to validate"
            return f"folders {called['train']} and {called['test']}, {held_out}", listings


def _described(walk: Walk, folder: Path, classes: frozenset[str]) -> SideBySide | None:
    """Return the images of a split whose classes are in a file; None for class folders, such as one called "images"."""
    images = described(walk, folder)
    return None if images and images.file is None and images.folder != folder and IMAGES in classes else images


def _list_split(walk: Walk, folder: Path, classes: frozenset[str]) -> Listing:
    """List val or test by its class folders, or by a file that says the class of each image."""
    images = _described(walk, folder, classes)
    return list_described(walk, images) if images else list_classes(walk, folder, may_be_empty=True)


def _named_as_in_train(data: str, split: str, listing: Listing, classes: tuple[str, ...]) -> Listing:
    """Return the listing of a split under train's names of the classes. Raises ``DataError`` for an unknown class."""
    named = {unicodedata.normalize("NFC", name): name for name in classes}
    renamed: Listing = {}
    for name, files in listing.items():
        train_name = name if name in classes else named.get(unicodedata.normalize("NFC", name))
        if train_name is None:
            which = "validation" if split == "val" else split
            raise DataError(
                f"{printable(data)}: the {which} class '{printable(name)}' has no folder in train/: add it there"
            )
        renamed[train_name] = renamed.get(train_name, []) + files
    return renamed


def list_classes(walk: Walk, folder: Path, *, may_be_empty: bool = False) -> Listing:
    """List the class folders in a folder, and their images; a folder without images only if it `may_be_empty`."""
    walk.refuse_broken_links(folder)
    names = _names(walk, folder)
    listing = {entry.name: _files(walk, Path(entry.path), names) for entry in walk.folders(folder)}
    if not listing:
        images = ", but images: put those of each class in a folder of its name" if walk.has_files(folder) else ""
        raise DataError(f"{printable(folder)} has no class folders{images}: refnet reads {LAYOUTS}")
    walk.note_stray(folder)
    for name in [name for name, files in listing.items() if not files]:
        if not may_be_empty:
            raise DataError(f"{printable(folder / name)} is a class without images: add some, or remove the folder")
        walk.leave(folder / name)
        del listing[name]
    return listing


def _names(walk: Walk, folder: Path) -> frozenset[str]:
    """Return the names of the folders in a folder."""
    return frozenset(entry.name for entry in walk.folders(folder))


def _files(walk: Walk, folder: Path, classes: frozenset[str]) -> list[str]:
    """List the images of one class folder, those in folders in it included.

    Raises ``DataError`` for a folder that has splits or the other classes in it.
    """
    inner = _names(walk, folder)
    split = next((name for name in sorted(inner) if split_of(name)), None)
    if split:
        raise DataError(
            f"{printable(folder)} is taken for a class, but the folder '{printable(split)}' is in it: refnet "
            f"reads {LAYOUTS}",
        )
    if again := sorted(inner & classes - {folder.name}):
        raise DataError(
            f"{printable(folder)} is taken for a class, but folders of other classes are in it ({first_few(again)}): "
            "remove it, or give it alone"
        )
    return walk.images(folder)
