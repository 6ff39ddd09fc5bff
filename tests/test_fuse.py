"""Fused plans: fewer nodes, the same network."""

import numpy as np
import pytest

from refnet.errors import ShapeError
from refnet.nets import get
from refnet.network import passes
from refnet.network.fuse import fuse
from refnet.network.initial import initialise
from refnet.network.layers import RandomKey
from refnet.network.plan import conv, linear, relu, split, tanh

CONV = conv("conv", 4, 3, sigma=1, bias=0)


def ops_of(plan):
    return [node.layer.op for node in plan.nodes]


def test_relu_joins_what_it_follows():
    plan = get("paper").plan(2)
    fused = fuse(plan)
    assert "relu" not in ops_of(fused)
    assert ops_of(fused).count("conv2d_relu") == 10
    assert ops_of(fused).count("linear_relu") == 4
    assert ops_of(fused)[-1] == "linear"
    assert fused.param_shapes() == plan.param_shapes()
    assert {node.name: node.index for node in fused.nodes}.items() <= {s.name: s.index for s in plan.nodes}.items()


@pytest.mark.parametrize(
    "layers",
    [
        (CONV, tanh("tanh"), linear("fc", 2, sigma=1, bias=0)),
        (relu("first"), CONV),
        (CONV, tanh("tanh"), relu("relu")),
    ],
)
def test_nothing_else_is_joined(layers):
    plan = split(layers, 1, (3, 5, 6))
    assert fuse(plan) == plan


def test_a_sum_that_others_read_stays():
    plan = split((CONV, relu("relu"), linear("fc", 2, sigma=1, bias=0)), 1, (3, 5, 6))
    convolution, rectified, last = plan.nodes
    both = type(plan)(plan.columns, plan.input_shape, (convolution, rectified, last, *plan.nodes[1:2]))
    assert ops_of(fuse(both))[0] == "conv2d"


def test_a_split_last_layer_is_refused_fused_too(backend):
    plan = fuse(split((CONV, relu("relu"), linear("fc", 2, sigma=1, bias=0), relu("end")), 2, (3, 5, 6)))
    images = [np.zeros((1, 3, 5, 6), np.float32)] * 2
    with pytest.raises(ShapeError, match="fc, is split"):
        passes.forward(plan, initialise(plan, 0), images, backend)


@pytest.mark.parametrize("columns", [1, 2])
def test_fusing_changes_no_bit(two_columns, columns):
    """Losses, and every gradient, dropout on."""
    backend, net = two_columns, get("digits")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 17, (5, *net.input_shape)).astype(np.float32)
    labels = backend.asarray(rng.integers(0, net.outputs, 5))
    found = []
    for plan in (net.plan(columns), fuse(net.plan(columns))):
        params = passes.place_params(plan, initialise(plan, 3), backend)
        tape = passes.forward(plan, params, passes.place(plan, images, backend), backend, random_key=RandomKey(0, 1))
        loss, p = backend.softmax_xent.forward(tape.output, labels)
        gradients = passes.backward(tape, backend.softmax_xent.backward(p, labels))
        found.append({"loss": loss, **gradients})
    plain, fused = ({name: backend.to_numpy(a) for name, a in each.items()} for each in found)
    assert plain.keys() == fused.keys()
    for name in plain:
        np.testing.assert_array_equal(plain[name], fused[name], err_msg=name)
