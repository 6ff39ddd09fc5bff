"""ILSVRC2012 as it is downloaded: training tars or folders, validation images, and the devkit with their labels.

Layouts
-------
In one folder, any of each:

- ``ILSVRC2012_img_train.tar`` (a tar of tars), or ``ILSVRC2012_img_train/`` or ``train/``, with ``<wnid>.tar`` or
  ``<wnid>/`` in it;
- ``ILSVRC2012_img_val.tar``, or ``ILSVRC2012_img_val/`` or ``val/``, with the images in it, side by side;
- ``ILSVRC2012_devkit_t12.tar.gz``, or ``ILSVRC2012_devkit_t12/``.

Decisions
---------
Archives are not unpacked: images are read directly from them. Links to archives are followed wherever they lead; for
links to folders and images, and for files that are no images, the rules of :mod:`refnet.data.readers.walk` apply.

Classes are the sorted WNIDs of the training images. The devkit numbers the classes of the validation images in an order
of its own, so its table converts them to WNIDs; the rest of refnet has only the sorted order. Line n of the ground
truth is the class of the n-th image by name. Validation images also serve as test images, because the labels of the
test images were never published.
"""

import io
import re
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from refnet.data.archive import Place, members, open_file, read_bytes, regular
from refnet.data.readers.walk import Walk, entries
from refnet.data.source import FilePictures, Source
from refnet.errors import DataError
from refnet.terminal.printable import printable, reason

WNID = re.compile(r"n\d{8}")
TRAIN = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_train", "train")
VALIDATION = ("ILSVRC2012_img_val.tar", "ILSVRC2012_img_val", "val")
DEVKIT = ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12")
TRUTH, TABLE = "data/ILSVRC2012_validation_ground_truth.txt", "data/meta.mat"
MAX_BYTES = 1 << 26  # of a file of the devkit; the real ones have less than a million


def recognise(data: str, names: frozenset[str]) -> bool:
    """Tell whether a folder holds ILSVRC2012, and not just a tree of images by class."""
    if not names.isdisjoint((*TRAIN[:2], *VALIDATION[:2], *DEVKIT)):
        return True
    train = Path(data) / "train"
    return (
        "train" in names
        and train.is_dir()
        and any(entry.name.endswith(".tar") and WNID.fullmatch(_stem(entry.name)) for entry in entries(train))
    )


def read(data: str) -> Source:
    """List the images.

    Raises
    ------
    DataError
        A part is missing or an archive is damaged; the devkit cannot be read; there are not as many validation images
        as lines of ground truth; or one is of a class without training images.
    """
    root = Path(data)
    walk = Walk(root)
    images = _training(walk, _part(root, TRAIN, "training images"))
    classes = tuple(sorted(images))
    number = {wnid: label for label, wnid in enumerate(classes)}
    places = [place for wnid in classes for place in images[wnid]]
    labels = np.array([number[wnid] for wnid in classes for _ in images[wnid]], np.int64)

    validation, wnids, words = _labelled_validation(walk)
    lacking = sorted(set(wnids) - set(classes))
    if lacking:
        raise DataError(
            f"{printable(data)}: the validation class '{printable(lacking[0])}' ({len(lacking)} such) has no training "
            "images: add them"
        )
    tested = FilePictures(validation, np.array([number[wnid] for wnid in wnids], np.int64))
    return Source(
        name=root.resolve().name,
        where=data,
        layout="; ".join(["ILSVRC2012, classes by sorted WNIDs, val also serving as test", *walk.remarks()]),
        classes=classes,
        words=tuple(words.get(wnid, wnid) for wnid in classes),
        train=FilePictures(places, labels),
        validation=tested,
        test=tested,
        links=walk.links(),
    )


def read_for_test(data: str) -> Source | None:
    """Return the validation images, to test on, of a folder without training images; None for one that has them.

    Raises ``DataError`` as `read` does.
    """
    root = Path(data)
    if any((root / name).exists() for name in TRAIN):
        return None
    walk = Walk(root)
    validation, wnids, words = _labelled_validation(walk)
    classes = tuple(sorted(set(wnids)))
    number = {wnid: label for label, wnid in enumerate(classes)}
    tested = FilePictures(validation, np.array([number[wnid] for wnid in wnids], np.int64))
    return Source(
        name=root.resolve().name,
        where=data,
        layout="; ".join(["ILSVRC2012's validation images", *walk.remarks()]),
        classes=classes,
        words=tuple(words[wnid] for wnid in classes),
        train=tested,
        validation=tested,
        test=tested,
        links=walk.links(),
        test_only=True,
    )


def _labelled_validation(walk: Walk) -> tuple[list[Place], list[str], dict[str, str]]:
    """Return the validation images, the WNID of each, and the words of each WNID."""
    root = walk.root
    validation = _validation(walk, _part(root, VALIDATION, "validation images"))
    devkit = _part(root, DEVKIT, "devkit")
    truth, table = _devkit(devkit)
    if len(truth) != len(validation):
        raise DataError(
            f"{printable(devkit)} says what {len(truth):,} validation images show, but there are {len(validation):,}: "
            "get the missing ones"
        )
    unknown = sorted({index for index in truth if index not in table})
    if unknown:
        raise DataError(
            f"{printable(devkit)}: the ground truth has class {unknown[0]}, which meta.mat lacks: get it again"
        )
    wnids = [table[index][0] for index in truth]
    return validation, wnids, dict(table.values())


