"""A whole training step of the paper's network in two columns, and the same step in PyTorch, in the same run.

``refnet bench --step`` alternates the same contenders, each in its own process, and also measures forward and memory.
"""

import pytest

from refnet.bench.contender import LAYOUTS, PEERS, Spec, contender
from refnet.machine import environment


def time_training(benchmark, spec):
    step = contender(spec).train
    benchmark.group = f"training step of {spec.net}, batch {spec.batch}"
    benchmark.pedantic(step, rounds=3, iterations=1, warmup_rounds=1)
    benchmark.extra_info |= {
        "images_per_second": spec.batch / benchmark.stats["min"],
        "environment": environment.describe(),
        "threads": spec.threads,
    }


@pytest.fixture
def spec(request):
    return Spec("numpy", "paper", 2, request.config.getoption("--batch"), environment.physical_cores())


def test_step_refnet(benchmark, two_columns, spec):
    time_training(benchmark, Spec(two_columns.name, spec.net, spec.columns, spec.batch, spec.threads))


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_step_torch(benchmark, peer, layout, spec):
    time_training(benchmark, Spec(peer, spec.net, spec.columns, spec.batch, spec.threads, layout))
