"""The benchmark that a GPU is for, on the CPU: its contenders do the same step, and its table says who is faster."""

import pytest
import scripts

from refnet import backend as backends
from refnet.bench.timing import Timing, in_rounds
from refnet.nets import NetSpec


@pytest.fixture(scope="module")
def gpu_step():
    return scripts.load("benchmarks/gpu_step.py")


@pytest.mark.usefixtures("one_thread")
def test_every_contender_takes_a_step(gpu_step):
    backend = backends.load("numpy", columns=2)
    timings = in_rounds(gpu_step.contenders(NetSpec("digits"), 4, backend, "cpu"), 1)
    assert list(timings) == ["refnet, eager", "PyTorch, eager, nchw", "PyTorch, eager, nhwc"]


def test_the_best_of_each_are_compared(gpu_step, capsys):
    timings = {
        "refnet, eager": Timing(0.004, 0.005),
        "refnet, recorded": Timing(0.002, 0.006),
        "PyTorch, eager, nchw": Timing(0.005, 0.005),
        "PyTorch, compiled, nhwc": Timing(0.003, 0.004),
    }
    gpu_step.show(timings, 128, "tf32", "card")
    printed = capsys.readouterr().out
    assert "| refnet, recorded | 2.00 | 6.00 | 64,000 |" in printed
    assert "refnet, recorded: 1.50 times as fast as PyTorch, compiled, nhwc (goal: at least 1.0)" in printed
    gpu_step.show(timings, 128, "ieee", "card")
    assert "goal" not in capsys.readouterr().out
