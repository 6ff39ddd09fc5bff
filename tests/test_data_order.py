"""The order of images: a permutation that never changes for a seed and epoch, and differs between epochs."""

import numpy as np
import pytest

from refnet.data.order import epoch_order, permutation
from refnet.ops import philox
from refnet.randomness import Purpose


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_every_thing_once(n):
    order = epoch_order(n, seed=3, epoch=5)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_pinned():
    """A changed order would change every run and the digits' split."""
    assert epoch_order(10, seed=7, epoch=3).tolist() == [6, 3, 8, 9, 0, 7, 4, 5, 2, 1]
    assert permutation(10, key=(0, Purpose.SPLIT), counter=(0, 2, 0, 0)).tolist() == [0, 1, 2, 9, 8, 7, 5, 3, 6, 4]


def test_the_words_sort():
    order = permutation(50, key=(1, 2), counter=(3, 4, 5, 6))
    words = philox.bits(50, 2, key=(1, 2), counter=(3, 4, 5, 6)).astype(object)
    keys = [high * 2**32 + low for high, low in words]
    assert [keys[i] for i in order] == sorted(keys)


def test_a_tie_keeps_the_order(monkeypatch):
    words = np.random.default_rng(0).integers(0, 3, (1000, 2), np.uint32)
    monkeypatch.setattr(philox, "bits", lambda *_, **__: words)
    expected = sorted(range(1000), key=lambda i: tuple(words[i]))  # sorted is stable
    assert permutation(1000, key=(0, 0), counter=(0, 0, 0, 0)).tolist() == expected


def test_the_low_word_decides_between_equal_high_words(monkeypatch):
    monkeypatch.setattr(philox, "bits", lambda *_, **__: np.array([[1, 2], [1, 1], [0, 3]], np.uint32))
    assert permutation(3, key=(0, 0), counter=(0, 0, 0, 0)).tolist() == [2, 1, 0]


def test_seed_and_epoch_matter():
    orders = {tuple(epoch_order(20, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
