"""Tell the user while a backend compiles its functions, which is most of a first start."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from refnet.backend.capabilities import Compiling
from refnet.backend.wrapped import unwrapped
from refnet.machine.doctor import doctor_of
from refnet.terminal.printable import counted
from refnet.terminal.progress import Show

NOTE_SECONDS = 10.0
_noting = threading.Lock()


@contextmanager
def noted(show: Show, *backends: object) -> Iterator[None]:
    """Show a line when a backend first compiles a function, and every `NOTE_SECONDS` how many it has compiled.

    Nothing is shown if all functions are compiled already. If contexts overlap, only the first shows lines,
    because a process compiles a function only once.
    """
    backend = next((inner for inner in map(unwrapped, backends) if isinstance(inner, Compiling)), None)
    if backend is None or not _noting.acquire(blocking=False):
        yield
        return
    try:
        with backend.compiling(_Notes(backend, show)):
            yield
    finally:
        _noting.release()


class _Notes:
    """Counts the functions that are compiled; it is called before each."""

    def __init__(self, backend: object, show: Show) -> None:
        self._backend = backend
        self._show = show
        self._count = 0
        self._began = self._noted = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if not self._count:
            self._began = self._noted = now
            self._show.note(_first_line(self._backend))
        elif now - self._noted >= NOTE_SECONDS:
            self._noted = now
            self._show.note(f"compiling: {counted(self._count, 'function')} so far, {now - self._began:.0f} s")
        self._count += 1


def _first_line(backend: object) -> str:
    name, doctor = getattr(backend, "name", ""), doctor_of(backend)
    folder = doctor and doctor.cache()
    if folder:
        return f"compiling backend {name} for this processor, up to a minute; later starts read it from {folder}"
    return (
        f"compiling backend {name} for this processor, up to a minute at every start as no folder can keep the result; "
        "set XDG_CACHE_HOME to a folder of your own that nobody else may write to"
    )
