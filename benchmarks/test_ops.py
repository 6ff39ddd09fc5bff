"""Every op of the paper's network, forward and backward, at the sizes it has there: column 0, one batch.

The table groups backends by layer and direction. FLOPs, bytes and rates are in ``extra_info`` (``--benchmark-json``).
"""

from math import prod

import numpy as np
import pytest

from refnet import nets
from refnet.random import Purpose

PLAN = nets.get("paper").plan(2)
STEPS = {step.layer.name: step for step in PLAN.steps if step.column == 0 and step.layer.op != "gather"}


def draw(shape, rng):
    return rng.standard_normal(shape, np.float32)


def calls(step, batch, backend):
    """Return the op's forward and backward as functions without arguments."""
    rng = np.random.default_rng(0)
    op = getattr(backend, step.layer.op)
    options = dict(step.layer.options)
    x = backend.asarray(draw((batch, *step.shapes[0]), rng))
    dy = backend.asarray(draw((batch, *step.shape), rng))
    params = [backend.asarray(draw(shape, rng)) for shape in step.params.values()]
    if step.layer.op == "dropout":
        options |= {"key": (0, Purpose.DROPOUT), "counter": (1, step.index, 0, 0)}
        return lambda: op.forward(x, **options), lambda: op.backward(dy, **options)
    if step.layer.op in {"conv2d", "linear"}:
        need_dx = {} if step.layer.op == "linear" else {"need_dx": step.inputs != ("image",)}
        w = params[0]
        return lambda: op.forward(x, *params, **options), lambda: op.backward(dy, x, w, **options, **need_dx)
    if step.layer.op == "lrn":
        y, scale = op.forward(x, **options)
        return lambda: op.forward(x, **options), lambda: op.backward(dy, x, y, scale, **options)
    if step.layer.op == "maxpool":
        _, which = op.forward(x, **options)
        return lambda: op.forward(x, **options), lambda: op.backward(dy, which, x_shape=x.shape, **options)
    y = op.forward(x, **options)
    return lambda: op.forward(x, **options), lambda: op.backward(dy, y, **options)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("layer", STEPS)
def test_op(benchmark, backend, layer, direction, request):
    batch = request.config.getoption("--batch")
    step = STEPS[layer]
    forward, backward = calls(step, batch, backend)
    work = forward if direction == "forward" else backward

    def timed():
        work()
        backend.synchronize()

    benchmark.group = f"{layer} {direction}, batch {batch}"
    benchmark.pedantic(timed, rounds=3, iterations=1, warmup_rounds=1)
    passes = 1 if direction == "forward" else 1 + (step.inputs != ("image",))
    flops = 2 * step.macs() * batch * passes
    nbytes = 4 * (batch * (prod(step.shapes[0]) + prod(step.shape)) + sum(map(prod, step.params.values()))) * passes
    seconds = benchmark.stats["min"]
    benchmark.extra_info |= {
        "flops": flops,
        "bytes": nbytes,
        "gflops_per_s": flops / seconds / 1e9,
        "gbytes_per_s": nbytes / seconds / 1e9,
    }
