"""Open a part of a file as a file of its own, and list the regular files in a tar archive as such parts.

An image inside a tar archive is read there, without unpacking. Archives may be hostile: links, devices and sparse files
in them are refused, names are only shown, and a member whose size reaches beyond the end of the archive is an error.
"""

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

from refnet.errors import DataError
from refnet.terminal.printable import printable, reason


class Member(NamedTuple):
    """A regular file in a tar archive, which may itself be inside another archive."""

    path: str  # the outermost file
    name: str
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"


Place = str | Member  # of a file's bytes: a path, or a part of an archive


class _Section(io.RawIOBase):
    """Bytes start..start+size of an open file.

    Reads do not move the position of the open file, which other threads share.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._position))
        data = os.pread(self._file.fileno(), wanted, self._start + self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def open_place(place: Place) -> BinaryIO:
    """Open a regular file, or a part of one, to read.

    Raises ``OSError``, and ``DataError`` for what is not a regular file: opening a pipe would wait for ever.
    """
    if isinstance(place, Member):
        return cast("BinaryIO", io.BufferedReader(_Section(_open_regular(place.path), place.start, place.size)))
    return _open_regular(place)


def open_file(path: Path) -> BinaryIO:
    """Open a regular file to read. Raises ``DataError`` if it is missing or cannot be opened."""
    try:
        return _open_regular(str(path))
    except FileNotFoundError as error:
        raise DataError(f"{printable(path)} is missing: put it there") from error
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error for a file that the system cannot read."""
    return DataError(f"{printable(path)} cannot be read: {error.strerror}; repair or replace it")


def read_bytes(path: Path, largest: int) -> bytes:
    """Read a whole regular file. Raises ``DataError`` if it is missing, unreadable or has more than `largest` bytes."""
    with open_file(path) as file:
        try:
            content = file.read(largest + 1)
        except OSError as error:
            raise unreadable(path, error) from error
    if len(content) > largest:
        raise DataError(f"{printable(path)} is larger than {largest:,} bytes, which no such file is: replace it")
    return content


def _open_regular(path: str) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if Path(path).is_symlink():
            raise DataError(f"{printable(path)} is a broken link: repair or remove it") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"{printable(path)} is not a regular file (a folder, a pipe, a device): remove it")
    return os.fdopen(descriptor, "rb")


def regular(tar: tarfile.TarFile, where: str, *, remedy: str) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of an open archive, which may be hostile; folders are skipped.

    Raises ``DataError`` for an unsafe member: a name that is absolute or leads upwards, a link, a device, a
    sparse file, or a negative size. `where` is what messages call the archive.
    """
    for info in tar:
        fault = _fault(info)
        if fault:
            raise DataError(f"{where}: {printable(info.name)} in it {fault}: {remedy}")
        if not info.isdir():
            yield info
        tar.members = []  # type: ignore[attr-defined] # it would keep a record of every member, of which there may be millions


def _fault(info: tarfile.TarInfo) -> str | None:
    """Return what is unsafe about a member, or None."""
    if info.size < 0:  # Python's tarfile would go backwards, and round and round
        return "has a negative size"
    name, parts = info.name, PurePosixPath(info.name).parts
    if not (parts or info.isdir()) or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
        return "is a name that leads elsewhere"
    if info.isdir() or (info.isreg() and not info.issparse()):
        return None
    return "is a link or a device"


def members(archive: Place) -> Iterator[Member]:
    """Yield the regular files of a plain tar archive, in its order.

    Raises ``DataError`` for a file that is not a tar archive, is cut short or damaged, or contains anything but folders
    and regular files.
    """
    try:
        with open_place(archive) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            end = file.seek(0, os.SEEK_END)
            file.seek(0)
            path, start = (archive.path, archive.start) if isinstance(archive, Member) else (archive, 0)
            for info in regular(tar, printable(archive), remedy="copy it again, or remove that"):
                if info.offset_data + info.size > end:
                    raise DataError(f"{printable(archive)} is cut short at {printable(info.name)}: copy it again")
                yield Member(path, info.name, start + info.offset_data, info.size)
    except tarfile.TarError as error:
        raise DataError(f"{printable(archive)} is not a plain tar archive ({reason(error)}): copy it again") from error
    except OSError as error:
        raise DataError(f"{printable(archive)} cannot be read: {error.strerror}; repair or remove it") from error
