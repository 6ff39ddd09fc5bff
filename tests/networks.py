"""Networks, passes and comparisons that tests of networks share.

How close two float64 computations of one network must be: 1e-12 * sqrt(K) of the largest element of the array they
are compared in, K the longest sum of the network. A sum of K products rounds by about 1.1e-16 * sqrt(K) of the sum of
their absolute values, and a network of some twenty layers adds up as many such errors; the rest is room. The largest
element is at most that sum of absolute values, so the yardstick is the shorter one. Errors of a single tiny element
relative to itself are no measure: it may be the difference of two large sums.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from math import prod, sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from refnet import backend as backends
from refnet import nets, ops
from refnet.backend.reference import NumpyBackend
from refnet.backend.wrapped import Wrapped, results_of
from refnet.nets import Net
from refnet.network import passes
from refnet.network.initial import initialise
from refnet.network.layers import RandomKey
from refnet.network.plan import avgpool, conv, linear, maxpool, relu, rnorm

NAMES = ("numpy", "loopback")
SEED, STEP = 11, 3

each_backend = pytest.mark.parametrize("name", NAMES)
ZERO = {"sigma": 0.0, "bias": 0.0}  # where parameters are given, not drawn
LABELS = np.array([3, 0, 7, 3, 9])


@dataclass
class Outcome:
    """A forward and a backward pass, on the host."""

    logits: Any
    loss: Any
    gradients: dict[str, Any]
    crossings: Any = None
    recorded: int = 0


def forward_and_backward(plan, host, images, labels, backend, draw=None):
    params = passes.place_params(plan, host, backend)
    tape = passes.forward(plan, params, passes.place(plan, images, backend), backend, random_key=draw)
    recorded = len(tape.nodes)
    truth = backend.asarray(labels)
    loss, p = backend.softmax_xent.forward(tape.output, truth)
    gradients = passes.backward(tape, backend.softmax_xent.backward(p, truth))
    host_of = backend.to_numpy
    return Outcome(
        host_of(tape.output), host_of(loss), {k: host_of(g) for k, g in gradients.items()}, tape.crossings, recorded
    )


def in_float64(params):
    return {name: np.float64(a) for name, a in params.items()}


def pixels(shape, batch, scale, seed=0):
    return np.random.default_rng(seed).normal(0, scale, (batch, *shape))


def longest_sum(plan, batch):
    """Most terms of any sum of a forward or backward pass."""
    longest = batch
    for node in plan.nodes:
        if node.params:
            filters, *reads = node.params["w"]
            readers = plan.columns  # whose data gradients meet
            longest = max(longest, prod(reads), batch * prod(node.shape[1:]), readers * filters * prod(reads[1:]))
    return longest


def assert_close(found, expected, tolerance, what=""):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    scale = np.abs(expected).max()
    assert np.isfinite(scale), what
    assert scale > 0, what
    worst = np.abs(found - expected).max() / scale
    assert worst <= tolerance, f"{what}: off by {worst:.3g} of the largest element, allowed {tolerance:.3g}"


def assert_same(found, expected, tolerance):
    """Compare logits, loss and every gradient; they must carry a signal for that to mean anything."""
    assert set(found.gradients) == set(expected.gradients)
    assert_close(found.logits, expected.logits, tolerance, "logits")
    assert_close(found.loss, expected.loss, tolerance, "loss")
    for name, gradient in expected.gradients.items():
        assert (gradient != 0).mean() > 0.1, f"{name} hardly has a gradient"
        assert_close(found.gradients[name], gradient, tolerance, name)


@dataclass
class Example:
    net: Any
    plan: Any
    host: dict[str, Any]
    images: Any
    labels: Any

    @property
    def tolerance(self):
        return 1e-12 * sqrt(longest_sum(self.plan, len(self.images)))


def digits_example():
    """The digits net, with pixels large enough for LRN to bite and biases that are not zero."""
    net = nets.get("digits")
    plan = net.plan(2)
    numbers = np.random.default_rng(5)
    host = in_float64(initialise(plan, SEED))
    for name, a in host.items():
        if name.endswith(".b"):
            host[name] = a + numbers.normal(0, 0.1, a.shape)
    return Example(net, plan, host, pixels(net.input_shape, len(LABELS), 16.0), LABELS)


def pooled_by_mean():
    """A network with the layers of cuda-convnet's networks for CIFAR-10: average pooling, normalisation in each map."""
    start = {"sigma": 0.2, "bias": 0.1}
    layers = (
        conv("conv1", 8, 5, pad=2, **start),
        maxpool("pool1"),
        relu("relu1"),
        rnorm("rnorm1", alpha=0.1),
        conv("conv2", 6, 3, pad=1, reads="all", **start),
        relu("relu2"),
        avgpool("pool2"),
        rnorm("rnorm2", n=5, alpha=0.2),
        conv("conv3", 8, 3, pad=1, **start),
        relu("relu3"),
        avgpool("pool3"),
        linear("fc4", 10, columns="one", **start),
    )
    return Net("pooled by mean", (3, 20, 16), 20, layers)


