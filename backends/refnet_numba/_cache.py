"""Where machine code is kept between runs.

It is kept in a directory of the user's own, named by a hash of all that it depends on: this package's sources, the
versions of what compiles them, Numba's settings, the processor. An edit anywhere in the package is thus noticed
(Numba's own cache looks at the edited file alone, and not at its settings). Where there can be no such directory, or a
file in it cannot be read or written, functions are compiled anew: the cache saves time, and never makes anything fail.
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

KEPT = 12  # directories; there is one for each version in use, checkout of the sources and set of Numba's settings
MONTH = 30 * 24 * 3600.0  # seconds after which a directory that nobody used is removed, however few there are


def cache_directory() -> Path | None:
    """Make the directory and return it; None where that is not possible, or where others could write to it."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if not base.is_absolute():  # then the standard has it ignored
            base = Path.home() / ".cache"
        directory = base / "refnet" / f"numba-{_dependencies()[:16]}"
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        # The files are pickles, and to load one is to run what it says.
        if not (_is_own(directory.parent) and _is_own(directory)):
            return None
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    with suppress(OSError):
        os.utime(directory)
        _prune(directory)
    return directory


def _prune(mine: Path) -> None:
    """Remove what other states of the sources left, as upgrades do, but for a few that were used lately.

    Other processes may be at the same, or at work in what goes: they compile anew what they do not find. A directory
    gets another name before its files go, which would make it look just used. Raises ``OSError`` where another process
    was faster.
    """
    found = {other: other.lstat() for other in mine.parent.glob("numba-*") if other != mine}
    others = {other: status.st_mtime for other, status in found.items() if stat.S_ISDIR(status.st_mode)}
    for place, other in enumerate(sorted(others, key=lambda other: (-others[other], other)), start=1):
        if place >= KEPT or others[other] < time.time() - MONTH:
            with suppress(OSError):
                other.rename(other.with_name(f"removed-{os.getpid()}-{other.name}"))
    for gone in mine.parent.glob("removed-*"):  # also by a process that did not come to its end
        shutil.rmtree(gone, ignore_errors=True)


def _dependencies() -> str:
    """Hash what machine code depends on."""
    # How many threads there are is asked when a kernel runs; any other setting may change what is compiled.
    settings = {key: value for key, value in os.environ.items() if key.startswith("NUMBA_")}
    settings.pop("NUMBA_NUM_THREADS", None)
    versions = sys.version, numba.__version__, llvmlite.__version__, np.__version__
    processor = llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten()
    digest = hashlib.sha256(repr((sorted(settings.items()), versions, processor)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _is_own(directory: Path) -> bool:
    """Tell whether a directory, itself and not by way of a link, is this user's and nobody else may write to it."""
    status = directory.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def load(name: str) -> bytes | None:
    """Read what was kept under a name; None where there is nothing, or it is damaged."""
    with suppress(OSError):
        whole = (DIRECTORY / name).read_bytes() if DIRECTORY else b""
        if whole and hashlib.sha256(whole[32:]).digest() == whole[:32]:
            return whole[32:]
    return None


def save(name: str, content: bytes) -> None:
    """Keep bytes under a name, if that is possible. Another process finds a whole file or none."""
    if DIRECTORY:
        with suppress(Exception), TemporaryDirectory(dir=DIRECTORY) as new:
            (Path(new) / "new").write_bytes(hashlib.sha256(content).digest() + content)
            (Path(new) / "new").replace(DIRECTORY / name)


DIRECTORY = cache_directory()
