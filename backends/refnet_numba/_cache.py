"""The cache of machine code: a directory that keeps compiled functions between runs.

The directory is ``$XDG_CACHE_HOME/refnet/numba-HASH``, or ``~/.cache/refnet/numba-HASH``. HASH depends on everything
that machine code depends on: the source files of this package, the versions of the compilers, Numba's settings and the
processor. So a change in any file of the package starts a new directory. (Numba's own cache checks only the file that
contains the function, and no settings.) If the directory cannot be created, or a file in it cannot be read or written,
functions are compiled again: the cache saves time and never causes a failure.
"""

import hashlib
import os
import shutil
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import llvmlite
import llvmlite.binding
import numba
import numpy as np

MAX_DIRECTORIES = 12  # every version of the package or a compiler, and every set of Numba's settings, has its own
MAX_UNUSED_SECONDS = 30 * 24 * 3600.0  # a directory unused for a month is removed, even if there are few


def cache_directory() -> Path | None:
    """Create the cache's directory and return it; return None if that fails or if other users could write to it."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if not base.is_absolute():  # the XDG standard says to ignore relative paths
            base = Path.home() / ".cache"
        directory = base / "refnet" / f"numba-{_dependencies()[:16]}"
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        # The files are pickles: whoever can write one can run code in this process.
        if not (_is_own(directory.parent) and _is_own(directory)):
            return None
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None
    with suppress(OSError):
        os.utime(directory)
        _prune(directory)
    return directory


def _prune(current: Path) -> None:
    """Remove the other directories, except the ``MAX_DIRECTORIES`` - 1 that were used last and within a month.

    Other processes may do the same, or use a directory that is removed; they then compile what is missing. A directory
    is renamed before its files are removed, because removing files would make it look recently used. Raises ``OSError``
    if another process removes a directory at the same time.
    """
    statuses = {other: other.lstat() for other in current.parent.glob("numba-*") if other != current}
    last_used = {other: status.st_mtime for other, status in statuses.items() if stat.S_ISDIR(status.st_mode)}
    newest_first = sorted(last_used, key=lambda other: (-last_used[other], other))
    for count, other in enumerate(newest_first, start=1):
        if count >= MAX_DIRECTORIES or last_used[other] < time.time() - MAX_UNUSED_SECONDS:
            with suppress(OSError):
                other.rename(other.with_name(f"removed-{os.getpid()}-{other.name}"))
    for removed in current.parent.glob("removed-*"):  # including those that interrupted processes left
        shutil.rmtree(removed, ignore_errors=True)


def _dependencies() -> str:
    """Return a SHA-256, in hexadecimal, of everything that machine code depends on."""
    # The number of threads does not change the machine code; any other setting may.
    settings = {key: value for key, value in os.environ.items() if key.startswith("NUMBA_")}
    settings.pop("NUMBA_NUM_THREADS", None)
    versions = sys.version, numba.__version__, llvmlite.__version__, np.__version__
    processor = llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten()
    digest = hashlib.sha256(repr((sorted(settings.items()), versions, processor)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _is_own(directory: Path) -> bool:
    """Return whether the path is a directory (no link) that belongs to this user and that nobody else can write to."""
    status = directory.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def load(name: str) -> bytes | None:
    """Return the bytes saved under a name, or None if there are none or they are damaged."""
    with suppress(OSError):
        saved = (DIRECTORY / name).read_bytes() if DIRECTORY else b""
        checksum, content = saved[:32], saved[32:]
        if saved and hashlib.sha256(content).digest() == checksum:
            return content
    return None


def save(name: str, content: bytes) -> None:
    """Save bytes and their SHA-256 under a name, if possible. Other processes see the complete file or none."""
    if DIRECTORY:
        with suppress(Exception), TemporaryDirectory(dir=DIRECTORY) as folder:
            new = Path(folder) / "new"
            new.write_bytes(hashlib.sha256(content).digest() + content)
            new.replace(DIRECTORY / name)


DIRECTORY = cache_directory()