def sgd(params, velocities, gradients, backend):
    for name, gradient in gradients.items():
        decay = 5e-4 if name.endswith(".w") else 0.0
        backend.sgd.step_(params[name], velocities[name], gradient, lr=0.02, momentum=0.9, weight_decay=decay)


def train(plan, host, images, labels, backend, *, count, seed=SEED, only=None, per_step=None):
    """Take SGD steps with dropout on; returns losses and the parameters. `only` holds gradients to a mask."""
    params = passes.place_params(plan, host, backend)
    velocities = passes.place_params(plan, {name: np.zeros_like(a) for name, a in host.items()}, backend)
    truth = backend.asarray(labels)
    losses = []
    for step in range(count):
        placed = passes.place(plan, images, backend)
        tape = passes.forward(plan, params, placed, backend, random_key=RandomKey(seed, step))
        loss, p = backend.softmax_xent.forward(tape.output, truth)
        gradients = passes.backward(tape, backend.softmax_xent.backward(p, truth))
        if only:
            gradients = {name: gradient * only[name] for name, gradient in gradients.items()}
        losses.append(backend.to_numpy(loss).copy())
        if per_step:
            per_step(backend.to_numpy(tape.output), {k: backend.to_numpy(g) for k, g in gradients.items()})
        sgd(params, velocities, gradients, backend)
    return np.array(losses), {name: backend.to_numpy(a) for name, a in params.items()}


def whole_numbers(shape, seed, high=3):
    return np.random.default_rng(seed).integers(-high, high + 1, shape).astype(np.float64)


def some_params(plan, seed=0):
    return {name: whole_numbers(shape, seed + i) for i, (name, shape) in enumerate(plan.param_shapes().items())}


def dot(a, b):
    return float((np.asarray(a) * np.asarray(b)).sum())


def forward_of(plan, params, x, name, draw=None):
    loaded = backends.load(name, columns=plan.columns)
    placed = passes.place_params(plan, params, loaded)
    return loaded.to_numpy(passes.forward(plan, placed, passes.place(plan, x, loaded), loaded, random_key=draw).output)


def backward_of(plan, params, x, dy, name, draw=None):
    loaded = backends.load(name, columns=plan.columns)
    placed = passes.place_params(plan, params, loaded)
    tape = passes.forward(plan, placed, passes.place(plan, x, loaded), loaded, random_key=draw)
    # Nothing says which column the last node lives in but the node.
    gradients = passes.backward(tape, loaded.asarray(dy, plan.nodes[-1].column))
    return {key: loaded.to_numpy(gradient) for key, gradient in gradients.items()}


@dataclass
class Call:
    """One call of an op, with weak references to what it returned."""

    what: str
    results: list[Callable[[], Any]]


class Watch(Wrapped):
    """A backend that notes every call of an op or of concat, and lets one look before each."""

    def __init__(self, inner, before=lambda _: None):
        super().__init__(inner)
        self._before, self.calls = before, []

    def around(self, op, name, function, arguments):
        return self._watched(f"{op}.{name}", lambda: function(**arguments))

    def concat(self, parts):
        return self._watched("concat", lambda: self.inner.concat(parts))

    def _watched(self, what, call):
        self._before(what)
        result = call()
        self.calls.append(Call(what, [weakref.ref(array) for array in results_of(result) if array is not None]))
        return result

    def alive(self):
        return [call.what for call in self.calls for result in call.results if result() is not None]


def turned(a):
    return np.ascontiguousarray(a[:, ::-1])


def convolves_backwards(op):
    """Take a convolution's sum over channels from the last to the first."""
    return SimpleNamespace(forward=lambda x, w, b, **o: op.forward(turned(x), turned(w), b, **o), backward=op.backward)


def multiplies_backwards(op):
    """Take a fully connected layer's sum over features from the last to the first."""
    return SimpleNamespace(
        forward=lambda x, w, b: op.forward(turned(x.reshape(len(x), -1)), turned(w), b), backward=op.backward
    )


class BackwardsOrder(NumpyBackend):
    """NumPy, with every sum over channels or features taken from the last to the first."""

    conv2d, linear = convolves_backwards(ops.conv2d), multiplies_backwards(ops.linear)


def assert_losses_agree(losses, reference, other_order):
    """|dloss| <= 4 times the divergence of two NumPy runs that only differ in the order of their sums.

    The divergence is the largest up to each step, since it need not grow at every one.
    """
    divergence = np.maximum.accumulate(np.abs(np.float64(other_order) - reference))
    off = np.abs(np.float64(losses) - reference)
    wrong = np.flatnonzero(~(off <= 4 * divergence))  # NaN is wrong, too
    assert not wrong.size, f"step {wrong[0]}: off by {off[wrong[0]]:.3g}, allowed {4 * divergence[wrong[0]]:.3g}"
