"""A walk through a tree of images: which folders and images are in it, and what is skipped.

Decisions
---------
Skipped and counted: files without an image's name and without an image's first bytes (``Thumbs.db``, tables, notes,
``:Zone.Identifier``), hidden files in class folders, and the folders of `SIDECARS`. A file with an image's name is
listed whatever its content, so that a damaged image is never left out. Hidden folders are skipped.

Links to folders and images are followed while they stay inside what the user named. Those that lead out of it are in
the ``links`` of the source: :func:`refnet.data.opening.read_source` refuses them unless the user agreed
(``--follow-links``), since images that somebody else packed may not point at any file of the reader's. What the user
named may itself be a link. A link to a folder that contains the link is always refused.
"""

import os
from pathlib import Path

from refnet.errors import DataError
from refnet.terminal.printable import first_few, printable

LAYOUTS = "train/<class>/<image> with val/ or test/ beside train/, or <class>/<image>"
SIDECARS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")  # folders that operating systems add
SUFFIXES = frozenset(
    (
        "arw",
        "avif",
        "bmp",
        "cr2",
        "cr3",
        "dib",
        "dng",
        "gif",
        "heic",
        "heif",
        "j2k",
        "jfif",
        "jp2",
        "jpe",
        "jpeg",
        "jpg",
        "jxl",
        "nef",
        "orf",
        "pbm",
        "pgm",
        "png",
        "pnm",
        "ppm",
        "psd",
        "raf",
        "rw2",
        "svg",
        "tif",
        "tiff",
        "webp",
    )
)
SIGNATURES = (  # JPEG, PNG, BMP, WebP, GIF, TIFF (AVIF and HEIC have theirs at byte 4)
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"BM",
    b"RIFF",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
)


