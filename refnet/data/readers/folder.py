"""Image folders: a class is a folder, its name is the class, the images in it are its examples.

Layouts
-------
``train/<class>/*`` beside ``val/<class>/*`` and ``test/<class>/*``, under any of the names in `SPLITS`, in any case:

- val and test: used as they are;
- only val: it is both validation and test, as the paper reports validation figures;
- only test: validation is a tenth of each class of train, at least one image.

``<class>/*`` alone: a fifth of each class, at least one image, is held out for test, and as much for validation.

The choice of held-out images is random with a fixed Philox key, so it is the same for every seed and run.

A file next to the folders may give readable names of the classes (:mod:`refnet.data.naming`).

Decisions
---------
Classes are the sorted names of train's folders; a name that is composed differently in another split (Unicode's NFC and
NFD) is the same class. A folder named like a split is a class if images, not folders, are in it and there are other
classes beside it. If the folder that the user named contains only one folder, with folders in it, that one is used.
Skipped files are named in the layout (see :mod:`refnet.data.readers.walk`); whether a file is an image is checked
later, when its header is read.
"""

import unicodedata
from pathlib import Path

import numpy as np

from refnet.data.naming import read_words
from refnet.data.readers.annotated import IMAGES, annotations, list_annotated, only_images
from refnet.data.readers.walk import LAYOUTS, Walk
from refnet.data.source import FilePictures, Pictures, Source, deal
from refnet.errors import DataError
from refnet.terminal.printable import printable

Listing = dict[str, list[str]]  # class to its files, both sorted

SPLITS = {
    "train": ("train", "training", "training_set", "train_set", "trainset"),
    "val": ("val", "valid", "validation", "validation_set", "val_set", "valid_set", "valset", "dev", "dev_set"),
    "test": ("test", "testing", "test_set", "testset", "eval", "evaluation"),
}
SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
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
    root = _without_wrapper(walk)
    parts = _parts(walk, root)
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
    words = read_words(root, classes)
    return Source(walk.root.resolve().name, data, layout, classes, words, train, validation, test, links=walk.links())


def read_for_test(data: str) -> Source | None:
    """Return the images of a folder of classes, or of one with val/ and test/ alone, as images to test on.

    None are held out: each split has all images of ``<class>/*``. Of a folder with val/ and test/, the validation
    images are those of val/. Return None for a folder with train/.

    Raises ``DataError`` for a folder without classes and for links as `read` does.
    """
    walk = Walk(Path(data))
    root = _without_wrapper(walk)
    parts = _parts(walk, root)
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
    words = read_words(root, classes)
    name, layout = walk.root.resolve().name, "; ".join(remarks)
    splits = (tested, validation, tested)
    return Source(name, data, layout, classes, words, *splits, links=walk.links(), test_only=True)


def _classes_with_images(walk: Walk, folder: Path) -> Listing:
    """List the images of each class, which may have none."""
    file = annotations(folder)
    if file and only_images(walk, folder):
        return list_annotated(walk, folder, file)
    walk.refuse_broken_links(folder)
    return {entry.name: walk.images(Path(entry.path)) for entry in walk.folders(folder)}


def pictures(listing: Listing, classes: tuple[str, ...]) -> FilePictures:
    """Return the files of a listing, each labelled with its class's index in `classes`."""
    number = {name: label for label, name in enumerate(classes)}
    labels = np.array([number[name] for name, files in listing.items() for _ in files], np.int64)
    return FilePictures([file for files in listing.values() for file in files], labels)


def _split_of(name: str) -> str | None:
    """Return the split that a folder's name spells: "train", "val", "test" or None."""
    return SPLIT_OF.get(name.lower().replace("-", "_").replace(" ", "_"))


def _without_wrapper(walk: Walk) -> Path:
    """Return the folder of the classes or splits: the root, or the only folder in it if that has folders in turn."""
    folders = walk.folders(walk.root)
    if len(folders) == 1 and not _split_of(folders[0].name):
        inner = Path(folders[0].path)
        if walk.folders(inner) and not walk.has_files(inner):
            walk.entered = folders[0].name
            return inner
    return walk.root


def _parts(walk: Walk, root: Path) -> dict[str, Path]:
    """Return the folders of the splits by split; none where the folders are classes.

    Raises ``DataError`` for two spellings of one split.
    """
    folders = walk.folders(root)
    spelled = [entry for entry in folders if _split_of(entry.name)]
    others = [entry for entry in folders if not _split_of(entry.name)]
    if others and not any(walk.folders(Path(entry.path)) for entry in spelled):
        return {}  # a class may be called "train"
    parts: dict[str, Path] = {}
    for entry in spelled:
        split = _split_of(entry.name) or ""
        if split in parts:
            raise DataError(
                f"{printable(root)} has both {printable(parts[split].name)}/ and {printable(entry.name)}/, two names "
                "of the same split: remove or rename one"
            )
        parts[split] = Path(entry.path)
    if parts:
        for entry in others:
            walk.leave(Path(entry.path))
    return parts


def _listings(walk: Walk, root: Path, parts: dict[str, Path]) -> tuple[str, dict[str, Listing]]:
    """Return the layout in words, and what is in train/, val/ and test/."""
    if "train" not in parts:
        names = " and ".join(f"{printable(path.name)}/" for path in parts.values())
        raise DataError(f"{printable(root)} has {names} but no train/: add it")
    if "test" in parts and _has_unknown_classes(walk, parts["train"], parts["test"]):
        walk.leave(parts["test"] / IMAGES)
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
    listings = {split: _list_split(walk, path) for split, path in parts.items()}
    match sorted(listings):
        case ["test", "train", "val"]:
            return f"folders {called['train']}, {called['val']} and {called['test']}", listings
        case ["train", "val"]:
            return f"folders {called['train']} and {called['val']}, val also serving as test", listings
        case _:
            held_out = "a tenth of train held out to validate"
            return f"folders {called['train']} and {called['test']}, {held_out}", listings


def _has_unknown_classes(walk: Walk, train: Path, test: Path) -> bool:
    """Tell whether test images are in one folder that is no class and that no file describes, as tiny-imagenet's."""
    return only_images(walk, test) and not annotations(test) and not (train / IMAGES).exists()


def _list_split(walk: Walk, folder: Path) -> Listing:
    """List a split by its class folders, or by a file that says the class of each image."""
    file = annotations(folder)
    if file and only_images(walk, folder):
        return list_annotated(walk, folder, file)
    return list_classes(walk, folder)


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


def list_classes(walk: Walk, folder: Path) -> Listing:
    """List the class folders in a folder."""
    walk.refuse_broken_links(folder)
    listing = {entry.name: _files(walk, Path(entry.path)) for entry in walk.folders(folder)}
    if not listing:
        raise DataError(f"{printable(folder)} has no class folders: refnet reads {LAYOUTS}")
    return listing


def _files(walk: Walk, folder: Path) -> list[str]:
    """List the images of one class folder, those in folders in it included."""
    inner = next((entry.name for entry in walk.folders(folder) if _split_of(entry.name)), None)
    if inner:
        raise DataError(
            f"{printable(folder)} is taken for a class, but the folder '{printable(inner)}' is in it: refnet "
            f"reads {LAYOUTS}",
        )
    files = walk.images(folder)
    if not files:
        raise DataError(f"{printable(folder)} is a class without images: add some, or remove the folder")
    return files
