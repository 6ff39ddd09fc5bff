"""Identities that hold exactly for whole numbers: gather and its adjoint, the chain rule, dropout's counters."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import (
    LABELS,
    SEED,
    STEP,
    ZERO,
    assert_close,
    backward_of,
    dot,
    each_backend,
    forward_and_backward,
    forward_of,
    some_params,
    whole_numbers,
)

from refnet import backend as backends
from refnet import ops
from refnet.network import passes
from refnet.network.layers import LAYERS, Pass, RandomKey
from refnet.network.plan import conv, dropout, linear, maxpool, relu, split
from refnet.randomness import Purpose

pytestmark = pytest.mark.usefixtures("one_thread")  # most arrays here are small


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
        for node in (node for node in plan.nodes if node.layer.op == "gather"):
            parts = [whole_numbers((4, 12 // columns, *tail), i) for i in range(columns)]
            run = Pass(loaded)
            placed = [loaded.asarray(part, source) for part, source in zip(parts, node.sources, strict=True)]
            y, backprop = LAYERS["gather"](node, placed, {}, run)
            y = loaded.to_numpy(y)
            assert np.array_equal(y, np.concatenate(parts, axis=1))
            dy = whole_numbers(y.shape, 99)
            gradients, none = backprop(loaded.asarray(dy, node.column))
            back = [loaded.to_numpy(gradient) for gradient in gradients]
            assert none == {}
            assert dot(y, dy) == sum(dot(x, dx) for x, dx in zip(parts, back, strict=True)) != 0
            assert np.array_equal(np.concatenate(back, axis=1), dy)
            assert [crossing.source for crossing in run.crossings] == [c for c in range(columns) if c != node.column]
            if name == "loopback":
                assert [gradient._column for gradient in gradients] == list(node.sources)

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
    x, dy, draw = whole_numbers((2, 2, 3, 4), seed + 50, 2), whole_numbers((2, 4), seed + 51), RandomKey(seed, 1)
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
        whole = forward_of(plan, params, x, name, RandomKey(SEED, STEP))
        parts = [(slice(None, cut), RandomKey(SEED, STEP, 0)), (slice(cut, None), RandomKey(SEED, STEP, cut))]
        assert np.array_equal(whole, np.vstack([forward_of(plan, params, x[rows], name, draw) for rows, draw in parts]))
        gradients = backward_of(plan, params, x, dy, name, RandomKey(SEED, STEP))
        first, second = (backward_of(plan, params, x[rows], dy[rows], name, draw) for rows, draw in parts)
        for key, gradient in gradients.items():
            assert np.array_equal(gradient, first[key] + second[key]), key
        # Without the offset the second part draws the first part's masks.
        again = forward_of(plan, params, x[cut:], name, RandomKey(SEED, STEP, 0))
        assert not np.array_equal(whole[cut:], again)

    @each_backend
    def test_weighted_means_of_the_parts(self, example, name):
        """Loss and gradients are means over the batch: those of the parts, weighed by their sizes, make the whole."""
        loaded = backends.load(name, columns=2)
        n, cut = len(LABELS), 2

        def part(rows, sample):
            images, labels = example.images[rows], example.labels[rows]
            return forward_and_backward(
                example.plan, example.host, images, labels, loaded, RandomKey(SEED, STEP, sample)
            )

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
            outputs.append(forward_of(plan, params, np.ones((40, 12, 1, 1)), name, RandomKey(SEED, STEP)))
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
        run = Pass(loaded, RandomKey(SEED, STEP, 4))
        halves = []
        for node in plan.nodes[2:]:
            y, backprop = LAYERS["dropout"](node, [loaded.asarray(np.ones((7, 3, 4, 3)), node.column)], {}, run)
            (dx,), _ = backprop(loaded.asarray(np.ones((7, 3, 4, 3)), node.column))
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
            placed = passes.place_params(example.plan, example.host, loaded)
            images = passes.place(example.plan, example.images, loaded)
            return loaded.to_numpy(
                passes.forward(example.plan, placed, images, loaded, random_key=draw).output
            ).tobytes()

        draws = [RandomKey(0, 0), RandomKey(0, 1), RandomKey(1, 0), RandomKey(0, 0, 1), None]
        assert len({logits(draw) for draw in draws}) == len(draws)
        assert [logits(draw) for draw in draws] == [logits(draw) for draw in draws]
