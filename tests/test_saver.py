"""Saving in a second thread: the right state is saved, failures are survived, and the order of writes is safe."""

import errno
import os
import resource
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refnet.errors import CheckpointError, NumericError
from refnet.runs import checkpoint, generations
from refnet.runs.metrics import Metrics
from refnet.runs.saver import Saver


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    return tmp_path / "run"


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def saver(run, warnings):
    with Metrics(run / "metrics.jsonl") as metrics, Saver(run, metrics, minutes=30, steps=5, warn=warnings.append) as s:
        yield s


@pytest.fixture
def save(saver, checkpoint_of):
    """Save a step, with other numbers each."""

    def go(step, best=None, *, must=False):
        whole = checkpoint_of(step, best, seed=step)
        saver.save(whole.facts, whole.params, whole.velocities, whole.mean, lambda a: a, must=must)
        return whole

    return go


def steps(run):
    return [checkpoint.read(path).facts.state.step for path in generations.listed(run)]


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


# What is saved


def test_it_is_what_the_arrays_were_when_it_was_asked_for(saver, run, checkpoint_of):
    whole = checkpoint_of(7)
    before = {name: a.copy() for name, a in whole.params.items()}
    saver.save(whole.facts, whole.params, whole.velocities, whole.mean, lambda a: a)
    for a in (*whole.params.values(), *whole.velocities.values()):
        np.add(a, 1, out=a)  # the next step, while the thread writes
    saver.wait()
    found = generations.load(run)
    assert all(np.array_equal(found.params[name], a) for name, a in before.items())
    assert saver.saved == whole.facts.state


def test_the_copy_takes_the_same_memory_each_time(saver, save):
    save(1)
    saver.wait()
    held = {name: a.ctypes.data for name, a in saver._buffers.items()}
    save(2)
    saver.wait()
    assert {name: a.ctypes.data for name, a in saver._buffers.items()} == held


def test_the_memory_is_taken_before_the_first_save(saver, save, checkpoint_of):
    whole = checkpoint_of(1)
    saver.reserve(whole.params, whole.velocities)
    held = {name: a.ctypes.data for name, a in saver._buffers.items()}
    save(1)
    saver.wait()
    assert {name: a.ctypes.data for name, a in saver._buffers.items()} == held


def test_without_so_much_memory_none_is_taken(saver, checkpoint_of, monkeypatch):
    def none(*_):
        raise MemoryError

    whole = checkpoint_of(1)
    monkeypatch.setattr("refnet.runs.saver.np.full", none)
    saver.reserve(whole.params, whole.velocities)
    assert not saver._buffers


def test_it_writes_in_a_thread_and_one_at_a_time(saver, save, run, monkeypatch):
    written, writing, gate = [], [], threading.Event()
    real = generations.save

    def gated(*args):
        writing.append(1)
        assert len(writing) == 1
        assert gate.wait(60)
        written.append(threading.current_thread() is threading.main_thread())
        real(*args)
        writing.pop()

    monkeypatch.setattr(generations, "save", gated)
    save(1)  # it returns although nothing can be written yet
    assert saver.saved is None
    gate.set()
    save(2)
    save(3, must=True)
    assert steps(run) == [3, 2]
    assert written == [False, False, True]


def test_when_it_is_due(saver, monkeypatch):
    assert [step for step in range(1, 12) if saver.due(step)] == [5, 10]
    now = time.monotonic()
    monkeypatch.setattr("refnet.runs.saver.time.monotonic", lambda: now + 29 * 60)
    assert not saver.due(1)
    monkeypatch.setattr("refnet.runs.saver.time.monotonic", lambda: now + 31 * 60)
    assert saver.due(1)


# Which are kept


def test_two_are_kept_and_the_best_of_each(saver, save, run):
    for step, best in ((1, 1), (2, 1), (3, 1), (4, 4), (5, 4), (6, 4)):
        save(step, best)
        saver.wait()
        kept = steps(run)
        assert kept[:2] == [each for each in (step, step - 1) if each]
        assert best in kept
    assert steps(run) == [6, 5, 4]
    assert checkpoint.read(generations.choose(run)).facts.state.step == 4
    assert checkpoint.read(generations.choose(run, "newest")).facts.state.step == 6


def test_the_best_of_the_one_before_is_kept_in_case_the_newest_is_damaged(saver, save, run):
    for step, best in ((1, 1), (2, 1), (3, 3)):
        save(step, best)
        saver.wait()
    assert steps(run) == [3, 2, 1]


def test_nothing_is_removed_before_the_new_one_is_on_the_disk(saver, save, monkeypatch):
    """Every call that makes something last, or go, in its order."""
    for step in (1, 2):
        save(step)
        saver.wait()
    events, fsync, rename, unlink = [], os.fsync, Path.replace, Path.unlink
    monkeypatch.setattr(os, "fsync", lambda file: (events.append("flushed"), fsync(file)))
    monkeypatch.setattr(Path, "replace", lambda old, new: (events.append(f"named {new.name}"), rename(old, new)))
    monkeypatch.setattr(Path, "unlink", lambda path, **how: (events.append(f"gone {path.name}"), unlink(path, **how)))
    save(3, must=True)
    events = [event for event in events if ".tmp" not in event]
    one, three = "step-000000001.safetensors", "step-000000003.safetensors"
    #                 metrics    file       its name          folder     the oldest      folder
    assert events == ["flushed", "flushed", f"named {three}", "flushed", f"gone {one}", "flushed"]


