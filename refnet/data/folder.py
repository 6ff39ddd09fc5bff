"""Image folders: a class is a folder, its name is the class, the images in it are its examples.

Layouts
-------
``train/<class>/*`` beside ``val/<class>/*`` (or ``validation/``) and ``test/<class>/*``:

- val and test: used as they are;
- only val: it is both validation and test, as the paper reports validation figures;
- only test: validation is a tenth of each class of train, at least one image.

``<class>/*`` alone: a fifth of each class, at least one image, is held out for test, and as much for validation.

What is held out is drawn with Philox by a fixed key, so it is the same for every seed and run.

Decisions
---------
Classes are the sorted names of train's folders. Hidden names (with a leading dot) and files beside class folders
are passed over. A link to a folder is refused rather than followed (it may lead anywhere, even in a circle); a link
to a file is read. Every file's header is looked at before anything is decoded, so that a stray file is found now
and not in the middle of an epoch.
"""

import os
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from refnet.data import picture
from refnet.data.dataset import CHUNK, Dataset, Indices, Labels, Pixels, Progress, chunks, mean_image, shown
from refnet.data.order import permutation
from refnet.errors import DataError
from refnet.random import Purpose

Listing = dict[str, list[str]]  # class to its files, both sorted

KEEP = 1 << 30  # bytes of decoded images up to which a split stays in memory
PARTS = ("train", "val", "validation", "test")
LAYOUTS = "train/<class>/<image> with val/ or test/ beside train/, or <class>/<image>"


class FolderSplit:
    """Image files and their classes, decoded when asked for, and kept decoded if all of them fit in `KEEP` bytes."""

    def __init__(self, listing: Listing, classes: tuple[str, ...], size: int, channels: int) -> None:
        number = {name: label for label, name in enumerate(classes)}
        self.paths: list[str] = [file for files in listing.values() for file in files]
        self.labels: Labels = np.array([number[name] for name, files in listing.items() for _ in files], np.int64)
        self._shape = (size, size, channels)
        fits = len(self.paths) * size * size * channels <= KEEP
        self._kept: Pixels | None = np.empty((len(self.paths), *self._shape), np.uint8) if fits else None
        self._decoded = np.zeros(len(self.paths), np.bool_)

    def __len__(self) -> int:
        return len(self.paths)

    def images(self, indices: Indices) -> Pixels:
        """See `Split.images`."""
        wanted = np.asarray(indices, np.intp)
        if self._kept is None:
            return self._decode(wanted)
        missing = np.unique(wanted[~self._decoded[wanted]])
        if missing.size:
            self._kept[missing] = self._decode(missing)
            self._decoded[missing] = True
        return self._kept[wanted]

    def _decode(self, indices: Indices) -> Pixels:
        size, _, channels = self._shape
        read = partial(picture.read, size=size, channels=channels)
        images = picture.each(read, [self.paths[i] for i in indices])
        return np.stack(images) if images else np.empty((0, *self._shape), np.uint8)


def open_folder(where: str, *, image_size: int, channels: int, progress: Progress | None = None) -> Dataset:
    """Open a folder of images, each delivered as uint8 (image_size, image_size, channels).

    Parameters
    ----------
    where
        The folder's path.
    image_size, channels
        What the net asks for; channels is 1 (gray) or 3 (RGB).
    progress
        Told (done, total): each file's header is looked at, then each image is decoded, the training images for their
        mean and the others so that a damaged one is found before a run has begun.

    Raises
    ------
    DataError
        For a path that is no folder, a layout that is none of the above, a class without images or too few of
        them, a class that only validation or test has, and a file that cannot be read or is no image.
    """
    if channels not in picture.MODES:
        raise DataError(f"{shown(where)}: image folders have 1 (gray) or 3 (RGB) channels, the net asks for {channels}")
    root = Path(where)
    layout, (train, validation, test) = _recognise(root)
    classes = tuple(train)
    if len(classes) < 2:
        raise DataError(f"{shown(where)} has one class, '{shown(classes[0])}': a net needs at least 2 to tell apart")
    for which, listing in (("validation", validation), ("test", test)):
        for name in listing:
            if name not in train:
                raise DataError(
                    f"{shown(where)}: the {which} class '{shown(name)}' has no folder in train/: add it there"
                )

    learnt, validated = (FolderSplit(listing, classes, image_size, channels) for listing in (train, validation))
    tested = validated if test is validation else FolderSplit(test, classes, image_size, channels)
    held_out = [validated] if tested is validated else [validated, tested]
    files = [path for split in (learnt, *held_out) for path in split.paths]

    def report(done: int) -> None:
        if progress is not None:
            progress(done, 2 * len(files))

    _check_headers(files, report)
    mean = mean_image(learnt, lambda done: report(len(files) + done))
    done = len(files) + len(learnt)
    for pixels in chain.from_iterable(map(chunks, held_out)):
        done += len(pixels)
        report(done)
    return Dataset(
        name=root.resolve().name,
        where=where,
        layout=layout,
        classes=classes,
        image_shape=(image_size, image_size, channels),
        train=learnt,
        validation=validated,
        test=tested,
        mean=mean,
    )