class Walk:
    """Lists folders and images, and remembers what it skips.

    Attributes
    ----------
    entered
        The only folder in the root, if the classes are in it.
    unused
        Folders that are not used.
    doubled
        Folders of splits that were in a folder called the same.
    unlabelled
        Images whose class no file says.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entered = ""
        self.unused: list[str] = []
        self.doubled: list[str] = []
        self.unlabelled: list[str] = []
        self._real_root = Path(os.path.realpath(root))
        self._skipped: dict[str, str] = {}  # path to name
        self._outside: dict[str, str] = {}  # path of a link to what it leads to
        self._nested: list[str] = []
        self._stray: list[str] = []

    def folders(self, folder: Path) -> list[os.DirEntry[str]]:
        """List the folders in a folder, without hidden ones and those of other systems."""
        inner = []
        for entry in entries(folder):
            if not is_folder(entry):
                continue
            if entry.name in SIDECARS:
                self._skipped[entry.path] = entry.name
                continue
            self.note_link(entry.path)
            inner.append(entry)
        return inner

    def leave(self, folder: Path) -> None:
        """Name a folder as not used. A link in its place is not followed, so it is no reason to refuse the others."""
        self.unused.append(str(folder.relative_to(self.root)))
        self._outside.pop(str(folder), None)

    def note_link(self, path: str) -> None:
        """Remember a folder or an image if it is a link that leads out of what the user named."""
        target = Path(os.path.realpath(path))
        if Path(path).is_symlink() and target.exists() and not target.is_relative_to(self._real_root):
            self._outside[path] = str(target)

    def has_files(self, folder: Path) -> bool:
        """Tell whether images are directly in a folder."""
        return any(not is_folder(entry) and not _is_sidecar(entry) for entry in entries(folder))

    def note_stray(self, folder: Path) -> None:
        """Remember the images beside the class folders in a folder: they belong to no class."""
        self._stray += [entry.name for entry in entries(folder) if not is_folder(entry) and not _is_sidecar(entry)]

    def refuse_broken_links(self, folder: Path) -> None:
        """Raise ``DataError`` for a link in a folder of classes that leads nowhere."""
        for entry in entries(folder):
            if entry.is_symlink() and not Path(entry.path).exists():
                raise DataError(f"{printable(entry.path)} is a broken link: remove it, or restore what it points to")

    def images(self, folder: Path) -> list[str]:
        """List the images of a class, in folders of the class too, sorted by name."""
        return self._images(folder, (Path(os.path.realpath(folder)),))

    def remarks(self) -> list[str]:
        """Return what was skipped and what was done to find the images."""
        remarks = []
        if self.entered:
            remarks.append(f"all in the folder {printable(self.entered)}/")
        if self.doubled:
            remarks.append(f"classes in {' and '.join(f'{printable(name)}/' for name in self.doubled)}")
        if self.unused:
            remarks.append(f"not used: {self.unused_in_words()}")
        if self._nested:
            remarks.append(f"images in folders of a class belong to the class ({first_few(self._nested)})")
        if self._outside:
            remarks.append(
                f"links that lead elsewhere are followed: {len(self._outside):,} ({first_few(self.links())})"
            )
        if self._stray:
            remarks.append(f"left out, in no class folder: {len(self._stray):,} ({first_few(self._stray)})")
        if self.unlabelled:
            remarks.append(f"left out, of no known class: {len(self.unlabelled):,} ({first_few(self.unlabelled)})")
        if skipped := self.skipped_in_words():
            remarks.append(skipped)
        return remarks

    def links(self) -> tuple[str, ...]:
        """Return the links that lead out of what the user named, as "name -> target"."""
        return tuple(f"{Path(link).name} -> {target}" for link, target in self._outside.items())

    def skipped_in_words(self) -> str:
        """Count and name the files that are no images; "" if there are none."""
        if not self._skipped:
            return ""
        kinds = [*dict.fromkeys(map(_kind, self._skipped.values()))]
        return f"left out as no images: {len(self._skipped):,} ({first_few(kinds)})"

    def unused_in_words(self) -> str:
        """Name the folders beside the splits."""
        return ", ".join(f"{printable(name)}/" for name in self.unused)

    def _images(self, folder: Path, chain: tuple[Path, ...]) -> list[str]:
        folders = {entry.name: entry.path for entry in self.folders(folder)}
        files = []
        for entry in entries(folder, hidden=True):
            if entry.name in folders:
                inner = Path(os.path.realpath(entry.path))
                if any(outer.is_relative_to(inner) for outer in chain):
                    raise DataError(f"{printable(entry.path)} is a link to a folder that contains it: remove the link")
                self._nested.append(f"{folder.name}/{entry.name}")
                files += self._images(Path(entry.path), (*chain, inner))
            elif entry.name.startswith("."):
                if entry.is_file():
                    self._skipped[entry.path] = entry.name
            elif entry.name not in SIDECARS:
                if _is_sidecar(entry):
                    self._skipped[entry.path] = entry.name
                else:
                    if entry.is_symlink():
                        self.note_link(entry.path)
                    files.append(entry.path)
        return files


def entries(folder: Path, *, hidden: bool = False) -> list[os.DirEntry[str]]:
    """List what is in a folder, sorted by name; what is hidden only if asked for."""
    try:
        with os.scandir(folder) as scanned:
            listed = [entry for entry in scanned if hidden or not entry.name.startswith(".")]
    except FileNotFoundError as error:
        raise DataError(
            f"{printable(folder)} does not exist: give 'digits', or a folder of images ({LAYOUTS})"
        ) from error
    except NotADirectoryError as error:
        raise DataError(f"{printable(folder)} is a file: give 'digits', or a folder of images ({LAYOUTS})") from error
    except OSError as error:
        raise DataError(f"{printable(folder)} cannot be listed: {error.strerror}; fix its permissions") from error
    return sorted(listed, key=lambda entry: entry.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder or a link to one.

    Raises ``DataError`` for a link to a folder that contains it.
    """
    try:
        folder = entry.is_dir()
    except OSError:  # a link in a circle
        return False
    if folder and entry.is_symlink():
        parent = Path(os.path.realpath(Path(entry.path).parent))
        if parent.is_relative_to(os.path.realpath(entry.path)):
            raise DataError(f"{printable(entry.path)} is a link to a folder that contains it: remove the link")
    return folder


def _is_sidecar(entry: os.DirEntry[str]) -> bool:
    """Tell whether neither a file's name nor its first bytes are those of an image. False if it cannot be read."""
    if entry.name.rpartition(".")[2].lower() in SUFFIXES:
        return False
    try:
        if not entry.is_file():
            return False
        with open(entry.path, "rb") as file:  # noqa: PTH123 - no Path is needed
            first = file.read(12)
            return not first.startswith(SIGNATURES) and first[4:8] != b"ftyp"  # which AVIF and HEIC have
    except OSError:
        return False


def _kind(name: str) -> str:
    """Return a file's name, or a pattern for files that systems add to each image: "*:Zone.Identifier", "._*"."""
    stem, colon, stream = name.rpartition(":")
    return f"*:{stream}" if stem and colon else "._*" if name.startswith("._") else name
