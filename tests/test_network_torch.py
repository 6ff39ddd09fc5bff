"""The two-column networks compared with the same in PyTorch: outputs, loss and every gradient."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import (
    LABELS,
    SEED,
    STEP,
    Example,
    Outcome,
    Watch,
    assert_close,
    assert_same,
    each_backend,
    forward_and_backward,
    in_float64,
    pixels,
    pooled_by_mean,
)
from torch.nn import functional

from refnet import backend as backends
from refnet import nets, ops
from refnet.backend.reference import NumpyBackend
from refnet.bench.torch_peer import Peer
from refnet.network import passes
from refnet.network.initial import initialise
from refnet.network.layers import LAYERS, Pass, RandomKey
from refnet.network.plan import crossings
from refnet.ops import philox
from refnet.randomness import Purpose

pytestmark = pytest.mark.usefixtures("one_thread")  # most arrays here are small


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
    "another step's masks": {"draw": RandomKey(SEED, STEP + 1)},
    "another seed's masks": {"draw": RandomKey(SEED + 1, STEP)},
    "a test pass": {"draw": None},
    "another label": {"labels": np.array([8, *LABELS[1:]])},
}


class TestAgainstTorch:
    @each_backend
    @pytest.mark.parametrize("draw", [RandomKey(SEED, STEP), None], ids=["training", "test"])
    def test_digits(self, example, name, draw):
        loaded = backends.load(name, columns=2)
        found = forward_and_backward(example.plan, example.host, example.images, example.labels, loaded, draw)
        assert_same(found, in_torch(example.net, example.host, example.images, example.labels, draw), example.tolerance)

    def test_the_example_makes_every_part_bite(self, example):
        """LRN divides by more than a rounding, dropout silences about half, and the classes differ."""
        loaded = backends.load("numpy", columns=2)
        watch = Watch(loaded)
        images = passes.place(example.plan, example.images, loaded)
        tape = passes.forward(example.plan, example.host, images, watch, random_key=RandomKey(SEED, STEP))
        scales = [call.results[1]() for call in watch.calls if call.what == "lrn.forward"]
        assert len(scales) == 4
        assert all(scale.max() > 2.5 for scale in scales)
        assert np.ptp(tape.output) > 0.5

    @pytest.mark.parametrize("mistake", WRONG)
    def test_the_comparison_can_fail(self, example, mistake):
        wrong = {"draw": RandomKey(SEED, STEP), "labels": LABELS, "host": dict} | WRONG[mistake]
        host = wrong.pop("host")(example.host)
        found = forward_and_backward(
            example.plan, example.host, example.images, LABELS, NumpyBackend(2), RandomKey(SEED, STEP)
        )
        expected = in_torch(example.net, host, example.images, **wrong)
        with pytest.raises(AssertionError, match="off by"):
            assert_same(found, expected, example.tolerance)

    @pytest.mark.parametrize("name", ["conv1@1.w", "conv1@0.b", "conv3@0.w", "conv4@1.w", "fc5@0.w", "fc6@0.b"])
    def test_one_wrong_gradient_is_seen(self, example, name):
        draw = RandomKey(SEED, STEP)
        found = forward_and_backward(example.plan, example.host, example.images, example.labels, NumpyBackend(2), draw)
        expected = in_torch(example.net, example.host, example.images, example.labels, draw)
        worst = np.abs(found.gradients[name]).argmax()
        found.gradients[name].flat[worst] *= 1 + 1e-9
        with pytest.raises(AssertionError, match=name):
            assert_same(found, expected, example.tolerance)


def in_peer(net, plan, host, images, labels):
    """What the PyTorch equivalent that benchmarks compare with computes, its gradients a slice for each column."""
    peer = Peer(net, plan, host)
    logits = peer(torch.from_numpy(images))
    loss = functional.cross_entropy(logits, torch.from_numpy(labels))
    loss.backward()
    gradients = {}
    for node in plan.nodes:
        for letter, shape in node.params.items():
            of_layer = getattr(peer, f"{node.layer.name}_{letter}").grad
            gradients[f"{node.name}.{letter}"] = of_layer[node.column * shape[0] :][: shape[0]].numpy()
    return Outcome(logits.detach().numpy(), loss.item(), gradients)


@pytest.fixture(scope="module")
def cuda_convnet():
    net = pooled_by_mean()
    plan = net.plan(2)
    return Example(
        net, plan, in_float64(initialise(plan, SEED)), pixels(net.input_shape, len(LABELS), 1.0, seed=2), LABELS
    )


class TestPeer:
    """Average pooling and normalisation within a map, in two columns, and the peer of each in PyTorch."""

    @each_backend
    def test_it_computes_the_same(self, cuda_convnet, name):
        net, plan, *given = vars(cuda_convnet).values()
        found = forward_and_backward(plan, *given, backends.load(name, columns=2))
        assert_same(found, in_peer(net, plan, *given), cuda_convnet.tolerance)

    @pytest.mark.parametrize(
        ("layer", "mistake"),
        [
            ("pool3", {"op": "maxpool"}),
            ("rnorm1", {"op": "lrn"}),
            ("rnorm2", {"options": {"n": 3, "k": 1.0, "alpha": 0.2, "beta": 0.75}}),
            ("rnorm1", {"options": {"n": 3, "k": 1.0, "alpha": 0.1 / 9, "beta": 0.75}}),
        ],
    )
    def test_the_comparison_can_fail(self, cuda_convnet, layer, mistake):
        net, plan, *given = vars(cuda_convnet).values()
        layers = tuple(replace(each, **mistake) if each.name == layer else each for each in net.layers)
        other = replace(net, layers=layers)
        found = forward_and_backward(plan, *given, NumpyBackend(2))
        with pytest.raises(AssertionError, match="off by"):
            assert_same(found, in_peer(other, other.plan(2), *given), cuda_convnet.tolerance)


@pytest.fixture(scope="module")
def paper():
    """The paper's network at its full width, two images in the range of pixels minus their mean."""
    net = nets.get("paper")
    plan = net.plan(2)
    # initialise() takes a quarter of a minute for 61 million numbers; they need not be its own.
    numbers = np.random.default_rng(7)
    host = {}
    for node in plan.nodes:
        for letter, shape in node.params.items():
            drawn = numbers.standard_normal(shape, np.float32) * np.float32(node.layer.sigma)
            host[f"{node.name}.{letter}"] = drawn if letter == "w" else drawn + np.float32(node.layer.bias)
    images = pixels(net.input_shape, 2, 60.0)
    return Example(net, plan, host, np.float64(np.float32(images)), np.array([3, 998]))


@pytest.fixture(scope="module")
def paper_in_float64(paper):
    return forward_and_backward(
        paper.plan, in_float64(paper.host), paper.images, paper.labels, NumpyBackend(2), RandomKey(SEED, STEP)
    )


class TestPaper:
    def test_against_torch(self, paper, paper_in_float64):
        expected = in_torch(paper.net, in_float64(paper.host), paper.images, paper.labels, RandomKey(SEED, STEP))
        assert_same(paper_in_float64, expected, paper.tolerance)

    def test_in_float32(self, paper, paper_in_float64):
        """Logits within 1e-4 of the largest, and what crossed is the spec's table, to the byte."""
        images = np.float32(paper.images)
        found = forward_and_backward(
            paper.plan, paper.host, images, paper.labels, NumpyBackend(2), RandomKey(SEED, STEP)
        )
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
        nodes = {node.name: node for node in paper.plan.nodes}
        halves = [
            LAYERS["dropout"](
                nodes[f"{layer}@{c}"], [np.ones((2, 2048))], {}, Pass(NumpyBackend(2), RandomKey(SEED, STEP))
            )[0]
            for c in (0, 1)
        ]
        assert np.array_equal(np.hstack(halves), whole)
        assert not np.array_equal(*halves)
