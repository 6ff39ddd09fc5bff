"""The note that a user reads while a backend compiles its functions."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from refnet_numba import _cache, _jit

from refnet.backend.loading import load
from refnet.backend.wrapped import CheckedResults
from refnet.machine import compiling
from refnet.terminal.progress import Quiet


class Notes(Quiet):
    """A display that keeps its notes."""

    def __init__(self):
        self.lines = []

    def note(self, line):
        self.lines.append(line)


class Doctor:
    def __init__(self, cache):
        self._cache = cache

    def cache(self):
        return self._cache

    examine = throttles = fullness = None


class Lazy:
    """A backend that compiles when it is told to."""

    name = "lazy"

    def __init__(self, cache=Path("/cache")):
        self.doctor = Doctor(cache)

    @contextmanager
    def compiling(self, tell):
        self.compile = tell
        yield


@pytest.fixture(autouse=True)
def noting(monkeypatch):
    monkeypatch.setattr(compiling, "_noting", threading.Lock())


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("refnet.machine.compiling.time.monotonic", lambda: now[0])
    return now


def test_it_is_said_at_the_first_function_and_then_counted(clock):
    notes, backend = Notes(), Lazy()
    with compiling.noted(notes, object(), backend):
        assert notes.lines == []
        backend.compile()
        assert notes.lines == [
            "compiling backend lazy for this processor, up to a minute; later starts read it from /cache"
        ]
        for seconds in (1, 9.5, 10.5, 11, 21):
            clock[0] = 100 + seconds
            backend.compile()
    assert notes.lines[1:] == ["compiling: 3 functions so far, 10 s", "compiling: 5 functions so far, 21 s"]


def test_without_a_cache_it_is_said_how_to_get_one():
    notes, backend = Notes(), Lazy(cache=None)
    with compiling.noted(notes, backend):
        backend.compile()
    (line,) = notes.lines
    assert "at every start as no folder can keep the result; set XDG_CACHE_HOME to a folder of your own" in line


def test_contexts_that_overlap_tell_once():
    notes, backend, other = Notes(), Lazy(), Lazy()
    with compiling.noted(notes, backend), compiling.noted(notes, other):
        backend.compile()
        assert not hasattr(other, "compile")
    with compiling.noted(notes, other):
        other.compile()
    assert len(notes.lines) == 2


def test_a_backend_that_compiles_nothing():
    notes = Notes()
    with compiling.noted(notes, load("numpy")):
        pass
    assert notes.lines == []


def twice(x):
    return 2 * x


def test_numba_tells_what_it_compiles_and_not_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_cache, "DIRECTORY", _cache.cache_directory())
    for expected in (["compiling backend numba for this processor"], []):
        notes = Notes()
        with compiling.noted(notes, CheckedResults(load("numba"))):
            assert _jit.serial(twice)(21) == 42
        assert [line.partition(",")[0] for line in notes.lines] == expected


NO_SEMAPHORES = """
import multiprocessing, sys
def refuse(self):
    raise OSError(38, "Function not implemented")
multiprocessing.context.BaseContext.RLock = refuse
from refnet.backend.loading import load
from refnet_numba import _threads
load("numba")
assert _threads.layer()
from numba.np.ufunc import parallel
assert isinstance(parallel._backend_init_process_lock, parallel._nop)
"""


def test_a_system_without_dev_shm(tmp_path):
    """Numba warns at length of a lock that it cannot get, and that refnet does not need."""
    argv = [sys.executable, "-c", NO_SEMAPHORES]
    ran = subprocess.run(argv, env=os.environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