def _recognise(root: Path) -> tuple[str, tuple[Listing, Listing, Listing]]:
    """Return the layout in words, and what trains, validates and tests."""
    parts = {entry.name: Path(entry.path) for entry in _entries(root) if entry.name in PARTS and _is_folder(entry)}
    if not parts:
        train, test, validation = _deal(root, _classes(root), held_out=2, share=5)
        return "one folder per class, a fifth of each held out for validation and for test", (train, validation, test)
    if "train" not in parts:
        raise DataError(f"{shown(root)} has {' and '.join(parts)}/ but no train/: add it")
    if "val" in parts and "validation" in parts:
        raise DataError(f"{shown(root)} has both val/ and validation/: remove one")
    listings = {"val" if name == "validation" else name: _classes(path) for name, path in parts.items()}
    match listings:
        case {"train": train, "val": validation, "test": test}:
            return "folders train, val and test", (train, validation, test)
        case {"train": train, "val": validation}:
            return "folders train and val, val also serving as test", (train, validation, validation)
        case {"train": train, "test": test}:
            train, validation = _deal(parts["train"], train, held_out=1, share=10)
            return "folders train and test, a tenth of train held out to validate", (train, validation, test)
        case _:
            raise DataError(
                f"{shown(root)} has train/ but neither val/ nor test/: add one, or give {shown(parts['train'])} "
                "itself to have images held out",
            )


def _classes(folder: Path) -> Listing:
    """List the class folders in a folder."""
    listing = {entry.name: _files(Path(entry.path)) for entry in _entries(folder) if _is_folder(entry)}
    if not listing:
        raise DataError(f"{shown(folder)} has no class folders: refnet reads {LAYOUTS}")
    return listing


def _files(folder: Path) -> list[str]:
    """List the files of one class folder."""
    entries = _entries(folder)
    for entry in entries:
        if _is_folder(entry):
            raise DataError(
                f"{shown(folder)} is taken for a class, but the folder '{shown(entry.name)}' is in it: refnet reads "
                f"{LAYOUTS}",
            )
        if _kind(entry) != "file":  # opening a pipe would wait for ever
            raise DataError(f"{shown(entry.path)} is no regular file (a broken link, a pipe): remove it")
    if not entries:
        raise DataError(f"{shown(folder)} is a class without images: add some, or remove the folder")
    return [entry.path for entry in entries]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List what is in a folder and not hidden, sorted by name."""
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except FileNotFoundError as error:
        raise DataError(f"{shown(folder)} does not exist: give 'digits', or a folder of images ({LAYOUTS})") from error
    except NotADirectoryError as error:
        raise DataError(f"{shown(folder)} is a file: give 'digits', or a folder of images ({LAYOUTS})") from error
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be listed: {error.strerror}; mend its permissions") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    kind = _kind(entry)
    if kind == "link":
        raise DataError(f"{shown(entry.path)} is a link to a folder, which is not followed: put a real folder there")
    return kind == "folder"


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "link", "file", "other"]:
    """Tell folders, links to folders, files (or links to them) and anything else apart."""
    try:
        if entry.is_dir():
            return "link" if entry.is_symlink() else "folder"
        return "file" if entry.is_file() else "other"
    except OSError:  # a link in a circle
        return "other"


def _deal(folder: Path, listing: Listing, *, held_out: int, share: int) -> list[Listing]:
    """Hold 1/share of each class out, `held_out` times: [the rest, first held out, ...]."""
    dealt: list[Listing] = [{} for _ in range(held_out + 1)]
    for number, (name, files) in enumerate(listing.items()):
        if len(files) <= held_out:
            raise DataError(
                f"{shown(folder)}: the class '{shown(name)}' has {len(files)} of the {held_out + 1} images needed to "
                f"hold {held_out} out: add images, or remove the class",
            )
        order = permutation(len(files), key=(0, Purpose.SPLIT), counter=(0, number, 0, 0))
        count = max(1, len(files) // share)
        *held, rest = np.split(order, [count * part for part in range(1, held_out + 1)])
        for part, chosen in zip(dealt, (rest, *held), strict=True):
            part[name] = [files[i] for i in sorted(chosen)]
    return dealt


def _check_headers(files: list[str], report: Callable[[int], None]) -> None:
    """Raise ``DataError`` with the first file that is no image, and how many more there are."""
    faults: list[str] = []
    for start in range(0, len(files), CHUNK):
        some = files[start : start + CHUNK]
        faults += [fault for fault in picture.each(picture.fault, some) if fault]
        report(start + len(some))
    if faults:
        more = f"; and {len(faults) - 1} more files like it" if len(faults) > 1 else ""
        raise DataError(faults[0] + more)