def _part(root: Path, names: tuple[str, ...], what: str) -> Path:
    for name in names:
        if (root / name).exists():
            return root / name
    raise DataError(f"{printable(root)} has no {what}: put {' or '.join(names)} there")


def _training(walk: Walk, part: Path) -> dict[str, list[Place]]:
    """List the training images of each WNID, sorted by name."""
    folders, tars = _folders_and_tars(walk, part)
    images_of: dict[str, list[Place]] = {}
    for name, path in folders.items():
        images_of[name] = [*walk.images(Path(path))]
    for name, tar in tars.items():
        images_of[name] = _by_name(tar)
    for name, images in images_of.items():
        if not WNID.fullmatch(name):
            raise DataError(
                f"{printable(part)}: '{printable(name)}' is not a WNID (n and eight digits): rename or remove it"
            )
        if not images:
            raise DataError(f"{printable(part)}: {name} is a class without images: add some, or remove it")
    if not images_of:
        raise DataError(f"{printable(part)} holds no classes: put <wnid>.tar files or <wnid>/ folders there")
    return images_of


def _folders_and_tars(walk: Walk, part: Path) -> tuple[dict[str, str], dict[str, Place]]:
    """Return the folders and the tar archives of the classes, each by WNID."""
    if part.suffix == ".tar":
        return {}, {_stem(member.name): member for member in members(str(part))}
    walk.note_link(str(part))
    folders = {entry.name: entry.path for entry in walk.folders(part)}
    return folders, {_stem(entry.name): entry.path for entry in entries(part) if entry.name.endswith(".tar")}


def _by_name(tar: Place) -> list[Place]:
    return [*sorted(members(tar), key=lambda member: member.name)]


def _stem(name: str) -> str:
    return PurePosixPath(name).name.removesuffix(".tar")


def _validation(walk: Walk, part: Path) -> list[Place]:
    """List the validation images, sorted by name."""
    if part.suffix == ".tar":
        return _by_name(str(part))
    walk.note_link(str(part))
    if walk.folders(part):
        raise DataError(
            f"{printable(part)} has folders in it, but the ground truth is of images side by side: take the images "
            "out, or remove the devkit if the folders are the classes"
        )
    return [*walk.images(part)]


def _devkit(devkit: Path) -> tuple[list[int], dict[int, tuple[str, str]]]:
    """Read the class of each validation image, and for each class its WNID and its words."""
    truth, table = (_file_of(devkit, name) for name in (TRUTH, TABLE))
    try:
        indices = [int(line) for line in truth.decode("ascii").split()]
    except ValueError as error:
        raise DataError(
            f"{printable(devkit)}: {TRUTH} is not a number in each line ({reason(error)}): get it again"
        ) from error
    return indices, _table(devkit, table)


def _file_of(devkit: Path, name: str) -> bytes:
    if devkit.is_dir():
        return read_bytes(devkit / name, MAX_BYTES)
    try:
        with open_file(devkit) as file, tarfile.open(fileobj=file, mode="r:gz") as tar:
            for info in regular(tar, printable(devkit), remedy="get it again"):
                if info.name.endswith(f"/{name}") and info.size <= MAX_BYTES:
                    extracted = tar.extractfile(info)
                    if extracted is not None:
                        return extracted.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{printable(devkit)} is damaged or cut short ({reason(error)}): get it again") from error
    raise DataError(f"{printable(devkit)} has no {name}: get it again")


def _table(devkit: Path, content: bytes) -> dict[int, tuple[str, str]]:
    """Return the WNID and words of each class by its number; groups of classes, which have no images, are left out."""
    try:
        from scipy.io import loadmat  # noqa: PLC0415 - an extra, for this file alone
    except ImportError as error:
        raise DataError(
            f"{printable(devkit)}: its meta.mat is MATLAB's, which needs scipy: pip install 'refnet[imagenet]'"
        ) from error
    try:
        synsets: Any = loadmat(io.BytesIO(content), squeeze_me=True)["synsets"]
        rows = [(int(s["ILSVRC2012_ID"]), str(s["WNID"]), str(s["words"]), int(s["num_children"])) for s in synsets]
    except Exception as error:  # scipy does not document what it raises for a damaged file
        raise DataError(
            f"{printable(devkit)}: meta.mat has no table of classes ({reason(error)}): get it again"
        ) from error
    table = {index: (wnid, words) for index, wnid, words, children in rows if not children}
    strange = [wnid for wnid, _ in table.values() if not WNID.fullmatch(wnid)]
    if strange:
        raise DataError(f"{printable(devkit)}: meta.mat has the WNID '{printable(strange[0])}': get it again")
    return table
