"""How functions are compiled, and where the machine code is kept between runs.

``kernel`` compiles a function whose ``prange`` loops run on all threads; ``serial`` one that they call.

Machine code is kept in a directory of the user's own, named by a hash of all that it depends on: this package's
sources, the versions of what compiles them, Numba's settings, the processor. An edit anywhere in the package is thus
noticed (Numba's own cache looks at the edited file alone, and not at its settings). Where no such directory can be
had, or a file in it cannot be read or written, functions are compiled anew: the cache saves time, and is never the
reason that something fails.
"""

import hashlib
import os
import pickle
import shutil
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

F = TypeVar("F", bound=Callable[..., Any])

_PICKLE: Any = dumps  # Any: they have no types
_REBUILD: Any = CompileResult._rebuild  # noqa: SLF001
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


class _Cache(NullCache):
    """The machine code of one function: a file for each signature, holding a SHA-256 and a pickle that it is of.

    A dispatcher asks its cache before it compiles and tells it afterwards; whatever goes wrong here, it compiles.
    Numba's own cache lets errors through (of damaged files, full disks), and notices no damage that still unpickles.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__}.{function.__qualname__}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        from refnet_numba import _microkernel  # noqa: PLC0415 - it is made of what is here

        target_context.refresh()
        pickled = load(self._file(sig))
        if pickled:
            with suppress(Exception):
                if _microkernel.PREFIX.encode() in pickled:  # the machine code calls it
                    _microkernel.link()
                return _REBUILD(target_context, *pickle.loads(pickled))  # noqa: S301
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not data.library.has_dynamic_globals:  # addresses of this process
            with suppress(Exception):
                save(self._file(sig), _PICKLE(data._reduce()))  # noqa: SLF001

    def _file(self, sig: Any) -> str:
        return f"{self._name}-{hashlib.sha256(str(sig).encode()).hexdigest()[:16]}"


def load(name: str) -> bytes | None:
    """Read what was kept under a name; None where there is nothing, or it is damaged."""
    with suppress(OSError):
        whole = (_CACHE / name).read_bytes() if _CACHE else b""
        if whole and hashlib.sha256(whole[32:]).digest() == whole[:32]:
            return whole[32:]
    return None


def save(name: str, content: bytes) -> None:
    """Keep bytes under a name, if that is possible. Another process finds a whole file or none."""
    if _CACHE:
        with suppress(Exception), TemporaryDirectory(dir=_CACHE) as new:
            (Path(new) / "new").write_bytes(hashlib.sha256(content).digest() + content)
            (Path(new) / "new").replace(_CACHE / name)


_CACHE = cache_directory()


def kernel(function: F) -> F:
    """Compile a function whose ``prange`` loops run on all threads."""
    return _compile(function, parallel=True)


def reordering_kernel(function: F) -> F:
    """Compile a kernel whose sums the compiler may reorder, which lets it make vectors of a single sum."""
    return _compile(function, parallel=True, fastmath={"reassoc", "contract"})


def serial(function: F) -> F:
    """Compile a function that kernels call."""
    return _compile(function, parallel=False)


def _compile(function: F, *, parallel: bool, fastmath: bool | set[str] = False) -> F:
    # An exception in a prange loop is lost, IndexError included: bounds are only checked where loops are plain.
    settings: Any = numba.config
    parallel = parallel and not settings.BOUNDSCHECK
    # error_model: a division by zero gives infinity, as in NumPy. Never the whole of fastmath: NaN must stay NaN.
    jit: Any = numba.njit(parallel=parallel, nogil=True, error_model="numpy", fastmath=fastmath)
    compiled = jit(function)
    if _CACHE and compiled is not function:  # they are one and the same under NUMBA_DISABLE_JIT
        compiled._cache = _Cache(function)  # noqa: SLF001
    return cast("F", compiled)
