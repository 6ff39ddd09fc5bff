"""The two-column network: against PyTorch, against itself in one column, against the laws, and at its door.

How close two float64 computations of one network must be: 1e-12 * sqrt(K) of the largest element of the array they
are compared in, K the longest sum of the network. A sum of K products rounds by about 1.1e-16 * sqrt(K) of the sum of
their absolute values, and a network of some twenty layers adds up as many such errors; the rest is room. The largest
element is at most that sum of absolute values, so the yardstick is the shorter one. Errors of a single tiny element
relative to itself are no measure: it may be the difference of two large sums.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod, sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits
from torch.nn import functional

from refnet import backend as backends
from refnet import nets, network, ops
from refnet.errors import ShapeError
from refnet.initial import initialise
from refnet.layers import LAYERS, Draw, Run
from refnet.ops import philox
from refnet.plan import conv, crossings, dropout, linear, maxpool, relu, split
from refnet.random import Purpose
from refnet.reference import NumpyBackend

NAMES = ("numpy", "loopback")
SEED, STEP = 11, 3

each_backend = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Most arrays here are small: NumPy's and PyTorch's threads would spend the time waiting for each other."""
    with threadpool_limits(1):
        yield


@dataclass
class Outcome:
    """A forward and a backward pass, on the host."""

    logits: Any
    loss: Any
    gradients: dict[str, Any]
    crossings: Any = None
    recorded: int = 0


def passes(plan, host, images, labels, backend, draw=None):
    params = network.place_params(plan, host, backend)
    tape = network.forward(plan, params, network.place(plan, images, backend), backend, draw=draw)
    recorded = len(tape.steps)
    truth = backend.asarray(labels)
    loss, p = backend.softmax_xent.forward(tape.output, truth)
    gradients = network.backward(tape, backend.softmax_xent.backward(p, truth))
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
    for step in plan.steps:
        if step.params:
            filters, *reads = step.params["w"]
            readers = plan.columns  # whose data gradients meet
            longest = max(longest, prod(reads), batch * prod(step.shape[1:]), readers * filters * prod(reads[1:]))
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


# PyTorch -------------------------------------------------------------------------------------------------------------


class Torch:
    """The words in which the networks are written in PyTorch: both columns in one tensor, column 1 after column 0.

    `cut` says whether LRN stops between the columns, `whole` names a convolution that reads all although it should
    read its own: the tests of the comparison itself need them wrong.
    """

    def __init__(self, tensors, masks, *, cut=True, whole=None):
        self.tensors, self.masks, self.cut, self.whole = tensors, masks, cut, whole

    def conv(self, x, name, *, own=False, **options):
        groups = 2 if own and name != self.whole else 1
        return functional.relu(functional.conv2d(x, *self.tensors[name], groups=groups, **options))

    def norm(self, x, alpha):
        """PyTorch divides alpha by the size of the window."""
        parts = x.chunk(2 if self.cut else 1, dim=1)
        return torch.cat([functional.local_response_norm(part, 5, 5 * alpha, 0.75, 2.0) for part in parts], dim=1)

    def pool(self, x):
        return functional.max_pool2d(x, 3, 2, ceil_mode=True)

    def full(self, x, name):
        return functional.linear(x.flatten(1), *self.tensors[name])

    def drop(self, x, name):
        return x * self.masks[name]

    def paper(self, x):
        """Write the network of the paper's figure 2. 224 pixels with 3 zeros at the bottom and right are 227."""
        x = self.conv(functional.pad(x, (0, 3, 0, 3)), "conv1", stride=4)
        x = self.pool(self.norm(x, 1e-4))
        x = self.conv(x, "conv2", own=True, padding=2)
        x = self.pool(self.norm(x, 1e-4))
        x = self.conv(x, "conv3", padding=1)
        x = self.conv(x, "conv4", own=True, padding=1)
        x = self.pool(self.conv(x, "conv5", own=True, padding=1))
        x = self.drop(functional.relu(self.full(x, "fc6")), "drop6")
        x = self.drop(functional.relu(self.full(x, "fc7")), "drop7")
        return self.full(x, "fc8")

    def digits(self, x):
        x = self.pool(self.norm(self.conv(x, "conv1", padding=1), 0.01))
        x = self.norm(self.conv(x, "conv2", own=True, padding=1), 0.01)
        x = self.conv(x, "conv3", padding=1)
        x = self.pool(self.conv(x, "conv4", own=True, padding=1))
        x = self.drop(functional.relu(self.full(x, "fc5")), "drop5")
        return self.full(x, "fc6")


def columns_of(host, layer, letter):
    return [name for column in range(4) if (name := f"{layer}@{column}.{letter}") in host]


def joined(host):
    """Each layer's w and b as two tensors over all columns: filters, and thereby grouped filters, follow each other."""
    layers = dict.fromkeys(name.partition("@")[0] for name in host)
    return {
        layer: [
            torch.from_numpy(np.concatenate([host[name] for name in columns_of(host, layer, letter)])).requires_grad_()
            for letter in "wb"
        ]
        for layer in layers
    }


def apart(tensors, host):
    """Take the gradients apart again, a slice for each column."""
    gradients = {}
    for layer, pair in tensors.items():
        for letter, tensor in zip("wb", pair, strict=True):
            names = columns_of(host, layer, letter)
            rows = np.cumsum([len(host[name]) for name in names])[:-1]
            gradients |= zip(names, np.split(tensor.grad.numpy(), rows), strict=True)
    return gradients


def masks_over_all(net, batch, draw):
    """Dropout's masks as one column would draw them: 1 where a unit is kept; .5 everywhere in a test pass."""
    masks, width = {}, 0
    for index, layer in enumerate(net.layers):
        width = layer.width or width
        if layer.op != "dropout":
            continue
        key, counter = (draw.seed, Purpose.DROPOUT) if draw else None, (draw.step, index, 0, 0) if draw else None
        words = philox.bits(batch, width, key=key, counter=counter) if draw else None
        keep = words >= 2**31 if draw else np.full((batch, width), 0.5)
        masks[layer.name] = torch.from_numpy(np.float64(keep))
    return masks


