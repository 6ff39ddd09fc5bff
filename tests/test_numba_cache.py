"""The Numba backend's cache: where it may be, what may befall it, and that it never is the reason for a failure.

Kernels are compiled into the cache that users have, but where a test is about the cache.
"""

import errno
import hashlib
import json
import os
import pickle
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from refnet_numba import _cache, _jit

TESTS = Path(__file__).parent
PACKAGE = Path(_cache.__file__).parent
CORES = numba.config.NUMBA_NUM_THREADS


def process(code, *, wait=True, **environment):
    """Run Python code, with changes to the environment (None removes)."""
    changed = {key: value for key, value in (os.environ | environment).items() if value is not None}
    started = subprocess.Popen(
        [sys.executable, "-c", code], env=changed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return ended(started) if wait else started


def ended(started):
    out, err = started.communicate(timeout=120)
    assert started.returncode == 0, err
    assert not err
    return json.loads(out)


# The cache, in this process ------------------------------------------------------------------------------------------


def twice(x):
    return x + x


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Have the cache in an empty home."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def hits(home, monkeypatch):  # noqa: ARG001
    """Give a function that compiles again, as another process would, and tells whether the cache had it."""
    monkeypatch.setattr(_cache, "DIRECTORY", _cache.cache_directory())

    def run():
        compiled = _jit.serial(twice)
        assert compiled(21) == 42
        return sum(compiled.stats.cache_hits.values())

    return run


def cached():
    return [file for file in _cache.DIRECTORY.iterdir() if file.name.startswith(f"{__name__}.twice")]


def as_if_saved(data):
    return hashlib.sha256(data).digest() + data


DAMAGE = {
    "empty": lambda _: b"",
    "cut short": lambda whole: whole[:-1],
    "the hash alone": lambda whole: whole[:32],
    "garbage": lambda whole: np.random.default_rng(0).bytes(len(whole)),
    "one bit of machine code": lambda whole: whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:],
    "a block of zeros": lambda whole: whole[:512] + bytes(512) + whole[1024:],
    "nothing but zeros": lambda whole: bytes(len(whole)),
    "sound, but no pickle": lambda _: as_if_saved(b"machine code"),
    "sound, but another pickle": lambda _: as_if_saved(pickle.dumps((1, 2))),
}


class TestCache:
    def test_is_used_by_the_next_process(self, hits):
        assert [hits(), hits()] == [0, 1]
        assert len(cached()) == 1

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_a_damaged_file_is_replaced(self, hits, damage):
        hits()
        (file,) = cached()
        file.write_bytes(DAMAGE[damage](file.read_bytes()))
        assert [hits(), hits()] == [0, 1]

    def test_what_cannot_be_read_or_replaced(self, hits):
        hits()
        (file,) = cached()
        file.unlink()
        file.mkdir()
        assert [hits(), hits()] == [0, 0]
        assert list(_cache.DIRECTORY.iterdir()) == [file]

    def test_a_directory_that_vanished(self, hits):
        shutil.rmtree(_cache.DIRECTORY)
        assert [hits(), hits()] == [0, 0]

    def test_addresses_of_this_process_are_not_kept(self, hits, monkeypatch):
        saved = []
        monkeypatch.setattr(_jit, "_PICKLE", saved.append)
        cache = _jit._Cache(twice)
        cache.save_overload((), SimpleNamespace(library=SimpleNamespace(has_dynamic_globals=True)))
        assert not saved
        assert hits() == 0


