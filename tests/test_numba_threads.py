"""The Numba backend called from several Python threads, from forked processes, and with odd settings of threads."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from refnet_numba import _memory, _threads

from refnet.backend import load

LAYERS = ("default", "workqueue")  # tbb is seldom installed
IMAGES = "x = np.random.default_rng(0).normal(size=(32, 8, 40, 40)).astype('f4')"  # more than a kept buffer holds

SEVERAL_THREADS = f"""
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from refnet.backend import load
b = load("numba")
{IMAGES}
def op(i):
    return b.lrn.forward(x + i % 2, n=5, k=2.0, alpha=1e-4, beta=0.75)
alone = [op(0), op(1)]
with ThreadPoolExecutor(4) as pool:
    several = list(pool.map(op, range(60)))
print(all(np.array_equal(y, right) for i, ys in enumerate(several) for y, right in zip(ys, alone[i % 2])))
"""

FORK = """
import multiprocessing, sys
import numpy as np
from refnet.backend import load
name, used = sys.argv[1:]
backend = load(name)
x = np.ones((2, 6, 5, 5), np.float32)
def op(_):
    return float(backend.lrn.forward(x, n=5, k=2.0, alpha=1.0, beta=0.75)[0].sum())
if used == "used":
    op(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    try:
        print(len(set(pool.map(op, range(4)))))
    except Exception as error:
        print(type(error).__name__, error)
"""


def python(code, *args, **environ):
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip().splitlines()[-1:]


# Several threads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS)
def test_calls_from_several_threads_give_what_one_thread_gives(layer):
    assert python(SEVERAL_THREADS, NUMBA_THREADING_LAYER=layer) == (0, "True", [])


def test_only_a_layer_that_needs_it_takes_the_lock():
    code = "from refnet_numba import _threads as t; t.choose(1); t.layer(); print(t._pool.turn is not None)"
    assert python(code, NUMBA_THREADING_LAYER="workqueue") == (0, "True", [])
    assert python(code, NUMBA_THREADING_LAYER="omp") == (0, "False", [])


@pytest.mark.skipif(_threads.most() == 1, reason="Numba has one thread here")
def test_the_number_of_threads_holds_in_every_python_thread():
    backend = load("numba", threads=1)
    counts = []

    def op():
        backend.relu.forward(np.ones(3, np.float32))
        counts.append(numba.get_num_threads())

    for threads in (1, 2, 1):
        backend.set_threads(threads)
        worker = threading.Thread(target=op)
        worker.start()
        worker.join()
    assert counts == [1, 2, 1]
    backend.set_threads(_threads.most())


def test_no_two_threads_are_given_the_same_buffer():
    """A buffer counts as free until a view of it exists, so no other thread may choose one meanwhile."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def write(number):
        wrong = 0
        for _ in range(100):
            a = _memory.empty((_memory.MIN_KEPT_BYTES,), np.uint8)
            a[::4096] = number
            wrong += int((a[::4096] != number).any())
        return wrong

    try:
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(write, range(8))) == 0
    finally:
        sys.setswitchinterval(before)
        _memory.release()


# Forked processes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", ["used", "fresh"])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_forked_pool_works_or_says_why_not(layer, used):
    """GNU OpenMP would end each worker, and the pool would start another without end."""
    code, out, _ = python(FORK, "numba", used, NUMBA_THREADING_LAYER=layer)
    gnu_was_used = layer == "default" and used == "used" and _threads.layer() == "omp" and _threads._is_gnu()
    assert code == 0
    if gnu_was_used:
        assert out.startswith("BackendUnavailableError backend numba cannot compute in a process that was forked")
        assert "spawn" in out
    else:
        assert out == "1"


