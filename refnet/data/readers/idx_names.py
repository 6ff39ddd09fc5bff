"""Which files in a folder are the four IDX files of a data set, under the names that distributors give them.

Names
-----
``[SET-]SPLIT-images-idx3-ubyte`` and ``[SET-]SPLIT-labels-idx1-ubyte`` (or ``-idx2-int``), where SPLIT is ``train``,
and ``t10k`` or ``test``; with ``.idx`` for ``-idx``, as some programs unpack them; with ``.gz`` or without. A folder
with a file's name, and the file in it, counts as the file. The files may be in the folder ``raw`` (as torchvision
stores them) or ``gzip`` (EMNIST).

A folder with several sets, as EMNIST is distributed, needs the name of one: ``--data gzip/emnist-letters``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from refnet.data.readers.walk import entries
from refnet.errors import DataError
from refnet.terminal.printable import first_few, printable

NAME = re.compile(
    r"(?:(?P<set>.+)-)?(?P<split>train|t10k|test)-(?P<what>images|labels)[-.]idx[123]-(?:ubyte|int)(?:\.gz)?",
    re.IGNORECASE,
)
INNER = ("raw", "gzip")
NUMPY = re.compile(r".*-(?:imgs|labels)\.npz|mnist\.npz", re.IGNORECASE)


@dataclass(frozen=True)
class Files:
    """The files of one set, whose name is "" for MNIST's names; by split and "images" or "labels"."""

    folder: Path
    set: str
    paths: dict[tuple[str, str], Path]

    @property
    def name(self) -> str:
        """The set's name, or that of the folder as the user knows it."""
        folder = self.folder.resolve()
        return self.set or (folder.parent if folder.name in INNER else folder).name

    def path(self, split: str, what: str) -> Path:
        """Return the path of the images or labels of a split. Raises ``DataError`` if there is none."""
        if (split, what) in self.paths:
            return self.paths[split, what]
        part = "train" if split == "train" else "test" if self.set else "t10k"
        name = f"{self.set}{'-' * bool(self.set)}{part}-{what}-idx{3 if what == 'images' else 1}-ubyte"
        raise DataError(f"{printable(self.folder)} has no {printable(name)} (nor {name}.gz): put all four files there")


def find(data: str, names: Iterable[str]) -> list[Files]:
    """Return the sets in a folder that has these names, or the one whose name a path ends in; [] if there are none."""
    path = Path(data)
    if sets := _sets(path, names):
        return sets
    if inner := next((path / name for name in INNER if name in names), None):
        return _sets(inner, _names(inner))
    if not path.exists() and path.parent.is_dir():
        return [files for files in _sets(path.parent, _names(path.parent)) if files.set == path.name]
    return []


def choose(data: str) -> Files:
    """Return the files of the only set in a folder, or of the set that a path names.

    Raises ``DataError`` if there are several.
    """
    path = Path(data)
    sets = find(data, _names(path) if path.is_dir() else [])
    if len(sets) > 1:
        one = printable(sets[0].folder / (sets[0].set or sets[1].set))
        names = first_few([files.set or "MNIST" for files in sets])
        raise DataError(f"{printable(data)} has files of several data sets ({names}): name one of them, such as {one}")
    return sets[0]


def refuse_numpy(data: str, names: Iterable[str]) -> None:
    """Raise ``DataError`` for the NumPy files in which Keras has MNIST, and KMNIST's authors their sets."""
    file = min(filter(NUMPY.fullmatch, (*names, Path(data).name)), default=None)
    if file:
        raise DataError(
            f"{printable(data)}: {printable(file)} is a file of NumPy arrays, which refnet does not read: get the IDX "
            "files (train-images-idx3-ubyte.gz and three more), or load the arrays in Python and give them to "
            "refnet.train as data=(images, labels)"
        )


def _sets(folder: Path, names: Iterable[str]) -> list[Files]:
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    for name in sorted(names, reverse=True):  # a file that is not compressed comes last, and is taken
        match = NAME.fullmatch(name)
        if match:
            split = "train" if match["split"].lower() == "train" else "test"
            path = _file(folder / name)
            if path:
                sets.setdefault(match["set"] or "", {})[split, match["what"].lower()] = path
    return [Files(folder, name, paths) for name, paths in sorted(sets.items())]


def _file(path: Path) -> Path | None:
    """Return the path of a file, or of the file of the same name in a folder of that name; None for other folders."""
    if not path.is_dir():
        return path
    inner = [path / name for name in _names(path) if NAME.fullmatch(name) and not (path / name).is_dir()]
    return inner[0] if len(inner) == 1 else None


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in entries(folder)]
