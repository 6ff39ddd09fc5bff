"""Processes that are killed, stopped, starved and watched from outside. ``nox -s faults`` does it at full length.

What each has counted is printed at the end.
"""

import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from refnet import files
from refnet.runs import checkpoint, generations

TRAIN = [sys.executable, "-m", "refnet", "train"]
MB = 1 << 20
GROWTH = 20 * MB


@dataclass(frozen=True)
class Counts:
    """How much of each fault."""

    saves: int
    trainings: int
    soak: float  # seconds
    warm: float  # seconds at its beginning that do not count


FEW, ALL = Counts(5, 3, 12, 6), Counts(200, 50, 20 * 60, 60)


@pytest.fixture
def counts(request):
    return ALL if request.config.getoption("--faults") == "all" else FEW


@pytest.fixture
def report(record_property):
    """Say what was counted, at the end of the session."""
    return lambda line: record_property("counted", line)


@pytest.fixture(autouse=True)
def cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def start():
    """Start processes, of which none outlives the test."""
    started = []

    def begin(*argv, limits=None, **options):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REFNET_")}
        environment["OPENBLAS_NUM_THREADS"] = "1"
        # Where the tests run in a shell's background, SIGINT is ignored, and so it would be in what they start.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(
                [str(part) for part in argv],
                env=environment,
                text=True,
                preexec_fn=limits,  # noqa: PLW1509 - it only sets limits
                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
            )
        finally:
            signal.signal(signal.SIGINT, before)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def steps_done(run):
    """Count the lines of metrics."""
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def lines(run):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in found]


def assert_same(a, b):
    ours, theirs = (generations.load(run, "newest") for run in (a, b))
    for name, array in ours.tensors().items():
        assert array.tobytes() == theirs.tensors()[name].tobytes(), name
    assert replace(ours.facts.state, seconds=0) == replace(theirs.facts.state, seconds=0)
    assert lines(a) == lines(b)


# kill -9

SAVING = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from refnet.runs import checkpoint
from refnet.runs.metrics import Metrics
from refnet.runs.saver import Saver

