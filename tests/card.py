"""Tests of the Triton backend that need a GPU, run by benchmarks/gpu_machine.py; on two GPUs if there are two."""

import numpy as np
import pytest
import torch

from refnet import backend as backends
from refnet import nets
from refnet.network import passes
from refnet.network.fuse import fuse
from refnet.network.plan import crossings
from refnet.training.step import StepSettings, begin

COUNT = torch.cuda.device_count()
PLACES = [("cuda:0",), ("cuda:0", "cuda:1")][: max(1, COUNT)]  # without any, loading the backend says what is missing
SEED = 11


def trained(devices, *, graph=False, steps=20, batch=16):
    """Train digits with dropout and a rate that falls, the last batch being short; return losses and parameters."""
    backend = backends.load("triton", columns=2, devices=devices, precision="ieee")
    plan = fuse(nets.get("digits").plan(2))
    training = begin(plan, backend, StepSettings(seed=SEED, graph=graph))
    rng = np.random.default_rng(1)
    losses = []
    for step in range(1, steps + 1):
        count = batch if step < steps else batch // 2
        images, labels = rng.integers(-8, 9, (count, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, count)
        losses.append(training.take(passes.place(plan, images, backend), labels, 0.02 / step, step))
    return losses, {name: backend.to_numpy(a).tobytes() for name, a in training.params.items()}


@pytest.fixture(scope="module")
def eager_on_one():
    return trained(PLACES[0])


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "recorded"])
@pytest.mark.parametrize("devices", PLACES, ids=",".join)
def test_training_has_the_same_bits(eager_on_one, devices, graph):
    """Again, recorded as graphs, and on two devices."""
    assert trained(devices, graph=graph) == eager_on_one


@pytest.mark.parametrize("exchange", ["fp32", "fp16"])
@pytest.mark.parametrize("devices", PLACES, ids=",".join)
def test_what_crosses(devices, exchange):
    backend = backends.load("triton", columns=2, devices=devices, exchange=exchange)
    plan = nets.get("digits").plan(2)
    training = begin(plan, backend)
    images = passes.place(plan, np.ones((3, 1, 8, 8), np.float32), backend)
    tape = passes.forward(plan, training.params, images, backend, record=False)
    assert tape.crossings == crossings(plan, 3, itemsize=backend.exchange_itemsize)
    assert np.isfinite(backend.to_numpy(tape.output)).all()


def test_memory_that_runs_out_is_an_error_in_one_line(capsys, monkeypatch, tmp_path):
    from refnet.cli.main import main

    monkeypatch.chdir(tmp_path)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda shape, **rest: empty((1 << 40, *shape), **rest))
    assert main(["train", "--backend", "triton", "--devices", "cuda:0"]) == 6
    error = capsys.readouterr().err
    assert "out of memory" in error
    assert len(error.splitlines()) == 1
