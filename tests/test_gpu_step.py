"""The GPU benchmark, run on the CPU: its contenders do the same step, and its table shows which is faster."""

from types import SimpleNamespace

import pytest
import scripts
import torch

from refnet import backend as backends
from refnet.bench.timing import Timing, in_rounds
from refnet.bench.torch_peer import Peer
from refnet.nets import NetSpec
from refnet.network.initial import initialise
from refnet.network.walk import images_of


@pytest.fixture(scope="module")
def gpu_step():
    return scripts.load("benchmarks/gpu_step.py")


@pytest.mark.usefixtures("one_thread")
def test_every_contender_takes_a_step(gpu_step):
    backend = backends.load("numpy", columns=2)
    timings = in_rounds(gpu_step.contenders(NetSpec("digits"), 4, backend, "cpu"), 1)
    assert list(timings) == ["refnet, eager", "PyTorch, eager, nchw", "PyTorch, eager, nhwc"]


def test_two_convolutions_are_one_with_groups():
    plan = NetSpec("digits").plan(fused=False)
    params, x = initialise(plan, 0), torch.from_numpy(images_of(plan, 3))
    grouped, apart = (Peer(NetSpec("digits").net(), plan, params, grouped=grouped).eval() for grouped in (True, False))
    torch.testing.assert_close(apart(x), grouped(x))


def test_the_best_of_each_are_compared(gpu_step, capsys):
    timings = {
        "refnet, eager": Timing(0.004, 0.005),
        "refnet, recorded": Timing(0.002, 0.006),
        "PyTorch, eager, nchw": Timing(0.005, 0.005),
        "PyTorch, compiled, nhwc": Timing(0.003, 0.004),
        "PyTorch in bf16, compiled and recorded, nhwc": Timing(0.001, 0.001),  # shown, but not compared
    }
    options = SimpleNamespace(net="paper", batch=128, precision="tf32")
    gpu_step.show(timings, options, "card")
    printed = capsys.readouterr().out
    assert "| refnet, recorded | 2.00 | 6.00 | 64,000 |" in printed
    assert "refnet, recorded: 1.50 times as fast as PyTorch, compiled, nhwc (goal: at least 1.0)" in printed
    assert "| PyTorch in bf16, compiled and recorded, nhwc | 1.00 |" in printed
    options.precision = "ieee"
    gpu_step.show(timings, options, "card")
    assert "goal" not in capsys.readouterr().out
