"""The cost of a checkpoint of the paper's network: the pause of training, the write in a thread, and the load."""

import os
import time
from dataclasses import asdict
from statistics import median

import numpy as np
import pytest

from refnet.config import configure
from refnet.machine import environment
from refnet.nets import NetSpec
from refnet.runs import checkpoint, generations
from refnet.runs.checkpoint import Checkpoint, expected_shapes
from refnet.runs.metrics import Metrics
from refnet.runs.saver import Saver
from refnet.runs.state import DataFacts, Facts, Rate, State

ROUNDS = 5


@pytest.fixture(scope="module")
def paper():
    data = DataFacts("numbers", "memory", "none", (256, 256, 3), "0" * 64)
    classes = tuple(f"n{number:08}" for number in range(1000))
    config = asdict(configure("paper"))
    facts = Facts(NetSpec("paper"), "numba", classes, data, config, environment.describe(), State(Rate(0.01)))
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in expected_shapes(facts).items()}
    params, velocities = (
        {name.removeprefix(kind): a for name, a in arrays.items() if name.startswith(kind)}
        for kind in ("param/", "velocity/")
    )
    return Checkpoint(facts, params, velocities, arrays["data/mean"])


@pytest.fixture(scope="module")
def written(paper, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    (run / generations.FOLDER).mkdir()
    generations.save(run, paper)
    return generations.choose(run)


def forget(path):
    """Drop a file from the page cache, so that it is read from disk."""
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def record(benchmark, nbytes):
    benchmark.extra_info |= {"MB": nbytes / 1e6, "MB/s": nbytes / 1e6 / benchmark.stats["min"]}


@pytest.fixture
def saver(paper, tmp_path):
    (tmp_path / generations.FOLDER).mkdir()
    with Metrics(tmp_path / "metrics.jsonl") as metrics:
        saver = Saver(tmp_path, metrics, minutes=30, steps=None, warn=pytest.fail)
        saver.reserve(paper.params, paper.velocities)
        yield saver
        saver.wait()


def test_pause(benchmark, paper, saver, tmp_path):
    """Time from the request to save until the next step can start."""

    def save():
        saver.save(paper.facts, paper.params, paper.velocities, paper.mean, lambda a: a)

    benchmark.pedantic(save, setup=saver.wait, rounds=ROUNDS)
    saver.wait()
    record(benchmark, generations.choose(tmp_path).stat().st_size)


def test_write(benchmark, paper, tmp_path):
    """Time to hash, write, flush and rename: the thread does this in parallel with training."""
    path = tmp_path / "x.safetensors"
    benchmark.pedantic(lambda: checkpoint.write(path, paper), rounds=ROUNDS)
    record(benchmark, path.stat().st_size)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_load(benchmark, written, where, capsys):
    """Time to load and check every number; before each round the bytes alone are read, for the ratio."""
    reading = []

    def read():
        if where == "disk":
            forget(written)
        began = time.perf_counter()
        written.read_bytes()
        reading.append(time.perf_counter() - began)
        if where == "disk":
            forget(written)

    benchmark.pedantic(lambda: checkpoint.read(written), setup=read, rounds=2 * ROUNDS)
    times = benchmark.stats["min"] / min(reading), benchmark.stats["median"] / median(reading)
    with capsys.disabled():
        print(f"\nfrom the {where}: {times[0]:.2f} (minima), {times[1]:.2f} (medians) times reading the bytes")
    benchmark.extra_info["times_reading"] = times
    record(benchmark, written.stat().st_size)