# Failures


def test_a_failure_is_a_warning_and_costs_nothing(saver, save, run, warnings, monkeypatch):
    save(1)
    saver.wait()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        save(2)
        saver.wait()
    assert warnings == [
        "warning: " + str(run) + ": the metrics cannot be written: No space left on device; training goes on, and "
        "earlier checkpoints are unchanged"
    ]
    assert steps(run) == [1]
    save(3)
    saver.wait()
    assert steps(run) == [3, 1]
    assert saver.saved.step == 3


def test_a_real_limit(saver, save, run, warnings):
    save(1)
    saver.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        save(2)
        saver.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "step-000000002.safetensors cannot be written: File too large" in warnings[0]
    assert steps(run) == [1]


def test_the_third_failure_in_a_row_ends_the_run(saver, save, warnings, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.files, "flush_folder", full)
        for step in (1, 2):
            save(step)
            saver.wait()
    save(3)
    saver.wait()  # one that succeeds: the count starts again
    monkeypatch.setattr(checkpoint.files, "flush_folder", full)
    for step in (4, 5, 6):
        save(step)
        if step < 6:
            saver.wait()
    assert len(warnings) == 4
    with pytest.raises(CheckpointError, match=r"No space left on device.*\(3 times in a row\)"):
        saver.wait()


def test_one_that_must_succeed_is_an_error_at_once(save, warnings, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save(1, must=True)
    assert not warnings


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_saved(saver, save, run, checkpoint_of, value):
    save(1)
    saver.wait()
    whole = checkpoint_of(2)
    whole.velocities["conv3@1.w"][3, 2, 1, 0] = value
    saver.save(whole.facts, whole.params, whole.velocities, whole.mean, lambda a: a)
    with pytest.raises(NumericError, match=r"velocity/conv3@1\.w is not finite after step 2"):
        saver.wait()
    assert steps(run) == [1]


def test_without_memory_for_a_copy_the_step_waits(saver, save, run, monkeypatch):
    def none(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Saver, "_copy", none)
    whole = save(1)
    found = generations.load(run)
    assert all(np.array_equal(found.params[name], a) for name, a in whole.params.items())
    assert saver.saved == whole.facts.state


def test_without_memory_for_a_thread_the_step_waits(saver, save, run, monkeypatch):
    def none(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        save(1)
    assert steps(run) == [1]
    assert saver.saved.step == 1


def test_without_memory_to_save_in_it_is_a_failure(saver, save, warnings, monkeypatch):
    def none(*_, **__):
        raise MemoryError

    monkeypatch.setattr(generations, "save", none)
    save(1)
    saver.wait()
    assert "there is too little memory to save; training goes on" in warnings[0]


def test_a_mistake_of_ours_is_not_hidden(saver, save, monkeypatch):
    def wrong(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(generations, "save", wrong)
    save(1)
    with pytest.raises(ZeroDivisionError):
        saver.wait()


def test_poll_takes_note_without_waiting(saver, save, monkeypatch):
    gate = threading.Event()
    real = generations.save
    monkeypatch.setattr(generations, "save", lambda *args: (gate.wait(10), real(*args)))
    save(1)
    saver.poll()
    assert saver.saved is None
    gate.set()
    while saver.saved is None:
        saver.poll()
    assert saver.saved.step == 1


# Damage


def test_the_newest_intact_one(run, checkpoint_of):
    for step in (1, 2, 3):
        checkpoint.write(generations.path_of(run, step), checkpoint_of(step))
    assert generations.newest_intact(run)[0].facts.state.step == 3
    for step in (3, 2):
        path = generations.path_of(run, step)
        path.write_bytes(path.read_bytes()[:1000])
    found, damaged = generations.newest_intact(run)
    assert found.facts.state.step == 1
    assert [path.name for path in damaged] == ["step-000000003.safetensors", "step-000000002.safetensors"]
    generations.set_aside(generations.path_of(run, 3))
    assert [path.name for path in generations.listed(run)] == [
        "step-000000002.safetensors",
        "step-000000001.safetensors",
    ]


def test_other_files_are_no_checkpoints(run, checkpoint_of):
    checkpoint.write(generations.path_of(run, 3), checkpoint_of(3))
    for name in ("step-000000004.safetensors.damaged", ".step-000000005.safetensors.1.tmp", "step-x.safetensors", "a"):
        (run / "checkpoints" / name).touch()
    assert [path.name for path in generations.listed(run)] == ["step-000000003.safetensors"]


def test_no_checkpoint(run):
    assert generations.newest_intact(run) == (None, {})
    with pytest.raises(CheckpointError, match="run has no checkpoint; give the folder of a run that has saved one"):
        generations.load(run)


def test_a_step_of_many_digits(run, checkpoint_of):
    for step in (999_999_999, 1_000_000_000):
        whole = checkpoint_of(1)
        facts = replace(whole.facts, state=replace(whole.facts.state, step=step))
        checkpoint.write(generations.path_of(run, step), replace(whole, facts=facts))
    assert generations.load(run).facts.state.step == 1_000_000_000
