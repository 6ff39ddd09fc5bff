"""Files that are replaced as a whole: a reader, also one after a power cut, finds the old file or the new one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".tmp"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path`; once it is written, flush it to the disk and rename it, and flush the folder.

    Raises ``OSError``, which names `path` as the user does, and after any failure leaves the old file as it was and
    nothing beside it.
    """
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
        # After a failure or Ctrl-C it is still there; what hinders the removal was said above.
        with suppress(OSError):
            temporary.unlink()


def replace(path: Path, content: bytes) -> None:
    """Give a file new content. Raises ``OSError``."""
    with replacing(path) as file:
        file.write(content)


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries, so that what was made, renamed or removed in it stays so. Raises ``OSError``."""
    entries = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entries)
    finally:
        os.close(entries)


def remove_orphans(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote here. Only for who knows that no other writes here."""
    for orphan in folder.glob(f".*{SUFFIX}"):
        with suppress(OSError):
            orphan.unlink()