GRANDCHILDREN = """
import multiprocessing, threading
import numpy as np
from refnet.backend import load
backend, context = load("numba"), multiprocessing.get_context("fork")
def op():
    try:
        return str(backend.relu.forward(np.ones(3, np.float32)).sum())
    except Exception as error:
        return type(error).__name__
def answer(queue, generations):
    if generations:
        process = context.Process(target=answer, args=(queue, generations - 1))
        process.start()
        process.join()
    else:
        queue.put(op())
def ask(generations):
    queue = context.SimpleQueue()
    answer(queue, generations)
    print(queue.get())
op()
ask(2)
thread = threading.Thread(target=ask, args=(1,))
thread.start()
thread.join()
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_forks_of_forks_and_forks_from_a_thread(layer):
    """GNU's library notices only the children of the process that started its threads, and then hangs."""
    gnu = layer == "default" and _threads.layer() == "omp" and _threads._is_gnu()
    word = "BackendUnavailableError" if gnu else "3.0"
    assert python(GRANDCHILDREN, NUMBA_THREADING_LAYER=layer)[:2] == (0, f"{word}\n{word}")


def test_numpy_ops_work_after_a_fork():
    assert python(FORK, "numpy", "used")[:2] == (0, "1")


SPAWN = """
import multiprocessing
import numpy as np
from refnet.backend import load
def spawned(_):
    return float(load("numba").relu.forward(np.ones((3, 4), np.float32)).sum())
if __name__ == "__main__":
    load("numba").relu.forward(np.ones(3, np.float32))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(spawned, range(2)))
"""


def test_a_spawned_pool_works(tmp_path):
    """The program is a file, because a spawned process imports what it is to call."""
    program = tmp_path / "pool.py"
    program.write_text(SPAWN)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "[12.0, 12.0]\n"), done.stderr


def test_a_fork_releases_the_locks_of_other_threads(monkeypatch):
    pool = _threads._Pool()
    pool.turn = lock = pool._lock
    lock.acquire()
    monkeypatch.setattr(_threads, "_is_gnu", lambda: False)
    pool.forked()
    assert pool.turn is None
    assert pool._lock is not lock
    assert not pool.lost_by_fork
    lock = _memory._lock
    _memory._renew_lock()
    assert _memory._lock is not lock


# Settings of the environment -----------------------------------------------------------------------------------------

LOADED = "from refnet.backend import load; print(load('numba').threads)"


@pytest.mark.parametrize("value", ["0", "-1", "abc", "1.5"])
def test_a_number_of_threads_that_is_none(value):
    code, out, last = python(LOADED, NUMBA_NUM_THREADS=value)
    assert (code, out) == (1, "")
    assert last[0].endswith(
        f"backend numba cannot run: NUMBA_NUM_THREADS={value} must be a whole number of at least 1; unset it"
    )


def test_an_empty_number_of_threads_is_none_set():
    assert python(LOADED, NUMBA_NUM_THREADS="")[0] == 0


def test_fewer_threads_than_asked_for():
    code, _, last = python("from refnet.backend import load; load('numba', threads=2)", NUMBA_NUM_THREADS="1")
    assert code == 1
    assert "must be at most 1, the limit of NUMBA_NUM_THREADS=1" in last[0]


@pytest.mark.parametrize("layer", ["tbb", "wrkqueue"])
def test_a_threading_layer_that_is_not_there(layer):
    code, out, last = python(LOADED, NUMBA_THREADING_LAYER=layer)
    if (code, out[:1].isdigit()) == (0, True):
        pytest.skip("tbb is installed")
    assert last[0].endswith(
        f"backend numba cannot start threads: NUMBA_THREADING_LAYER={layer} cannot be loaded; unset it"
    )


@pytest.mark.parametrize("value", ["0", "abc", "1,2", ""])
def test_odd_numbers_of_threads_for_the_libraries_below(value):
    code = LOADED + "; import numpy as np; print((np.ones((300, 300)) @ np.ones((300, 300))).sum())"
    assert python(code, OMP_NUM_THREADS=value, OPENBLAS_NUM_THREADS=value)[1].endswith("27000000.0")


def test_counts_that_the_pool_does_not_have():
    for threads in (0, _threads.most() + 1):
        with pytest.raises(ValueError, match="threads must be 1"):
            _threads.choose(threads)
