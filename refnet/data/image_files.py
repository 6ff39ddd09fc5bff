"""The image files that a user names: files, folders of images, and patterns such as ``photos/*.jpg``.

Decisions
---------
Of a folder, all images are listed, those in its folders too, sorted by name; what is skipped is the same as in a folder
of classes (:mod:`refnet.data.readers.walk`). A pattern is resolved here as a shell would resolve it, because a quoted
pattern, or one on Windows, reaches the program unresolved. If a file's name looks like a pattern and
the file exists, the name means that file.
"""

import glob
import os
import re
from pathlib import Path
from typing import NamedTuple

from refnet.data.readers.walk import Walk
from refnet.errors import DataError
from refnet.terminal.printable import printable

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # of two letters or more: one letter is a drive of Windows


class ImageFiles(NamedTuple):
    """Paths of image files, and what was skipped in a folder, in words; "" where nothing was."""

    paths: list[str]
    skipped: str = ""


def listed(named: str) -> ImageFiles:
    """Return the image files that one path or pattern names.

    Raises ``DataError`` for a web address, a path that does not exist, a folder without images, and a pattern that
    matches nothing.
    """
    if os.path.lexists(named):
        return _in_folder(named) if Path(named).is_dir() else ImageFiles([named])
    refuse_address(named)
    if not glob.has_magic(named):
        raise DataError(f"{printable(named)} does not exist; name an image file, or a folder of images")
    matches = sorted(glob.glob(named, recursive=True))  # noqa: PTH207 - absolute patterns too
    if files := [match for match in matches if not Path(match).is_dir()]:
        return ImageFiles(files)
    if not matches:
        raise DataError(f"no file matches {printable(named)}; name image files, or a folder of images")
    folders = [_in_folder(match) for match in matches]
    skipped = "; ".join(folder.skipped for folder in folders if folder.skipped)
    return ImageFiles([path for folder in folders for path in folder.paths], skipped)


def is_several(named: str) -> bool:
    """Tell whether a path names a folder of images or a pattern, not one file."""
    return Path(named).is_dir() or (glob.has_magic(named) and not os.path.lexists(named))


def refuse_address(named: str) -> None:
    """Raise ``DataError`` for the address of something on another computer."""
    if ADDRESS.match(named) and not os.path.lexists(named):
        raise DataError(
            f"{printable(named)} is an address, and refnet reads only files: download it first (curl -LO ADDRESS), "
            "then name the file"
        )


def _in_folder(folder: str) -> ImageFiles:
    walk = Walk(Path(folder))
    paths = walk.images(walk.root)
    skipped = walk.skipped_in_words()
    if not paths:
        raise DataError(f"{printable(folder)} has no images{f' ({skipped})' if skipped else ''}; name image files")
    return ImageFiles(paths, f"{printable(folder)}: {skipped}" if skipped else "")
