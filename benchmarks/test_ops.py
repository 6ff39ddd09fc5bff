"""Every layer of the paper's network, forward and backward, at its real sizes: column 0, one batch.

The table groups backends by layer and direction. FLOPs, bytes and rates are in ``extra_info`` (``--benchmark-json``).
``refnet bench --ops`` shows the same in one table, with PyTorch and the machine's peak.
"""

import numpy as np
import pytest

from refnet.backend.loading import load
from refnet.bench.ops import BackendLayers, amounts
from refnet.machine import environment
from refnet.nets import NetSpec
from refnet.network.walk import walk

PLAN = NetSpec("paper").plan()
LAYERS = [node.name for node in PLAN.nodes if node.column == 0 and node.layer.op != "gather"]


@pytest.fixture(scope="module")
def visits(request):
    """Return every layer once, with activations computed by the fastest backend."""
    found = walk(PLAN, load("auto", columns=2, checked=False), request.config.getoption("--batch"))
    return {visit.node.name: visit for visit in found if visit.node.name in LAYERS}


def results(visit, backend, direction):
    """Compute one direction of a layer and return its arrays on the host."""
    y, backprop = visit.run(backend)()
    if direction == "forward":
        return [backend.to_numpy(y)]
    to_inputs, to_params = backprop(backend.asarray(visit.dy))
    return [backend.to_numpy(a) for a in (*to_inputs, *to_params.values()) if a is not None]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("layer", LAYERS)
def test_layer(benchmark, two_columns, visits, layer, direction):
    visit = visits[layer]
    reference = load("numpy", columns=2, checked=False)
    for found, expected in zip(
        results(visit, two_columns, direction), results(visit, reference, direction), strict=True
    ):
        # Not each element: a sum of about zero may be rectified by one and not by the other, and its gradient too.
        assert np.linalg.norm(found - expected) <= 1e-2 * np.linalg.norm(expected)

    batch = len(visit.dy)
    benchmark.group = f"{layer} {direction}, batch {batch}"
    work = BackendLayers(two_columns).layer(visit)[direction]  # it ends when the backend has
    benchmark.pedantic(work, rounds=3, iterations=1, warmup_rounds=1)
    flops, nbytes = amounts(visit, two_columns)[direction]
    seconds = benchmark.stats["min"]
    benchmark.extra_info |= {
        "flops": flops,
        "bytes": nbytes,
        "gflops_per_s": flops / seconds / 1e9,
        "gbytes_per_s": nbytes / seconds / 1e9,
        "environment": environment.describe(),
    }
