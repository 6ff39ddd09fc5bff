"""Which folders are the splits train, val and test, under the names that people give them.

Decisions
---------
The names of `SPLITS` are recognised in any case, with any of the words of `AFFIXES` and a number ("test_images",
"seg_train", "test1"). A folder named like a split is a class if images, not folders, are in it and
there are other classes beside it. If the folder that the user named contains only one folder, with folders in it, that
one is used; likewise the folder ``ILSVRC/Data/CLS-LOC`` of Kaggle's ILSVRC, and a split in a split ("train/train").
"""

import os
import re
from pathlib import Path

from refnet.data.readers.walk import Walk
from refnet.errors import DataError
from refnet.terminal.printable import printable

SPLITS = {
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "valset", "validset", "dev"),
    "test": ("test", "testing", "testset", "eval", "evaluation"),
}
SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
AFFIXES = frozenset(
    ("data", "dataset", "folder", "image", "images", "img", "imgs", "seg", "set", "split", "stage", "stg")
)
KAGGLE = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC")


def split_of(name: str) -> str | None:
    """Return the split that a folder's name spells: "train", "val", "test" or None."""
    words = [word.rstrip("0123456789") for word in re.split(r"[-_. ]", name.lower())]
    words = [word for word in words if word not in AFFIXES]
    return SPLIT_OF.get(words[0]) if len(words) == 1 else None


def without_wrapper(walk: Walk) -> Path:
    """Return the folder of the classes or splits: the root, or the only folder in it if that has folders in turn."""
    root = walk.root
    kaggle = next((inner for inner in KAGGLE if os.path.isdir(root / inner / "train")), None)  # noqa: PTH112 - False where it may not look
    if kaggle:
        walk.entered = kaggle
        return root / kaggle
    while True:
        folders = walk.folders(root)
        if len(folders) != 1 or split_of(folders[0].name):
            return root
        inner = Path(folders[0].path)
        if not walk.folders(inner) or walk.has_files(inner):
            return root
        root = inner
        walk.entered = str(root.relative_to(walk.root))


def table_folders(root: Path, folder: Path) -> list[Path]:
    """Return the folders in which tables about the images in a folder are: itself, the user's root, and Kaggle's.

    Kaggle's tables are beside ILSVRC, outside what the user named if that is a folder in ILSVRC.
    """
    resolved = folder.resolve()
    levels = max((inner.count("/") + 1 for inner in KAGGLE if resolved.match(inner)), default=0)
    return [folder, root, *resolved.parents[:levels]]


def splits_in(walk: Walk, root: Path) -> dict[str, Path]:
    """Return the folders of the splits by split; none where the folders are classes.

    Raises ``DataError`` for two spellings of one split.
    """
    folders = walk.folders(root)
    spelled = [entry for entry in folders if split_of(entry.name)]
    others = [entry for entry in folders if not split_of(entry.name)]
    if others and not any(walk.folders(Path(entry.path)) for entry in spelled):
        return {}  # a class may be called "train"
    parts: dict[str, Path] = {}
    for entry in spelled:
        split = split_of(entry.name) or ""
        if split in parts:
            raise DataError(
                f"{printable(root)} has both {printable(parts[split].name)}/ and {printable(entry.name)}/, two names "
                "of the same split: remove or rename one"
            )
        parts[split] = Path(entry.path)
    if parts:
        for entry in others:
            walk.leave(Path(entry.path))
    return {split: _without_second(walk, folder) for split, folder in parts.items()}


def _without_second(walk: Walk, folder: Path) -> Path:
    """Return the folder of a split, or the only folder in it if that is called like the split once more."""
    inner = walk.folders(folder)
    if len(inner) == 1 and not walk.has_files(folder) and _is_again(folder.name, inner[0]):
        walk.doubled.append(os.path.relpath(inner[0].path, walk.root))
        return Path(inner[0].path)
    return folder


def _is_again(name: str, inner: "os.DirEntry[str]") -> bool:
    return inner.name == name or (split_of(inner.name) == split_of(name) is not None)