@pytest.mark.usefixtures("home")
class TestCacheDirectory:
    def test_is_the_users_own(self, home):
        directory = _cache.cache_directory()
        assert directory.parent == home / ".cache" / "refnet"
        assert directory.stat().st_mode & 0o777 == directory.parent.stat().st_mode & 0o777 == 0o700
        assert _cache.cache_directory() == directory

    def test_xdg_names_the_place(self, home, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(home / "x"))
        assert _cache.cache_directory().parent == home / "x" / "refnet"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        assert _cache.cache_directory().parent == home / ".cache" / "refnet"

    def test_there_is_no_home(self, home, monkeypatch):
        def unknown(_):
            raise KeyError

        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", unknown)
        assert _cache.cache_directory() is None
        assert not list(home.iterdir())

    @pytest.mark.parametrize("base", ["/proc/nowhere", "/dev/null", "/dev/null/x"])
    def test_it_cannot_be_made(self, monkeypatch, base):
        monkeypatch.setenv("XDG_CACHE_HOME", base)
        assert _cache.cache_directory() is None

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
    @pytest.mark.parametrize("which", ["itself", "its parent"])
    def test_others_may_write_to_it(self, mode, which):
        directory = _cache.cache_directory()
        (directory if which == "itself" else directory.parent).chmod(mode)
        assert _cache.cache_directory() is None

    def test_it_is_another_users(self, monkeypatch):
        assert _cache.cache_directory()
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert _cache.cache_directory() is None

    def test_it_is_a_link(self, home):
        directory = _cache.cache_directory()
        directory.rename(home / "elsewhere")
        directory.symlink_to(home / "elsewhere")
        assert _cache.cache_directory() is None

    def test_there_is_a_file_in_its_place(self):
        directory = _cache.cache_directory()
        directory.rmdir()
        directory.touch()
        assert _cache.cache_directory() is None

    @pytest.mark.parametrize("source", [file.name for file in sorted(PACKAGE.glob("*.py"))])
    def test_an_edit_of_any_file_gives_another(self, home, monkeypatch, source):
        copy = home / "refnet_numba"
        shutil.copytree(PACKAGE, copy)
        monkeypatch.setattr(_cache, "__file__", str(copy / "_cache.py"))
        before = _cache.cache_directory()
        with (copy / source).open("a") as file:
            file.write("\n")
        assert _cache.cache_directory() != before

    def test_a_setting_gives_another(self, monkeypatch):
        before = _cache.cache_directory()
        monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
        assert _cache.cache_directory() == before
        monkeypatch.setenv("NUMBA_OPT", "1")
        assert _cache.cache_directory() != before

    def test_what_nobody_used_for_a_month_is_removed(self):
        parent = _cache.cache_directory().parent
        for name, days in {"numba-old": 31, "numba-recent": 29, "another": 31}.items():
            (parent / name).mkdir()
            (parent / name / "file").touch()
            os.utime(parent / name, (time.time() - days * 24 * 3600,) * 2)
        os.utime(_cache.cache_directory(), (0, 0))  # but this one is used now
        _cache.cache_directory()
        assert {entry.name for entry in parent.iterdir()} >= {"numba-recent", "another", _cache.cache_directory().name}
        assert not (parent / "numba-old").exists()

    def test_of_those_in_use_the_last_are_kept(self):
        mine = _cache.cache_directory()
        for age in range(1, 2 * _cache.MAX_DIRECTORIES):
            (other := mine.with_name(f"numba-{age:02}")).mkdir()
            (other / "file").touch()
            os.utime(other, (time.time() - 60 * age,) * 2)
        assert _cache.cache_directory() == mine
        assert sorted(entry.name for entry in mine.parent.iterdir()) == sorted(
            [mine.name, *(f"numba-{age:02}" for age in range(1, _cache.MAX_DIRECTORIES))]
        )

    def test_a_clock_that_was_wrong_costs_nobody_his_own(self):
        mine = _cache.cache_directory()
        for number in range(2 * _cache.MAX_DIRECTORIES):
            (other := mine.with_name(f"numba-{number:02}")).mkdir()
            os.utime(other, (time.time() + 3600,) * 2)
        assert _cache.cache_directory() == mine
        assert len(list(mine.parent.iterdir())) == _cache.MAX_DIRECTORIES

    def test_what_is_no_directory_stays(self, home):
        mine = _cache.cache_directory()
        (home / "precious").mkdir()
        (home / "precious" / "file").touch()
        (link := mine.with_name("numba-link")).symlink_to(home / "precious")
        (file := mine.with_name("numba-file")).touch()
        for path in (link, file):
            os.utime(path, (0, 0), follow_symlinks=False)
        assert _cache.cache_directory() == mine
        assert (home / "precious" / "file").exists()
        assert link.is_symlink()
        assert file.exists()

    def test_what_cannot_be_removed_stays(self, monkeypatch):
        mine = _cache.cache_directory()
        (other := mine.with_name("numba-old")).mkdir()
        (other / "file").touch()
        os.utime(other, (0, 0))

        def read_only(*_, **__):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        with monkeypatch.context() as patch:
            for name in ("rename", "unlink", "rmdir", "utime"):
                patch.setattr(os, name, read_only)
            assert _cache.cache_directory() == mine
            patch.undo()
            patch.setattr(_cache, "_prune", read_only)
            assert _cache.cache_directory() == mine
        assert other.exists()

    def test_what_another_process_left_half_removed_goes(self):
        mine = _cache.cache_directory()
        (gone := mine.with_name("removed-1-numba-old")).mkdir()
        (gone / "file").touch()
        assert _cache.cache_directory() == mine
        assert not gone.exists()


# The cache, and the whole package, in other processes ----------------------------------------------------------------

SMALL = """
import json, os, sys
import numpy as np
{first}
from refnet_numba import _cache, _jit, relu
y = relu.forward(np.array([-1, 2], np.float32))
assert y.tolist() == [0, 2], y
hits = sum(relu._forward.stats.cache_hits.values())
print(json.dumps(dict(cache=str(_cache.DIRECTORY), package=_cache.__file__, hits=hits)))
"""


def small(first="", **environment):
    return process(SMALL.format(first=first), **environment)


