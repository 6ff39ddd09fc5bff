"""Top-1, top-5 and loss over a split: computed by hand, with ties, in any batches, and with numbers not finite."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.data.dataset import ArraySplit
from refnet.errors import NumericError
from refnet.evaluation.score import score, top_k_error
from refnet.network import passes
from refnet.network.plan import linear, split
from refnet.runs.state import Score

CLASSES = 7

levels = st.lists(st.integers(0, 3), min_size=1, max_size=5)


# Top-k


@pytest.mark.parametrize(
    ("p", "label", "k", "expected"),
    [
        ([0.1, 0.6, 0.3], 1, 1, 0),
        ([0.1, 0.6, 0.3], 2, 1, 1),
        ([0.1, 0.6, 0.3], 2, 2, 0),
        ([0.4, 0.4, 0.2], 0, 1, 1 / 2),  # two share the one place
        ([0.4, 0.4, 0.2], 2, 1, 1),
        ([0.4, 0.4, 0.2], 1, 2, 0),
        ([0.4, 0.2, 0.2, 0.2], 3, 2, 2 / 3),  # three share the second place
        ([0.2] * 5, 4, 5, 0),
        ([0.1] * 10, 4, 5, 1 / 2),
        ([0.5, 0.5], 0, 5, 0),  # fewer classes than places
    ],
)
def test_top_k(p, label, k, expected):
    assert top_k_error(np.array([p], np.float32), np.array([label]), k) == pytest.approx(expected)


@given(levels, st.data(), st.integers(1, 6))
def test_a_tie_counts_as_the_mean_over_all_ways_to_break_it(levels, data, k):
    label = data.draw(st.integers(0, len(levels) - 1))
    places = [
        sorted(range(len(levels)), key=lambda c, order=order: (-levels[c], order[c])).index(label)
        for order in permutations(range(len(levels)))
    ]
    expected = np.mean([place >= k for place in places])
    assert top_k_error(np.array([levels], np.float32), np.array([label]), k) == pytest.approx(expected, abs=1e-12)


def test_the_error_is_the_mean_over_samples():
    p = np.array([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7], [0.7, 0.2, 0.1]], np.float32)
    error = top_k_error(p, np.array([0, 0, 0, 0]), 1)
    assert error == pytest.approx((0 + 1 / 2 + 1 + 0) / 4)
    assert type(error) is float


# A split


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(1)
    return ArraySplit(rng.integers(0, CLASSES, 11), rng.integers(0, 256, (11, 4, 5, 2), np.uint8))


@pytest.fixture(scope="module")
def mean():
    return np.random.default_rng(2).uniform(0, 255, (4, 5, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def net():
    """Give a plan that is one matrix product on 2x3 crops, its weights and its biases."""
    plan = split((linear("fc", CLASSES, sigma=1, bias=0, columns="one"),), 1, (2, 2, 3))
    rng = np.random.default_rng(3)
    w, b = rng.normal(0, 0.01, (CLASSES, 12)), rng.normal(0, 1, CLASSES)
    return plan, {"fc@0.w": w.astype(np.float32), "fc@0.b": b.astype(np.float32)}


def scored(net, images, mean, backend, **options):
    plan, host = net
    return score(plan, passes.place_params(plan, host, backend), images, mean, backend, **options)


def by_hand(net, images, mean):
    _, host = net
    crops = (images.pixels.astype(np.float64) - mean)[:, 1:3, 1:4].transpose(0, 3, 1, 2).reshape(len(images), -1)
    z = crops @ host["fc@0.w"].astype(np.float64).T + host["fc@0.b"]
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    truth = log_p[np.arange(len(images)), images.labels]
    rank = (log_p > truth[:, None]).sum(axis=1)
    return Score(-truth.mean(), (rank >= 1).mean(), (rank >= 5).mean())


@pytest.mark.parametrize("batch", [1, 4, 11, 1000])
def test_score_is_what_is_counted_by_hand_in_any_batches(net, images, mean, backend, batch):
    found, expected = scored(net, images, mean, backend, batch=batch), by_hand(net, images, mean)
    assert 0 < expected.top5_error < expected.top1_error < 1
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.top1_error == pytest.approx(expected.top1_error)
    assert found.top5_error == pytest.approx(expected.top5_error)


def test_score_is_the_same_bits_again(net, images, mean, backend):
    assert scored(net, images, mean, backend, batch=4) == scored(net, images, mean, backend, batch=4)


def test_a_net_that_knows_nothing_is_wrong_as_often_as_chance(net, images, mean, backend):
    plan, host = net
    silent = {name: np.zeros_like(a) for name, a in host.items()}
    found = scored((plan, silent), images, mean, backend, batch=4)
    assert found.loss == pytest.approx(np.log(CLASSES))
    assert found.top1_error == pytest.approx(1 - 1 / CLASSES)
    assert found.top5_error == pytest.approx(1 - 5 / CLASSES)


# What is not finite


@pytest.mark.parametrize("k", [1, 5])
def test_nan_is_never_right(k):
    p = np.full((2, CLASSES), np.nan, np.float32)
    assert top_k_error(p, np.array([0, 3]), k) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_refused(net, images, mean, backend, value):
    plan, host = net
    broken = {**host, "fc@0.b": np.full(CLASSES, value, np.float32)}
    with np.errstate(invalid="ignore"), pytest.raises(NumericError):
        scored((plan, broken), images, mean, backend, batch=4)
