"""Images that cannot be read: how many may be left out, and what a user is told.

Decisions
---------
All images are read before anything is decided, so one pass lists every damaged image. ``bad`` says what follows:

- ``few``, the default: at most 10 images, or 1 % of them all if that is more, are left out; if more cannot be read, all
  are listed in an error, since then something else is usually wrong;
- ``skip``: any number is left out;
- ``stop``: a single one is an error, and all are listed in it.

A class of which no training image can be read, and a split of which no image can, are always an error. Images that are
left out are no part of the data set: its labels, its mean and so its fingerprint are those of the others. A resumed run
therefore asks for the same images to be readable.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from refnet.data.dataset import Labels
from refnet.errors import DataError
from refnet.terminal.printable import first_few, printable
from refnet.terminal.spelling import setting

ALLOWED_IMAGES, ALLOWED_SHARE = 10, 100  # 10 images or one in 100, whichever is more

Faults = Mapping[str, str]  # where an image is, to what is wrong with it


def refuse_damaged(faults: Faults, total: int, bad: str, *, where: str, listed_in: Path | None = None) -> None:
    """Raise ``DataError`` if more of `total` images are damaged than `bad` lets be left out, or all of them.

    The message has a line for each of them, or the name of the file in which they are listed.
    """
    faults = dict(sorted(faults.items()))
    if faults and len(faults) == total:
        raise DataError(f"{printable(where)}: none of {total:,} images can be read; {next(iter(faults.values()))}")
    few, skip = max(ALLOWED_IMAGES, total // ALLOWED_SHARE), setting("bad", "skip")
    if not faults or bad == "skip" or (bad == "few" and len(faults) <= few):
        return
    if len(faults) == 1:
        raise DataError(f"{next(iter(faults.values()))}, or leave it out with {skip}")
    limit = "" if bad == "stop" else f", and only {few:,} may be left out without asking"
    listed = f" ({first_few(list(faults))}; {printable(listed_in)} lists all)" if listed_in else ""
    remedy = f"repair or remove them, or leave them out with {skip}"
    summary = f"{printable(where)}: {len(faults):,} of {total:,} images cannot be read{limit}{listed}: {remedy}"
    raise DataError("\n".join([*(() if listed_in else faults.values()), summary]))


def refuse_empty(labels: Mapping[str, Labels], classes: tuple[str, ...], where: str) -> None:
    """Raise ``DataError`` for a split, or a class of train, of which every image was left out.

    `labels` has those of the images that are left, by split; `classes` is empty if a class may be without images.
    """
    for split, left in labels.items():
        if not len(left):
            raise DataError(f"{printable(where)}: no {split} image can be read: repair or replace them")
    empty = np.setdiff1d(np.arange(len(classes)), labels["train"])
    if empty.size:
        raise DataError(
            f"{printable(where)}: no training image of the class '{printable(classes[empty[0]])}' can be read: repair "
            "them, or remove the class"
        )


def left_out(faults: Faults, total: int, listed_in: Path | None = None) -> str:
    """Return the line that says how many images are left out, which (the first few), and where all are listed."""
    listed = f"all are in {printable(listed_in)}" if listed_in else f"{setting('bad', 'stop')} lists all"
    are = "is" if len(faults) == 1 else "are"
    return (
        f"warning: {len(faults):,} of {total:,} images cannot be read and {are} left out: {first_few(sorted(faults))} "
        f"({listed}, with the reasons)"
    )


def counted(images: int) -> str:
    """Return what the layout of a data set says of images that were left out; nothing if there are none."""
    return f"; {images:,} unreadable image{'s' * (images > 1)} left out" if images else ""