class TestProcesses:
    def test_cold_and_warm(self, tmp_path):
        results = [small(HOME=str(tmp_path), XDG_CACHE_HOME=None) for _ in range(2)]
        assert [result["hits"] for result in results] == [0, 1]
        assert Path(results[0]["cache"]).parent == tmp_path / ".cache" / "refnet"

    def test_two_at_once(self, tmp_path):
        both = [process(SMALL.format(first=""), wait=False, XDG_CACHE_HOME=str(tmp_path)) for _ in range(2)]
        for started in both:
            ended(started)
        third = small(XDG_CACHE_HOME=str(tmp_path))
        assert third["hits"] == 1
        assert len(list(Path(third["cache"]).iterdir())) == 1

    def test_two_that_prune_at_once(self, tmp_path):
        for number in range(200):
            (old := tmp_path / "refnet" / f"numba-{number:016}").mkdir(parents=True, mode=0o700)
            (old / "file").touch()
        (tmp_path / "refnet").chmod(0o700)
        prune = "import json; from refnet_numba import _cache; print(json.dumps(str(_cache.DIRECTORY)))"
        both = [process(prune, wait=False, XDG_CACHE_HOME=str(tmp_path)) for _ in range(2)]
        (mine,) = {ended(started) for started in both}
        left = list((tmp_path / "refnet").iterdir())
        assert len(left) == _cache.MAX_DIRECTORIES
        assert Path(mine) in left

    @pytest.mark.parametrize(
        "lost",
        [
            pytest.param(lambda file: file.unlink(), id="lost"),
            pytest.param(lambda file: file.write_bytes(file.read_bytes()[:-9]), id="cut"),
        ],
    )
    def test_kernels_are_kept_and_the_microkernel_they_call_is_not(self, tmp_path, lost):
        multiply = """if True:
            import json
            import numpy as np
            from refnet_numba import _cache, _jit, linear
            y = linear.forward(np.ones((5, 3), np.float32), np.ones((4, 3), np.float32), np.zeros(4, np.float32))
            hits = sum(linear._multiply.stats.cache_hits.values())
            print(json.dumps({"hits": hits, "cache": str(_cache.DIRECTORY), "y": float(y.mean())}))"""
        cold = process(multiply, XDG_CACHE_HOME=str(tmp_path))
        lost(Path(cold["cache"]) / "microkernel")
        warm = process(multiply, XDG_CACHE_HOME=str(tmp_path))
        assert [cold["hits"], warm["hits"], cold["y"], warm["y"]] == [0, 1, 3, 3]
        assert (Path(cold["cache"]) / "microkernel").exists()

    def test_a_full_disk(self, tmp_path):
        """No file may hold a byte; the error that this gives is another one than a full disk's, from the same call."""
        limit = """
import numba, resource
numba.set_num_threads(1)  # starts the threads, for which Numba writes a semaphore
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
"""
        result = small(limit, XDG_CACHE_HOME=str(tmp_path))
        assert not list(Path(result["cache"]).iterdir())

    def test_no_home_and_an_install_that_is_read_only(self, tmp_path):
        copy = tmp_path / "refnet_numba"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        files = sorted(copy.rglob("*"))
        for path in (*files, copy):
            path.chmod(0o555)
        # A user whom the system does not know.
        first = "import pwd; pwd.getpwuid = lambda _: {}[0]"
        environment = {"HOME": None, "XDG_CACHE_HOME": None, "PYTHONPATH": str(tmp_path)}
        try:
            result = small(first, **environment, PYTHONDONTWRITEBYTECODE="1")
        finally:
            copy.chmod(0o755)
        assert result["cache"] == "None"
        assert Path(result["package"]).parent == copy
        assert sorted(copy.rglob("*")) == files

    def test_import_compiles_nothing_and_nothing_forks(self):
        code = """
import json, sys
events = []
sys.addaudithook(lambda event, _: events.append(event) if event.startswith(("os.fork", "os.posix_spawn")) else None)
import refnet.backend
loaded = refnet.backend.load("numba")
from numba.core.dispatcher import Dispatcher
modules = [module for name, module in sys.modules.items() if name.startswith("refnet_numba")]
dispatchers = {value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)}
compiled = [str(dispatcher) for dispatcher in dispatchers if dispatcher.signatures]
import numpy as np
loaded.relu.forward(np.ones((64, 64), np.float32))
print(json.dumps([len(dispatchers), compiled, events]))
"""
        count, compiled, events = process(code)
        assert count > 10
        assert not compiled
        assert not events

    def test_bounds_are_checked_in_kernels_that_had_been_compiled_without(self, tmp_path):
        small(XDG_CACHE_HOME=str(tmp_path))
        first = """
from refnet_numba import relu
try:
    relu._forward(np.ones(3, np.float32), np.ones(2, np.float32))
except IndexError:
    pass
else:
    raise AssertionError
"""
        small(first, XDG_CACHE_HOME=str(tmp_path), NUMBA_BOUNDSCHECK="1")

    @pytest.mark.parametrize("setting", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
    def test_some_of_the_suite(self, setting):
        """The session numba-checks runs all of it."""
        few = "test_exact and (relu or maxpool or philox or conv2d)"
        options = ["-q", "-p", "no:cacheprovider", "--backend", "numba", "--max-examples", "3", "-k", few]
        command = [sys.executable, "-m", "pytest", *options, str(TESTS / "test_agreement.py")]
        done = subprocess.run(
            command, env=os.environ | {setting: "1"}, cwd=TESTS.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