template, run, step = checkpoint.read(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
with Metrics(run / "metrics.jsonl") as metrics, Saver(run, metrics, minutes=1, steps=1, warn=sys.exit) as saver:
    while True:
        step += 1
        best = replace(template.facts.state.best, step=step - step % 5)
        facts = replace(template.facts, state=replace(template.facts.state, step=step, best=best))
        params = {name: np.full_like(a, step) for name, a in template.params.items()}
        saver.save(facts, params, template.velocities, template.mean, lambda a: a)
        saver.wait()
        print(step, flush=True)
"""


def test_kill_9_while_saving(counts, report, start, checkpoint_of, cwd):
    """Whatever was said to be on the disk is there, whole; the file that was being written is nowhere to be seen."""
    template, run, chance = cwd / "template.safetensors", cwd / "run", random.Random(0)  # noqa: S311
    checkpoint.write(template, checkpoint_of(best=5))
    (run / "checkpoints").mkdir(parents=True)
    step = orphans = 0
    for _ in range(counts.saves):
        process = start(sys.executable, "-c", SAVING, template, run, step)
        first = process.stdout.readline()
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        assert not process.stderr.read()
        acknowledged = [int(line) for line in (first + process.stdout.read()).splitlines()]
        newest, damaged = generations.newest_intact(run)
        assert not damaged
        step = newest.facts.state.step
        assert acknowledged[-1] <= step <= acknowledged[-1] + 1
        assert all((a == step).all() for a in newest.params.values())
        paths = generations.listed(run)
        assert 2 <= len(paths) <= 5
        assert all(checkpoint.read(path) for path in paths)
        orphans += len(list((run / "checkpoints").glob(".*")))
        files.remove_orphans(run / "checkpoints")
    saved = f"{step} checkpoints saved, {orphans} writes cut off, 0 saved ones unreadable"
    report(f"kill -9 while saving: {counts.saves} kills, {saved}")


def test_kill_9_while_training(counts, report, start, cwd):
    """A run that is killed again and again ends with the bits and the figures of one that was not."""
    chance = random.Random(1)  # noqa: S311
    kills = runs = resumed = 0
    argv = ["--max-steps", "90", "--checkpoint-steps", "4", "--threads", "1"]
    names = ("numpy", "numba")
    for name in names:
        process = start(*TRAIN, *argv, "--backend", name, "--run-dir", f"never-{name}")
        assert process.wait() == 0
    while kills < counts.trainings:
        name = names[runs % 2]
        run, runs = cwd / f"run{runs}", runs + 1
        code = None
        while code != 0:
            if (run / "config.toml").exists():
                process, resumed = start(*TRAIN, "--resume", run), resumed + 1
            else:
                shutil.rmtree(run, ignore_errors=True)  # killed while it was made: nothing was there yet
                process = start(*TRAIN, *argv, "--backend", name, "--run-dir", run)
            before = steps_done(run)
            if kills < counts.trainings:
                wait_for(lambda: steps_done(run) != before or process.poll() is not None)  # noqa: B023 - used at once
                time.sleep(chance.uniform(0, 1.5))
                process.kill()
            process.communicate()
            code = process.returncode
            assert code in (0, -signal.SIGKILL)
            kills += code != 0
            for path in generations.listed(run):
                checkpoint.read(path)
        assert_same(cwd / f"never-{name}", run)
    report(f"kill -9 while training: {kills} kills, {resumed} resumptions of {runs} runs, all ended with equal bits")


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["plain", "json"])
def test_a_signal_stops_after_the_step_and_says_how_to_go_on(report, start, cwd, number, flags):
    argv = ["--threads", "1", "--epochs", "2", "--backend", "numpy", *flags]
    assert start(*TRAIN, *argv, "--run-dir", "never").wait() == 0
    process = start(*TRAIN, *argv, "--run-dir", "a run")
    wait_for(lambda: steps_done(cwd / "a run") > 10)
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    seconds = time.monotonic() - began
    assert process.returncode == 128 + number
    assert seconds < 10
    notice, last = err.splitlines()[-2:]
    assert notice == "refnet: stopping after this step to save the run; a second signal stops at once"
    said, command = last.split("; resume with: ")
    saved = generations.load(cwd / "a run", "newest").facts.state.step
    assert said == f"refnet: interrupted; step {saved} is saved"
    assert (out == "") if flags else (len(err.splitlines()) == 2)
    assert not (cwd / "a run" / "result.json").exists()
    name, *rest = shlex.split(command)
    assert name == "refnet"
    assert start(sys.executable, "-m", "refnet", *rest).wait() == 0
    assert_same(cwd / "never", cwd / "a run")
    report(f"{signal.Signals(number).name}: saved and ended after {seconds:.2f} s, resumed to equal bits")


SLOW = """
import sys, time
from refnet.cli.main import main
from refnet.training.step import TrainingStep
def slow(*args):
    print("step", flush=True)
    for _ in range(3000):
        time.sleep(0.01)
TrainingStep.take = slow
sys.exit(main(sys.argv[1:]))
"""


def test_a_second_ctrl_c_stops_at_once(start):
    process = start(sys.executable, "-c", SLOW, "train", "--run-dir", "run", "--backend", "numpy", "--json")
    assert process.stdout.readline() == "step\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 3
    assert process.returncode == 130
    assert err.splitlines()[-1] == "refnet: interrupted; stopped at once; resume with: refnet train --resume run"


def test_a_signal_that_is_ignored_stays_ignored(start, cwd):
    """As nohup does it."""
    process = start(
        *TRAIN,
        *["--max-steps", "40", "--run-dir", "run", "--backend", "numpy", "--threads", "1"],
        limits=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    wait_for(lambda: steps_done(cwd / "run") > 3)
    process.send_signal(signal.SIGHUP)
    assert process.wait() == 0


# Hardship


def test_an_output_that_is_gone_costs_nothing(start, cwd):
    """Whoever read it, or the terminal, has gone while the run is under way."""
    process = start(*TRAIN, "--epochs", "2", "--run-dir", "run", "--backend", "numpy", "--threads", "1")
    wait_for(lambda: steps_done(cwd / "run") > 3)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    assert json.loads((cwd / "run/result.json").read_text())["epochs"] == 2


def test_closed_streams(start, cwd):
    argv = [*TRAIN, "--max-steps", "3", "--run-dir", "run", "--checkpoint-steps", "1"]
    assert start("sh", "-c", f"exec {shlex.join(argv)} <&- >&- 2>&-").wait() == 0
    assert json.loads((cwd / "run/result.json").read_text())["steps"] == 3


def test_64_file_descriptors(start):
    process = start(
        *[*TRAIN, "--max-steps", "30", "--checkpoint-steps", "1", "--run-dir", "run", "--threads", "1"],
        limits=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )
    _, err = process.communicate()
    assert (process.returncode, err) == (0, "")


STARVED = """
import resource, sys
from pathlib import Path
from refnet.training import session
from refnet.cli.main import main
spare, real, shows = int(sys.argv.pop(1)), session.Lasting, []
def starve(show):
    shows.append(show)
    if len(shows) == 1:
        return real(show)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + spare, size + spare))
    return real(show)