def in_torch(net, host, images, labels, draw, **wrong):
    tensors = joined(host)
    words = Torch(tensors, masks_over_all(net, len(images), draw), **wrong)
    logits = getattr(words, net.name)(torch.from_numpy(images))
    loss = functional.cross_entropy(logits, torch.from_numpy(labels))
    loss.backward()
    return Outcome(logits.detach().numpy(), loss.item(), apart(tensors, host))


LABELS = np.array([3, 0, 7, 3, 9])


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


@pytest.fixture
def example():
    """The digits net, with pixels large enough for LRN to bite and biases that are not zero."""
    net = nets.get("digits")
    plan = net.plan(2)
    numbers = np.random.default_rng(5)
    host = in_float64(initialise(plan, SEED))
    for name, a in host.items():
        if name.endswith(".b"):
            host[name] = a + numbers.normal(0, 0.1, a.shape)
    return Example(net, plan, host, pixels(net.input_shape, len(LABELS), 16.0), LABELS)


def swapped(layer):
    """Give each column the other's filters."""
    pairs = [(f"{layer}@{c}.{letter}", f"{layer}@{1 - c}.{letter}") for c in (0, 1) for letter in "wb"]
    return lambda host: host | {a: host[b] for a, b in pairs}


def turned_about(layer):
    """Read column 1 before column 0."""
    names = [f"{layer}@{c}.w" for c in (0, 1)]
    return lambda host: host | {name: np.roll(host[name], host[name].shape[1] // 2, axis=1) for name in names}


def widened(layer):
    """Read the other column too, through the same filters."""
    names = [f"{layer}@{c}.w" for c in (0, 1)]
    return lambda host: host | {name: np.tile(host[name], (1, 2, 1, 1)) for name in names}


def nudged(name):
    """Change one column's numbers by a millionth."""
    return lambda host: host | {name: host[name] * (1 + 1e-6)}


WRONG = {
    "LRN across the cut": {"cut": False},
    "conv2 reads all": {"host": widened("conv2"), "whole": "conv2"},
    "the columns' conv1 swapped": {"host": swapped("conv1")},
    "the columns' fc5 swapped": {"host": swapped("fc5")},
    "conv3 reads column 1 before column 0": {"host": turned_about("conv3")},
    "weights off by a millionth": {"host": nudged("conv2@1.w")},
    "biases off by a millionth": {"host": nudged("fc5@0.b")},
    "another step's masks": {"draw": Draw(SEED, STEP + 1)},
    "another seed's masks": {"draw": Draw(SEED + 1, STEP)},
    "a test pass": {"draw": None},
    "another label": {"labels": np.array([8, *LABELS[1:]])},
}


class TestAgainstTorch:
    @each_backend
    @pytest.mark.parametrize("draw", [Draw(SEED, STEP), None], ids=["training", "test"])
    def test_digits(self, example, name, draw):
        loaded = backends.load(name, columns=2)
        found = passes(example.plan, example.host, example.images, example.labels, loaded, draw)
        assert_same(found, in_torch(example.net, example.host, example.images, example.labels, draw), example.tolerance)

    def test_the_example_makes_every_part_bite(self, example):
        """LRN divides by more than a rounding, dropout silences about half, and the classes differ."""
        loaded = backends.load("numpy", columns=2)
        watch = Watch(loaded)
        images = network.place(example.plan, example.images, loaded)
        tape = network.forward(example.plan, example.host, images, watch, draw=Draw(SEED, STEP))
        scales = [call.results[1]() for call in watch.calls if call.what == "lrn.forward"]
        assert len(scales) == 4
        assert all(scale.max() > 2.5 for scale in scales)
        assert np.ptp(tape.output) > 0.5

    @pytest.mark.parametrize("mistake", WRONG)
    def test_the_comparison_can_fail(self, example, mistake):
        wrong = {"draw": Draw(SEED, STEP), "labels": LABELS, "host": dict} | WRONG[mistake]
        host = wrong.pop("host")(example.host)
        found = passes(example.plan, example.host, example.images, LABELS, NumpyBackend(2), Draw(SEED, STEP))
        expected = in_torch(example.net, host, example.images, **wrong)
        with pytest.raises(AssertionError, match="off by"):
            assert_same(found, expected, example.tolerance)

    @pytest.mark.parametrize("name", ["conv1@1.w", "conv1@0.b", "conv3@0.w", "conv4@1.w", "fc5@0.w", "fc6@0.b"])
    def test_one_wrong_gradient_is_seen(self, example, name):
        draw = Draw(SEED, STEP)
        found = passes(example.plan, example.host, example.images, example.labels, NumpyBackend(2), draw)
        expected = in_torch(example.net, example.host, example.images, example.labels, draw)
        worst = np.abs(found.gradients[name]).argmax()
        found.gradients[name].flat[worst] *= 1 + 1e-9
        with pytest.raises(AssertionError, match=name):
            assert_same(found, expected, example.tolerance)


@pytest.fixture(scope="module")
def paper():
    """The paper's network at its full width, two images in the range of pixels minus their mean."""
    net = nets.get("paper")
    plan = net.plan(2)
    # initialise() takes a quarter of a minute for 61 million numbers; they need not be its own.
    numbers = np.random.default_rng(7)
    host = {}
    for step in plan.steps:
        for letter, shape in step.params.items():
            drawn = numbers.standard_normal(shape, np.float32) * np.float32(step.layer.sigma)
            host[f"{step.name}.{letter}"] = drawn if letter == "w" else drawn + np.float32(step.layer.bias)
    images = pixels(net.input_shape, 2, 60.0)
    return Example(net, plan, host, np.float64(np.float32(images)), np.array([3, 998]))


@pytest.fixture(scope="module")
def paper_in_float64(paper):
    return passes(paper.plan, in_float64(paper.host), paper.images, paper.labels, NumpyBackend(2), Draw(SEED, STEP))


class TestPaper:
    def test_against_torch(self, paper, paper_in_float64):
        expected = in_torch(paper.net, in_float64(paper.host), paper.images, paper.labels, Draw(SEED, STEP))
        assert_same(paper_in_float64, expected, paper.tolerance)

    def test_in_float32(self, paper, paper_in_float64):
        """Logits within 1e-4 of the largest, and what crossed is the spec's table, to the byte."""
        images = np.float32(paper.images)
        found = passes(paper.plan, paper.host, images, paper.labels, NumpyBackend(2), Draw(SEED, STEP))
        assert found.logits.dtype == np.float32
        assert_close(found.logits, paper_in_float64.logits, 1e-4)
        for name, gradient in paper_in_float64.gradients.items():
            assert found.gradients[name].dtype == np.float32
            # 1e-6 where it was written; a ReLU or a pool that another machine's rounding turns costs more.
            assert_close(found.gradients[name], gradient, 1e-2, name)
        assert found.crossings == crossings(paper.plan, 2)
        each_way = {crossing.into: crossing.nbytes * 64 / 1e6 for crossing in found.crossings}
        assert {name: f"{nbytes:.2f}" for name, nbytes in each_way.items()} == {
            "conv3": "11.08",
            "fc6": "2.36",
            "fc7": "1.05",
            "fc8": "1.05",
        }

    def test_what_crossed_in_float64_is_twice_that(self, paper, paper_in_float64):
        assert paper_in_float64.crossings == crossings(paper.plan, 2, itemsize=8)
        assert [(crossing.into, crossing.source, crossing.target) for crossing in paper_in_float64.crossings] == [
            ("conv3", 1, 0),
            ("conv3", 0, 1),
            ("fc6", 1, 0),
            ("fc6", 0, 1),
            ("fc7", 1, 0),
            ("fc7", 0, 1),
            ("fc8", 1, 0),
        ]

    @pytest.mark.parametrize("layer", ["drop6", "drop7"])
    def test_the_columns_draw_two_halves_of_one_mask(self, paper, layer):
        index = [each.name for each in paper.net.layers].index(layer)
        whole = ops.dropout.mask((2, 4096), drop=0.5, key=(SEED, Purpose.DROPOUT), counter=(STEP, index, 0, 0))
        steps = {step.name: step for step in paper.plan.steps}
        halves = [
            LAYERS["dropout"](steps[f"{layer}@{c}"], [np.ones((2, 2048))], {}, Run(NumpyBackend(2), Draw(SEED, STEP)))[
                0
            ]
            for c in (0, 1)
        ]
        assert np.array_equal(np.hstack(halves), whole)
        assert not np.array_equal(*halves)


# Two columns are a net of one column with blocks ---------------------------------------------------------------------


class Blocks:
    """The two-column net written as a net of one column.

    Weights between the columns are held at zero. LRN would look across the cut, so two silent maps (half a window)
    lie between the columns wherever one follows: zero filters, zero biases, and zero weights of whoever reads them.
    """

    def __init__(self, net, gap=2):
        self.two = net.plan(2)
        self.places = {}
        layers = []
        channels = None
        for i, layer in enumerate(net.layers):
            if not layer.width:
                layers.append(layer)
                continue
            after = [each.op for each in net.layers[i + 1 :]]
            ends = next((j for j, op in enumerate(after) if op in {"conv2d", "linear"}), len(after))
            between = gap if "lrn" in after[:ends] else 0
            holders = 1 if layer.columns == "one" else 2
            share = layer.width // holders
            made = [c * (share + between) + np.arange(share) for c in range(holders)]
            for c in range(holders):
                reads = channels and (np.concatenate(channels) if layer.reads == "all" else channels[c])
                self.places[f"{layer.name}@{c}"] = (made[c], reads)
            layers.append(replace(layer, width=layer.width + (holders - 1) * between, columns="split"))
            channels = made
        self.one = split(tuple(layers), 1, net.input_shape)

    def widen(self, two):
        """Put the columns' arrays in their blocks."""
        one = {name: np.zeros(shape) for name, shape in self.one.param_shapes().items()}
        for name, block in two.items():
            target, where = self._block(one, name)
            target[where] = block.reshape(target[where].shape)
        return one

    def narrow(self, one):
        """Take the blocks out."""
        shapes = self.two.param_shapes()
        blocks = {}
        for name, shape in shapes.items():
            target, where = self._block(one, name)
            blocks[name] = target[where].reshape(shape)
        return blocks

    def _block(self, one, name):
        step, _, letter = name.partition(".")
        layer = step.partition("@")[0]
        rows, reads = self.places[step]
        whole = one[f"{layer}@0.{letter}"]
        if letter == "b":
            return whole, rows
        known = next(each for each in self.one.steps if each.layer.name == layer)
        channels = known.shapes[0][0]
        reads = np.arange(channels) if reads is None else reads
        return whole.reshape(len(whole), channels, -1), np.ix_(rows, reads)


def sgd(params, velocities, gradients, backend):
    for name, gradient in gradients.items():
        decay = 5e-4 if name.endswith(".w") else 0.0
        backend.sgd.step_(params[name], velocities[name], gradient, lr=0.02, momentum=0.9, weight_decay=decay)


def train(plan, host, images, labels, backend, *, count, seed=SEED, only=None, per_step=None):
    """Take SGD steps with dropout on; returns losses and the parameters. `only` holds gradients to a mask."""
    params = network.place_params(plan, host, backend)
    velocities = network.place_params(plan, {name: np.zeros_like(a) for name, a in host.items()}, backend)
    truth = backend.asarray(labels)
    losses = []
    for step in range(count):
        placed = network.place(plan, images, backend)
        tape = network.forward(plan, params, placed, backend, draw=Draw(seed, step))
        loss, p = backend.softmax_xent.forward(tape.output, truth)
        gradients = network.backward(tape, backend.softmax_xent.backward(p, truth))
        if only:
            gradients = {name: gradient * only[name] for name, gradient in gradients.items()}
        losses.append(backend.to_numpy(loss).copy())
        if per_step:
            per_step(backend.to_numpy(tape.output), {k: backend.to_numpy(g) for k, g in gradients.items()})
        sgd(params, velocities, gradients, backend)
    return np.array(losses), {name: backend.to_numpy(a) for name, a in params.items()}


class TestTwoColumnsAreOneWithBlocks:
    STEPS = 4

    def both(self, example, name, gap):
        """Outputs, gradients, losses and parameters of each, as lists of (what, two columns, one column)."""
        blocks = Blocks(example.net, gap)
        seen = {"two": [], "one": []}

        def note(which, narrow):
            return lambda logits, gradients: seen[which].append((logits.copy(), narrow(gradients)))

        two = train(
            example.plan, example.host, example.images, example.labels, backends.load(name, columns=2),
            count=self.STEPS, per_step=note("two", dict),
        )  # fmt: skip
        host = blocks.widen(example.host)
        only = blocks.widen({k: np.ones(shape) for k, shape in example.plan.param_shapes().items()})
        one = train(
            blocks.one, host, example.images, example.labels, NumpyBackend(1),
            count=self.STEPS, only=only, per_step=note("one", blocks.narrow),
        )  # fmt: skip
        return blocks, only, seen, two, one

    @each_backend
    def test_outputs_gradients_and_steps(self, example, name):
        blocks, only, seen, (losses2, params2), (losses1, params1) = self.both(example, name, gap=2)
        tolerance = 1e-12 * sqrt(longest_sum(blocks.one, len(LABELS)))
        for (logits2, gradients2), (logits1, gradients1) in zip(seen["two"], seen["one"], strict=True):
            assert_close(logits2, logits1, tolerance, "logits")
            for key, gradient in gradients1.items():
                assert_close(gradients2[key], gradient, tolerance, key)
        assert_close(losses2, losses1, tolerance)
        assert losses2[0] != losses2[-1]
        for key, a in blocks.narrow(params1).items():
            assert_close(params2[key], a, tolerance, key)
            assert not np.array_equal(params2[key], example.host[key])
        # Nothing has grown between the blocks or on the silent maps.
        assert all((params1[key][only[key] == 0] == 0).all() for key in params1)
        assert sum((mask == 0).sum() for mask in only.values()) > 20_000

    def test_with_lrn_across_the_cut_they_differ(self, example):
        _, _, seen, _, _ = self.both(example, "numpy", gap=0)
        with pytest.raises(AssertionError, match="off by"):
            assert_close(seen["two"][0][0], seen["one"][0][0], 1e-6)


# Laws, exactly -------------------------------------------------------------------------------------------------------


def whole_numbers(shape, seed, high=3):
    return np.random.default_rng(seed).integers(-high, high + 1, shape).astype(np.float64)


def some_params(plan, seed=0):
    return {name: whole_numbers(shape, seed + i) for i, (name, shape) in enumerate(plan.param_shapes().items())}


def dot(a, b):
    return float((np.asarray(a) * np.asarray(b)).sum())


ZERO = {"sigma": 0.0, "bias": 0.0}


class TestGather:
    @each_backend
    @pytest.mark.parametrize("columns", [2, 3])
    @pytest.mark.parametrize("tail", [(), (2, 5)])
    def test_backward_is_the_adjoint(self, name, columns, tail):
        """<gather(x), dy> = the sum over columns of <x_c, dx_c>, in whole numbers."""
        loaded = backends.load(name, columns=columns)
        layers = (
            (conv("a", 12, 1, **ZERO), conv("c", 12, 1, reads="all", **ZERO))
            if tail
            else (linear("a", 12, **ZERO), linear("c", 12, **ZERO))
        )
        plan = split(layers, columns, (3, *tail) if tail else (3,))
        for step in (step for step in plan.steps if step.layer.op == "gather"):
            parts = [whole_numbers((4, 12 // columns, *tail), i) for i in range(columns)]
            run = Run(loaded)
            placed = [loaded.asarray(part, source) for part, source in zip(parts, step.sources, strict=True)]
            y, backprop = LAYERS["gather"](step, placed, {}, run)
            y = loaded.to_numpy(y)
            assert np.array_equal(y, np.concatenate(parts, axis=1))
            dy = whole_numbers(y.shape, 99)
            gradients, none = backprop(loaded.asarray(dy, step.column))
            back = [loaded.to_numpy(gradient) for gradient in gradients]
            assert none == {}
            assert dot(y, dy) == sum(dot(x, dx) for x, dx in zip(parts, back, strict=True)) != 0
            assert np.array_equal(np.concatenate(back, axis=1), dy)
            assert [crossing.source for crossing in run.crossings] == [c for c in range(columns) if c != step.column]
            if name == "loopback":
                assert [gradient._column for gradient in gradients] == list(step.sources)

    @each_backend
    def test_the_gradients_of_two_readers_are_summed(self, name):
        """y = w1 concat(w0 x, ...): each column's dw0 holds what both columns of the next layer send back."""
        plan = split(
            (linear("a", 4, **ZERO), linear("c", 6, **ZERO), linear("z", 2, columns="one", **ZERO)), 2, (3, 1, 1)
        )
        params = some_params(plan)
        x, dy = whole_numbers((5, 3), 1), whole_numbers((5, 2), 2)
        dc = dy @ params["z@0.w"]
        sent = [dc[:, 3 * c : 3 * c + 3] @ params[f"c@{c}.w"] for c in (0, 1)]
        gradients = backward_of(plan, params, x[:, :, None, None], dy, name)
        for c in (0, 1):
            mine = [each[:, 2 * c : 2 * c + 2] for each in sent]
            assert np.array_equal(gradients[f"a@{c}.w"], (mine[0] + mine[1]).T @ x)
            assert not np.array_equal(gradients[f"a@{c}.w"], mine[0].T @ x)


def forward_of(plan, params, x, name, draw=None):
    loaded = backends.load(name, columns=plan.columns)
    placed = network.place_params(plan, params, loaded)
    return loaded.to_numpy(network.forward(plan, placed, network.place(plan, x, loaded), loaded, draw=draw).output)


def backward_of(plan, params, x, dy, name, draw=None):
    loaded = backends.load(name, columns=plan.columns)
    placed = network.place_params(plan, params, loaded)
    tape = network.forward(plan, placed, network.place(plan, x, loaded), loaded, draw=draw)
    # Nothing says which column the last step lives in but the step.
    gradients = network.backward(tape, loaded.asarray(dy, plan.steps[-1].column))
    return {key: loaded.to_numpy(gradient) for key, gradient in gradients.items()}


@st.composite
def affine_networks(draw):
    """Convolutions, dropout and full connections, read in every way, over 1 to 3 columns."""
    columns = draw(st.integers(1, 3))
    width = st.sampled_from([6, 12])
    reads = st.sampled_from(["own", "all"])
    layers = []
    for i in range(draw(st.integers(0, 2))):
        layers.append(conv(f"c{i}", draw(width), draw(st.integers(1, 3)), pad=1, reads=draw(reads), **ZERO))
        layers += draw(st.sampled_from([(), (dropout(f"d{i}"),)]))
    one = False
    for i in range(draw(st.integers(0, 2))):
        # A layer in the first column that follows a split one must read all: it would lose the other columns.
        this = draw(st.booleans())
        layers.append(
            linear(
                f"f{i}", draw(width), reads="all" if this else draw(reads), columns="one" if this else "split", **ZERO
            )
        )
        one = one or this
        layers += draw(st.sampled_from([(), (dropout(f"e{i}"),)]))
    layers.append(linear("z", 4, columns="one", **ZERO))
    return split(tuple(layers), columns, (2, 3, 4))


@each_backend
@given(plan=affine_networks(), seed=st.integers(0, 2**20))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_chain_rule_exactly(name, plan, seed):
    """The output is affine in each parameter alone, so <y(w + e) - y(w), dy> = <e, dw> in whole numbers."""
    params = some_params(plan, seed)
    x, dy, draw = whole_numbers((2, 2, 3, 4), seed + 50, 2), whole_numbers((2, 4), seed + 51), Draw(seed, 1)
    before = forward_of(plan, params, x, "numpy", draw)
    assert np.abs(before).max() < 2**50
    gradients = backward_of(plan, params, x, dy, name, draw)
    assert set(gradients) == set(params)
    for key, w in params.items():
        e = whole_numbers(w.shape, seed + 52)
        after = forward_of(plan, params | {key: w + e}, x, "numpy", draw)
        assert dot(after - before, dy) == dot(e, gradients[key]), key


# Dropout's counters --------------------------------------------------------------------------------------------------


class TestDropout:
    # Everything between the pixels and the output is exact in whole numbers, so a batch may be split without a trace.
    EXACT = (
        conv("a", 6, 3, pad=1, **ZERO),
        relu("r"),
        dropout("d"),
        maxpool("p"),
        conv("c", 8, 1, reads="all", **ZERO),
        linear("f", 10, **ZERO),
        dropout("e"),
        linear("z", 3, columns="one", **ZERO),
    )

    @each_backend
    @pytest.mark.parametrize("cut", [1, 2, 4])
    def test_a_batch_split_in_two_is_the_batch(self, name, cut):
        plan = split(self.EXACT, 2, (2, 6, 5))
        params = some_params(plan)
        x, dy = whole_numbers((5, 2, 6, 5), 1), whole_numbers((5, 3), 2)
        whole = forward_of(plan, params, x, name, Draw(SEED, STEP))
        parts = [(slice(None, cut), Draw(SEED, STEP, 0)), (slice(cut, None), Draw(SEED, STEP, cut))]
        assert np.array_equal(whole, np.vstack([forward_of(plan, params, x[rows], name, draw) for rows, draw in parts]))
        gradients = backward_of(plan, params, x, dy, name, Draw(SEED, STEP))
        first, second = (backward_of(plan, params, x[rows], dy[rows], name, draw) for rows, draw in parts)
        for key, gradient in gradients.items():
            assert np.array_equal(gradient, first[key] + second[key]), key
        # Without the offset the second part draws the first part's masks.
        again = forward_of(plan, params, x[cut:], name, Draw(SEED, STEP, 0))
        assert not np.array_equal(whole[cut:], again)

    @each_backend
    def test_weighted_means_of_the_parts(self, example, name):
        """Loss and gradients are means over the batch: those of the parts, weighed by their sizes, make the whole."""
        loaded = backends.load(name, columns=2)
        n, cut = len(LABELS), 2

        def part(rows, sample):
            images, labels = example.images[rows], example.labels[rows]
            return passes(example.plan, example.host, images, labels, loaded, Draw(SEED, STEP, sample))

        whole, first, second = part(slice(None), 0), part(slice(cut), 0), part(slice(cut, None), cut)
        assert_close(np.vstack([first.logits, second.logits]), whole.logits, example.tolerance)
        assert_close((cut * first.loss + (n - cut) * second.loss) / n, whole.loss, example.tolerance)
        for key, gradient in whole.gradients.items():
            mean = (cut * first.gradients[key] + (n - cut) * second.gradients[key]) / n
            assert_close(mean, gradient, example.tolerance, key)

    @each_backend
    def test_two_columns_draw_the_mask_of_one(self, name):
        """A full net that reads all is the same function in any number of columns, masks included."""
        layers = (
            linear("f", 12, **ZERO),
            dropout("d"),
            linear("g", 12, **ZERO),
            dropout("e"),
            linear("z", 12, columns="one", **ZERO),
        )
        identity = np.eye(12)
        outputs = []
        for columns in (1, 2, 3):
            plan = split(layers, columns, (12, 1, 1))
            share = 12 // columns
            params = {"z@0.w": identity, "z@0.b": np.zeros(12)}
            for layer in "fg":
                for c in range(columns):
                    params[f"{layer}@{c}.w"] = identity[c * share : (c + 1) * share]
                    params[f"{layer}@{c}.b"] = np.zeros(share)
            outputs.append(forward_of(plan, params, np.ones((40, 12, 1, 1)), name, Draw(SEED, STEP)))
        masks = [
            ops.dropout.mask((40, 12), drop=0.5, key=(SEED, Purpose.DROPOUT), counter=(STEP, index, 0, 0))
            for index in (1, 3)
        ]
        for output in outputs:
            assert np.array_equal(output, masks[0] & masks[1])
        assert not np.array_equal(*masks)

    @each_backend
    def test_maps_are_counted_through_the_columns_too(self, name):
        """Dropout after a convolution: column c's first unit comes after all units of the columns before it."""
        loaded = backends.load(name, columns=2)
        plan = split((conv("a", 6, 3, **ZERO), dropout("d")), 2, (2, 6, 5))
        run = Run(loaded, Draw(SEED, STEP, 4))
        halves = []
        for step in plan.steps[2:]:
            y, backprop = LAYERS["dropout"](step, [loaded.asarray(np.ones((7, 3, 4, 3)), step.column)], {}, run)
            (dx,), _ = backprop(loaded.asarray(np.ones((7, 3, 4, 3)), step.column))
            halves.append(loaded.to_numpy(y))
            assert np.array_equal(loaded.to_numpy(dx), halves[-1])
        whole = ops.dropout.mask((7, 6, 4, 3), drop=0.5, key=(SEED, Purpose.DROPOUT), counter=(STEP, 1, 4, 0))
        assert np.array_equal(np.concatenate(halves, axis=1), whole)

    @each_backend
    def test_a_test_pass_takes_the_expected_value(self, name):
        layers = (linear("f", 4, **ZERO), dropout("d", drop=0.25), linear("z", 4, columns="one", **ZERO))
        plan = split(layers, 2, (4, 1, 1))
        params = {"z@0.w": np.eye(4), "z@0.b": np.zeros(4)}
        for c in (0, 1):
            params |= {f"f@{c}.w": np.eye(4)[2 * c : 2 * c + 2], f"f@{c}.b": np.zeros(2)}
        x, dy = whole_numbers((6, 4), 3), whole_numbers((6, 4), 4)
        assert np.array_equal(forward_of(plan, params, x[:, :, None, None], name), 0.75 * x)
        # x reaches y through a factor of .75 and nothing else, and dy reaches f through the same.
        gradients = backward_of(plan, params, x[:, :, None, None], dy, name)
        assert np.array_equal(gradients["z@0.w"], dy.T @ (0.75 * x))
        assert np.array_equal(gradients["f@1.b"], 0.75 * dy.sum(axis=0)[2:])

    @each_backend
    def test_masks_change_with_step_and_seed_and_nothing_else(self, example, name):
        loaded = backends.load(name, columns=2)

        def logits(draw):
            placed = network.place_params(example.plan, example.host, loaded)
            images = network.place(example.plan, example.images, loaded)
            return loaded.to_numpy(network.forward(example.plan, placed, images, loaded, draw=draw).output).tobytes()

        draws = [Draw(0, 0), Draw(0, 1), Draw(1, 0), Draw(0, 0, 1), None]
        assert len({logits(draw) for draw in draws}) == len(draws)
        assert [logits(draw) for draw in draws] == [logits(draw) for draw in draws]


# The tape ------------------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """One call of an op, with weak references to what it returned."""

    what: str
    results: list[Callable[[], Any]]


class Watch:
    """A backend that notes every call of an op or of concat, and lets one look before each."""

    def __init__(self, backend, before=lambda _: None):
        self._backend, self._before, self.calls = backend, before, []

    def __getattr__(self, name):
        thing = getattr(self._backend, name)
        if name == "concat":
            return self._watched("concat", thing)
        if name not in ops.OPS:
            return thing
        chapter = getattr(ops, name)
        return SimpleNamespace(
            **{each: self._watched(f"{name}.{each}", getattr(thing, each)) for each in chapter.INTERFACE}
        )

    def _watched(self, what, function):
        def call(*args, **kwargs):
            self._before(what)
            result = function(*args, **kwargs)
            arrays = result if isinstance(result, tuple) else (result,)
            self.calls.append(Call(what, [weakref.ref(array) for array in arrays if array is not None]))
            return result

        return call

    def alive(self):
        return [call.what for call in self.calls for result in call.results if result() is not None]


@each_backend
class TestTape:
    def forward(self, example, name, watch=None, **options):
        loaded = backends.load(name, columns=2)
        watch = Watch(loaded) if watch is None else watch(loaded)
        params = network.place_params(example.plan, example.host, loaded)
        images = network.place(example.plan, example.images, loaded)
        return watch, params, network.forward(example.plan, params, images, watch, **options)

    def test_without_a_record_only_the_output_lives(self, example, name):
        """And while it runs, no more than what is still to be read: each column's latest and a gather."""
        most = []

        def watching(loaded):
            watch = Watch(loaded, lambda _: most.append(len(watch.alive())))
            return watch

        watch, _, tape = self.forward(example, name, watching, record=False)
        assert tape.steps == []
        assert watch.alive() == ["linear.forward"]
        assert watch.calls[-1].results[0]() is tape.output
        assert len(most) > 30
        assert max(most) <= 3

    def test_what_a_record_keeps(self, example, name):
        """What a chapter says it keeps: not the sums before a ReLU, not what a gather joined."""
        watch, _, tape = self.forward(example, name, draw=Draw(SEED, STEP))
        kept = {}
        for call in watch.calls:
            kept.setdefault(call.what, []).append([result() is not None for result in call.results])
        assert kept == {
            "conv2d.forward": [[False]] * 8,
            "relu.forward": [[True]] * 10,
            "lrn.forward": [[True, True]] * 4,  # y and scale
            "maxpool.forward": [[True, True]] * 2 + [[False, True]] * 2,  # y is conv2's x; pool4's is joined and gone
            "concat": [[True]] * 5,
            "linear.forward": [[False], [False], [True]],
            "dropout.forward": [[False]] * 2,
        }
        assert tape.steps != []

    def test_a_test_pass_records_the_same(self, example, name):
        _, _, tape = self.forward(example, name)
        assert [step.name for step, _ in tape.steps] == [step.name for step in example.plan.steps]

    def test_backward_empties_it_and_activations_die_as_they_are_used(self, example, name):
        ran = []

        def watching(loaded):
            return Watch(loaded, before)

        def before(what):
            if what.endswith(".backward") and what != "softmax_xent.backward":
                ran.append([what, watch.alive_forward()])

        watch, _, tape = self.forward(example, name, watching, draw=Draw(SEED, STEP))
        made = [call for call in watch.calls if call.what != "concat"]
        output = watch.calls[-1].results[0]

        def alive_forward():
            """Which forward calls, by their order, still have an array alive."""
            return [i for i, call in enumerate(made) if any(r() is not None and r is not output for r in call.results)]

        watch.alive_forward = alive_forward
        dy = watch.asarray(whole_numbers(tape.output.shape, 1))
        network.backward(tape, dy)
        assert tape.steps == []
        assert tape.output is output()
        assert [what.removesuffix(".backward") for what, _ in ran] == [
            call.what.removesuffix(".forward") for call in reversed(made)
        ]
        for done, (what, alive) in enumerate(ran):
            assert max(alive, default=-1) <= len(made) - 1 - done, f"{what} runs while what came after it is alive"
        assert len(ran[0][1]) > len(ran[-1][1])
        assert alive_forward() == []

    def test_gradients_die_as_they_are_used(self, example, name):
        """Of all data gradients at most four live at once: one for each column, and what is being made of it."""
        most = []

        def watching(loaded):
            return Watch(loaded, before)

        def before(what):
            if what.endswith(".backward"):
                given = [call for call in watch.calls if call.what.endswith(".backward") and len(call.results) != 2]
                most.append(sum(call.results[0]() is not None for call in given))

        watch, _, tape = self.forward(example, name, watching, draw=Draw(SEED, STEP))
        gradients = network.backward(tape, watch.asarray(whole_numbers(tape.output.shape, 1)))
        assert len(most) == sum(step.layer.op != "gather" for step in example.plan.steps)
        assert max(most) <= 4
        alive = [result() for call in watch.calls for result in call.results]
        kept = {id(array) for array in alive if array is not None} - {id(tape.output)}
        assert kept == {id(gradient) for gradient in gradients.values()}

    def test_pooling_and_dropout_keep_nothing_of_what_they_read(self, example, name):
        del example
        loaded = backends.load(name, columns=2)
        layers = (conv("a", 4, 3, **ZERO), maxpool("p"), conv("c", 4, 1, **ZERO), dropout("d"))
        plan = split((*layers, linear("z", 3, columns="one", **ZERO)), 2, (1, 8, 8))
        watch = Watch(loaded)
        params = network.place_params(plan, some_params(plan), loaded)
        images = network.place(plan, whole_numbers((2, 1, 8, 8), 1), loaded)
        tape = network.forward(plan, params, images, watch, draw=Draw(SEED, STEP))
        assert tape.steps != []
        sums = [call for call in watch.calls if call.what == "conv2d.forward"]
        assert [call.results[0]() is None for call in sums] == [True] * 4

    def test_every_parameter_gets_a_gradient_of_its_shape(self, example, name):
        _, params, tape = self.forward(example, name)
        gradients = network.backward(tape, backends.load(name).asarray(whole_numbers(tape.output.shape, 1)))
        assert {key: gradient.shape for key, gradient in gradients.items()} == example.plan.param_shapes()
        assert {key: gradient.dtype for key, gradient in gradients.items()} == {k: a.dtype for k, a in params.items()}
        if name == "loopback":
            assert {key: a._column for key, a in gradients.items()} == {key: int(key[-3]) for key in params}

    def test_neither_pass_changes_parameters_or_images(self, example, name):
        loaded = backends.load(name, columns=2)
        params = network.place_params(example.plan, example.host, loaded)
        images = network.place(example.plan, example.images, loaded)
        tape = network.forward(example.plan, params, images, loaded, draw=Draw(SEED, STEP))
        network.backward(tape, loaded.asarray(whole_numbers(tape.output.shape, 1)))
        for key, a in params.items():
            assert loaded.to_numpy(a).tobytes() == example.host[key].tobytes()
        for a in images:
            assert loaded.to_numpy(a).tobytes() == example.images.tobytes()

    def test_what_crossed_is_what_the_plan_says(self, example, name):
        for record in (True, False):
            _, _, tape = self.forward(example, name, record=record)
            assert tape.crossings == crossings(example.plan, len(LABELS), itemsize=8)

    def test_the_pixels_get_no_gradient(self, example, name):
        """The first layer's data gradient, as large as the batch of images, is never computed."""
        watch, _, tape = self.forward(example, name)
        network.backward(tape, watch.asarray(whole_numbers(tape.output.shape, 1)))
        gave = [len(call.results) for call in watch.calls if call.what == "conv2d.backward"]
        assert gave == [3] * 6 + [2] * 2


# The door ------------------------------------------------------------------------------------------------------------


@each_backend
class TestDoor:
    @pytest.mark.parametrize("door", ["place_params", "forward"])
    @pytest.mark.parametrize(
        ("key", "shape", "said"),
        [
            ("conv2@1.w", None, r"conv2@1\.w \(32, 16, 3, 3\) is missing"),
            ("fc6@0.b", None, r"fc6@0\.b \(10,\) is missing"),
            ("conv3@0.w", (32, 32, 3, 3), r"conv3@0\.w must have shape \(32, 64, 3, 3\), it has \(32, 32, 3, 3\)"),
            ("fc5@1.b", (64, 1), r"fc5@1\.b must have shape \(64,\), it has \(64, 1\)"),
            ("fc6@1.w", (10, 128), r"fc6@1\.w belongs to no layer"),
            ("conv1.w", (32, 1, 3, 3), r"conv1\.w belongs to no layer"),
        ],
    )
    def test_parameters_are_named(self, example, name, door, key, shape, said):
        loaded = backends.load(name, columns=2)
        images = network.place(example.plan, example.images, loaded)
        host = dict(example.host)
        host.pop(key, None)
        if shape is not None:
            host[key] = np.zeros(shape)
        params = {each: loaded.asarray(a) for each, a in host.items()}
        enter = {
            "place_params": lambda: network.place_params(example.plan, host, loaded),
            "forward": lambda: network.forward(example.plan, params, images, loaded),
        }
        with pytest.raises(ShapeError, match=said) as caught:
            enter[door]()
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("shapes", "said"),
        [
            ([(5, 1, 8, 8)], "2 columns, not 1"),
            ([(5, 1, 8, 8)] * 3, "2 columns, not 3"),
            ([], "2 columns, not 0"),
            ([(5, 1, 8, 8), (5, 1, 8, 9)], r"column 1 must .*1, 8, 8.* they \w+ \(5, 1, 8, 9\)"),
            ([(5, 3, 8, 8)] * 2, r"column 0 must .*1, 8, 8.* they \w+ \(5, 3, 8, 8\)"),
            ([(1, 8, 8)] * 2, r"column 0 must .*1, 8, 8.* they \w+ \(1, 8, 8\)"),
            ([(5, 64)] * 2, r"column 0 must .*1, 8, 8.* they \w+ \(5, 64\)"),
        ],
    )
    def test_images_are_named(self, example, name, shapes, said):
        loaded = backends.load(name, columns=2)
        params = network.place_params(example.plan, example.host, loaded)
        images = [loaded.asarray(np.zeros(shape), min(column, 1)) for column, shape in enumerate(shapes)]
        with pytest.raises(ShapeError, match=said):
            network.forward(example.plan, params, images, loaded)

    def test_columns_that_got_different_batches(self, example, name):
        loaded = backends.load(name, columns=2)
        params = network.place_params(example.plan, example.host, loaded)
        images = [loaded.asarray(np.zeros((5 + column, 1, 8, 8)), column) for column in (0, 1)]
        with pytest.raises(ShapeError, match="column 1"):
            network.forward(example.plan, params, images, loaded)

    def test_what_is_placed_is_a_copy_in_its_column(self, example, name):
        loaded = backends.load(name, columns=2)
        params = network.place_params(example.plan, example.host, loaded)
        images = network.place(example.plan, example.images, loaded)
        assert len(images) == 2
        if name == "loopback":
            assert [a._column for a in images] == [0, 1]
            assert all(a._column == int(key[-3]) for key, a in params.items())
        before = {key: a.copy() for key, a in example.host.items()}
        sgd(params, dict(params), params, loaded)
        assert all(np.array_equal(a, example.host[key]) for key, a in before.items())


# Training ------------------------------------------------------------------------------------------------------------


class BackwardsOrder(NumpyBackend):
    """NumPy, with every sum over channels or features taken from the last to the first."""

    conv2d = SimpleNamespace(
        forward=lambda x, w, b, **o: ops.conv2d.forward(turned(x), turned(w), b, **o),
        backward=ops.conv2d.backward,
    )
    linear = SimpleNamespace(
        forward=lambda x, w, b: ops.linear.forward(turned(x.reshape(len(x), -1)), turned(w), b),
        backward=ops.linear.backward,
    )


def turned(a):
    return np.ascontiguousarray(a[:, ::-1])


def assert_losses_agree(losses, reference, other_order):
    """|dloss| <= 4 times the divergence of two NumPy runs that only differ in the order of their sums (testing.md).

    The divergence is the largest up to each step, since it need not grow at every one.
    """
    divergence = np.maximum.accumulate(np.abs(np.float64(other_order) - reference))
    off = np.abs(np.float64(losses) - reference)
    wrong = np.flatnonzero(off > 4 * divergence)
    assert not wrong.size, f"step {wrong[0]}: off by {off[wrong[0]]:.3g}, allowed {4 * divergence[wrong[0]]:.3g}"


class TestTraining:
    STEPS = 20

    @pytest.fixture
    def runs(self):
        net = nets.get("digits")
        plan = net.plan(2)
        host = initialise(plan, SEED)
        numbers = np.random.default_rng(1)
        images = numbers.integers(0, 17, (16, 1, 8, 8)).astype(np.float32) - np.float32(8)
        labels = numbers.integers(0, 10, 16)
        return lambda backend, seed=SEED: train(plan, host, images, labels, backend, count=self.STEPS, seed=seed)

    def test_twenty_steps_on_loopback_have_the_bits_of_numpy(self, runs):
        losses, params = runs(backends.load("numpy", columns=2))
        others, other_params = runs(backends.load("loopback", columns=2))
        assert losses.dtype == np.float32
        assert losses.tobytes() == others.tobytes()
        assert {key: a.tobytes() for key, a in params.items()} == {key: a.tobytes() for key, a in other_params.items()}
        assert losses[-5:].mean() < 0.85 * losses[:5].mean()
        another, _ = runs(backends.load("numpy", columns=2), seed=SEED + 1)
        assert losses.tobytes() != another.tobytes()

    def test_the_law_of_the_losses(self, runs):
        reference, _ = runs(NumpyBackend(2))
        other_order, _ = runs(BackwardsOrder(2))
        assert 0 < np.abs(other_order - reference).max() < 1e-2
        assert_losses_agree(runs(backends.load("loopback", columns=2))[0], reference, other_order)
        with pytest.raises(AssertionError, match="step 0"):
            assert_losses_agree(runs(NumpyBackend(2), seed=SEED + 1)[0], reference, other_order)

    @each_backend
    def test_a_checked_backend_has_nothing_to_object_to(self, runs, name):
        losses, _ = runs(backends.load(name, columns=2))
        checked, _ = runs(backends.load(name, columns=2, checked=True))
        assert losses.tobytes() == checked.tobytes()


class TestMisuse:
    """What a caller may get wrong is said at the door."""

    def loaded(self, layers, columns=2, backend_columns=2):
        plan = split(layers, columns, (2, 5, 5))
        backend = backends.load("loopback", columns=backend_columns)
        params = network.place_params(plan, some_params(plan), backend)
        return plan, params, network.place(plan, np.zeros((3, 2, 5, 5)), backend), backend

    def test_a_last_layer_that_is_split(self):
        layers = (conv("a", 4, 3, **ZERO), linear("z", 4, reads="own", **ZERO))
        with pytest.raises(ShapeError, match="the last layer, z, is split; it must be in one column"):
            network.forward(*self.loaded(layers))

    def test_a_backend_of_fewer_columns(self):
        layers = (conv("a", 4, 3, **ZERO), linear("z", 4, columns="one", **ZERO))
        with pytest.raises(ShapeError, match="the network has 2 columns, backend loopback was loaded for 1"):
            network.forward(*self.loaded(layers, backend_columns=1))

    @pytest.mark.parametrize("record", [True, False])
    def test_a_tape_that_is_empty(self, record):
        plan, params, images, backend = self.loaded((linear("z", 4, columns="one", **ZERO),))
        tape = network.forward(plan, params, images, backend, record=record)
        dy = backend.asarray(np.ones((3, 4)))
        if record:
            network.backward(tape, dy)
        with pytest.raises(ValueError, match="the tape is empty"):
            network.backward(tape, dy)

    def test_a_network_of_nothing(self):
        with pytest.raises(ShapeError, match="at least one layer"):
            split((), 1, (2, 5, 5))
