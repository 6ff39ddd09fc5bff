"""Replace files atomically: a reader gets the old or the new content, even after a power cut."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

SUFFIX = ".tmp"
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}  # errors of file systems without flock


def expanded(path: str | os.PathLike[str]) -> str:
    """Return a path in which a leading ``~`` or ``~user`` is replaced by that user's home folder.

    A path whose home folder is not known here is returned unchanged.
    """
    return os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser fails where there is no home folder


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; once it is written, flush it, rename it to `path` and flush the folder.

    Raises ``OSError``, which names `path`. After any failure the old file is unchanged and the temporary one removed.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        # The temporary file still exists after a failure or Ctrl-C. An error here would hide the first one.
        with suppress(OSError):
            temporary.unlink()


def replace(path: Path, content: bytes) -> None:
    """Write new content to a file, atomically. Raises ``OSError``."""
    with replacing(path) as file:
        file.write(content)


def lock(file: BinaryIO | TextIO, *, shared: bool = False) -> bool:
    """Lock an open file for this process alone or, with `shared`, together with other readers.

    Returns False if the file system has no locks. Raises ``BlockingIOError`` if another process has locked it, and
    ``OSError``.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    return True


def warn_unlocked(folder: Path) -> str:
    """Return a warning about a folder whose file system has no locks."""
    return (
        f"warning: the file system of {folder} has no file locks, so refnet cannot notice a second process that writes "
        "there; start only one"
    )


def flush_folder(folder: Path) -> None:
    """Flush a folder, so that its new, renamed and removed files survive a power cut. Raises ``OSError``."""
    entries = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entries)
    finally:
        os.close(entries)


def remove_orphans(folder: Path) -> None:
    """Remove temporary files of a process that was killed while writing. No other process may be writing here."""
    for orphan in folder.glob(f".*{SUFFIX}"):
        with suppress(OSError):
            orphan.unlink()