session.Lasting = starve  # the second is made when all is read and training is about to begin
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("spare", "batch", "code"), [(4 * MB, "1297", 2), (64 * MB, "16", 0)])
def test_little_memory(start, cwd, spare, batch, code):
    """Too little ends in one line; just enough for the steps, with less than saving beside them would take, does."""
    argv = ["train", "--backend", "numpy", "--threads", "1", "--run-dir", "run", "--max-steps", "9", "--batch", batch]
    process = start(sys.executable, "-c", STARVED, spare, *argv, "--checkpoint-steps", "3")
    _, err = process.communicate()
    assert process.returncode == code, err
    if code:
        assert err.splitlines()[-1].startswith("refnet: out of memory (")
        assert "Traceback" not in err
    else:
        assert generations.load(cwd / "run", "newest").facts.state.step == 9


def test_the_first_trainer_keeps_the_directory(start, cwd):
    first = start(*TRAIN, "--epochs", "100", "--run-dir", "run", "--backend", "numpy", "--threads", "1")
    wait_for(lambda: steps_done(cwd / "run") > 3)
    second = start(*TRAIN, "--resume", "run")
    _, err = second.communicate()
    assert (second.returncode, err) == (
        2,
        "refnet: run is in use: another process is training there; wait for it, or stop it\n",
    )
    first.kill()
    first.communicate()
    third = start(*TRAIN, "--resume", "run", "--max-steps", "5", "--checkpoint-steps", "1")
    assert third.wait() == 0  # the system unlocked what the first left


# Memory


def resident(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def test_memory_stays_flat(counts, report, start, cwd):
    """A soak: a long run that saves every few seconds. What counts is the growth after it has warmed up."""
    argv = ["--epochs", "1000000", "--lr", "1e-6", "--schedule", "fixed", "--threads", "1", "--checkpoint-steps", "150"]
    process = start(*TRAIN, *argv, "--run-dir", "run", stdout=subprocess.DEVNULL)
    wait_for(lambda: steps_done(cwd / "run") > 200)
    time.sleep(counts.warm)
    first, seen, began = resident(process), [], time.monotonic()
    while time.monotonic() - began < counts.soak:
        seen.append(resident(process))
        time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    steps, growth = generations.load(cwd / "run", "newest").facts.state.step, max(seen) - first
    report(
        f"soak: {counts.soak / 60:.1f} minutes, {steps} steps, {steps // 150} checkpoints; resident "
        f"{first / MB:.1f} MB, at most {growth / MB:.2f} MB more, at the end {(seen[-1] - first) / MB:+.2f} MB"
    )
    assert growth < GROWTH


def test_the_measure_of_memory_sees_growth(start):
    program = "import sys; a = bytearray(10_000_000); print(1, flush=True); input(); a += bytes(30_000_000); print(2)"
    process = start(sys.executable, "-u", "-c", program + "; input()", stdin=subprocess.PIPE)
    assert process.stdout.readline() == "1\n"
    before = resident(process)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "2\n"
    assert resident(process) - before > GROWTH
