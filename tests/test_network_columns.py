"""Two columns are a net of one column whose weights between the columns are zero."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from networks import LABELS, assert_close, each_backend, longest_sum, train

from refnet import backend as backends
from refnet.backend.reference import NumpyBackend
from refnet.network.plan import split

pytestmark = pytest.mark.usefixtures("one_thread")  # most arrays here are small


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
        node, _, letter = name.partition(".")
        layer = node.partition("@")[0]
        rows, reads = self.places[node]
        whole = one[f"{layer}@0.{letter}"]
        if letter == "b":
            return whole, rows
        known = next(each for each in self.one.nodes if each.layer.name == layer)
        channels = known.shapes[0][0]
        reads = np.arange(channels) if reads is None else reads
        return whole.reshape(len(whole), channels, -1), np.ix_(rows, reads)


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
