"""Crops: slices minus the mean, at positions that depend only on seed, epoch and index."""

import numpy as np
import pytest

from refnet.data.crops import Augmentation, _words, centre
from refnet.data.dataset import Colours
from refnet.errors import ConfigError
from refnet.ops import augment, philox
from refnet.randomness import Purpose, normal

N, H, W, C = 40, 7, 9, 3
SIZE = (5, 6)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (N, H, W, C), np.uint8)


@pytest.fixture
def mean():
    return np.random.default_rng(1).uniform(0, 255, (H, W, C)).astype(np.float32)


# cuda-convnet2's figures for ImageNet: deviations along the axes, which are the columns of the matrix.
IMAGENET = Colours(
    np.array([127.30, 119.72, 104.91]),
    np.array([19.72, 37.09, 121.78]),
    np.array([[0.418, -0.713, -0.564], [-0.817, -0.024, -0.576], [0.397, 0.701, -0.592]]),
)


def random_crops(images, mean, size, *, flip, seed, epoch, indices):
    channels = images.shape[3]
    colours = Colours(np.zeros(channels), np.zeros(channels), np.eye(channels))
    draws = Augmentation(size, flip).draw(indices, shape=images.shape[1:], colours=colours, seed=seed, epoch=epoch)
    return augment.forward(images, mean, *draws, size=size)


def centre_crops(images, mean, size):
    return augment.forward(images, mean, *centre(len(images), images.shape[1:], size), size=size)


def crops(images, mean, indices, *, seed=1, epoch=2, flip=True):
    return random_crops(images[indices], mean, SIZE, flip=flip, seed=seed, epoch=epoch, indices=indices)


def test_a_crop_is_the_slice_less_the_mean(images, mean):
    """By the documented rule: features 0, 1, 2 of the index are row, column and mirror."""
    indices = np.random.default_rng(2).permutation(N)
    got = crops(images, mean, indices)
    assert got.shape == (N, C, *SIZE)
    assert got.dtype == np.float32
    for crop, index in zip(got, indices, strict=True):
        words = philox.bits(1, 3, key=(1, Purpose.CROPS), counter=(2, 0, int(index), 0))[0]
        r, s, mirror = (int(word) * n >> 32 for word, n in zip(words, (3, 4, 2), strict=True))
        window = (images[index].astype(np.float32) - mean)[r : r + 5, s : s + 6]
        expected = window[:, ::-1] if mirror else window
        assert np.array_equal(crop, expected.transpose(2, 0, 1))


def test_every_offset_and_mirror_occurs_equally_often():
    n = 24000
    canvas = np.arange(H * W, dtype=np.uint8).reshape(1, H, W, 1)
    drawn = random_crops(
        np.broadcast_to(canvas, (n, H, W, 1)),
        np.zeros((H, W, 1), np.float32),
        SIZE,
        flip=True,
        seed=0,
        epoch=0,
        indices=np.arange(n),
    )
    counts = np.unique(drawn[:, 0, 0, [0, -1]], axis=0, return_counts=True)[1]
    assert len(counts) == 3 * 4 * 2
    assert np.abs(counts - n / 24).max() < 5 * np.sqrt(n / 24)


def test_any_split_into_batches_gives_the_same_crops(images, mean):
    order = np.random.default_rng(3).permutation(N)
    whole = crops(images, mean, order)
    for cut in (1, 7, 39):
        parts = [crops(images, mean, order[:cut]), crops(images, mean, order[cut:])]
        assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("change", [{"seed": 9}, {"epoch": 9}])
def test_seed_and_epoch_matter(images, mean, change):
    indices = np.arange(N)
    assert not np.array_equal(crops(images, mean, indices), crops(images, mean, indices, **change))


def test_without_flip_nothing_is_mirrored_and_offsets_stay(images, mean):
    indices = np.arange(N)
    plain, flipped = crops(images, mean, indices, flip=False), crops(images, mean, indices)
    same = [np.array_equal(a, b) for a, b in zip(plain, flipped, strict=True)]
    mirrored = [np.array_equal(a[..., ::-1], b) for a, b in zip(plain, flipped, strict=True)]
    assert all(a or b for a, b in zip(same, mirrored, strict=True))
    assert 0 < sum(mirrored) < N


def test_not_at_random_every_epoch_has_the_centre_and_its_colours():
    indices, shape = np.arange(N), (H, W, C)
    still = Augmentation(SIZE, flip=True, colour_noise=0.1, crop_sharing=8, at_random=False)
    drawn = [still.draw(indices, shape=shape, colours=IMAGENET, seed=1, epoch=epoch) for epoch in (1, 2)]
    for draws in drawn:
        expected = centre(N, shape, SIZE)
        assert (draws.offsets == expected.offsets).all()
        assert not draws.flips.any()
    moving = Augmentation(SIZE, flip=True, colour_noise=0.1).draw(
        indices, shape=shape, colours=IMAGENET, seed=1, epoch=1
    )
    assert drawn[0].shifts.tobytes() == moving.shifts.tobytes() != drawn[1].shifts.tobytes()


def test_words_are_those_of_philox():
    """Also of an index that 16 bits would not hold; pinned."""
    indices = np.array([0, 5, 4_000_000])
    words = np.stack(_words(indices, 0, (7, Purpose.CROPS), 2), axis=-1)
    for index, row in zip(indices, words, strict=True):
        expected = philox.bits(1, 4, key=(7, Purpose.CROPS), counter=(2, 0, int(index), 0))[0]
        assert np.array_equal(row, expected)
    assert words[:, 0].tolist() == [1535252659, 1486267825, 763451479]


@pytest.mark.parametrize(("size", "r", "s"), [((5, 5), 1, 2), ((4, 6), 1, 1), ((7, 9), 0, 0)])
def test_centre(images, mean, size, r, s):
    got = centre_crops(images, mean, size)
    expected = (images.astype(np.float32) - mean)[:, r : r + size[0], s : s + size[1]].transpose(0, 3, 1, 2)
    assert got.dtype == np.float32
    assert np.array_equal(got, expected)


def test_a_whole_image_is_a_crop(images, mean):
    got = random_crops(images, mean, (H, W), flip=False, seed=0, epoch=0, indices=np.arange(N))
    assert np.array_equal(got, centre_crops(images, mean, (H, W)))


def test_no_images(images, mean):
    assert crops(images, mean, np.arange(0)).shape == (0, C, *SIZE)


@pytest.mark.parametrize("size", [(8, 6), (5, 10), (0, 5)])
def test_a_crop_must_fit(images, mean, size):
    with pytest.raises(ConfigError, match=rf"crop of {size[0]}x{size[1]} does not fit in images of 7x9"):
        centre_crops(images, mean, size)
    with pytest.raises(ConfigError, match="does not fit"):
        random_crops(images, mean, size, flip=True, seed=0, epoch=0, indices=np.arange(N))


# Sharing


def drawn(indices, *, position=0, shape=(H, W, C), colours=IMAGENET, seed=1, epoch=2, **how):
    augmentation = Augmentation(SIZE, **{"flip": True, **how})
    return augmentation.draw(indices, shape=shape, colours=colours, seed=seed, epoch=epoch, position=position)


def test_images_in_a_row_share_crop_and_mirror_and_no_colours():
    indices = np.random.default_rng(0).permutation(1000)[:96]
    offsets, flips, shifts = drawn(indices, crop_sharing=32, colour_noise=0.1)
    groups = np.concatenate([offsets, flips[:, None]], axis=1).reshape(3, 32, 3)
    assert (groups == groups[:, :1]).all()
    assert len(np.unique(groups[:, 0], axis=0)) > 1
    assert len(np.unique(shifts, axis=0)) == 96
    for group in range(3):
        words = philox.bits(1, 3, key=(1, Purpose.CROPS), counter=(2, 1, group, 0))[0]
        assert groups[group, 0].tolist() == [int(word) * n >> 32 for word, n in zip(words, (3, 4, 2), strict=True)]


def test_groups_are_counted_from_the_epochs_start():
    indices = np.arange(96)
    whole = drawn(indices, crop_sharing=32)
    rest = drawn(indices[40:], position=40, crop_sharing=32)
    for a, b in zip(whole, rest, strict=True):
        assert np.array_equal(a[40:], b)


def test_unshared_draws_do_not_depend_on_the_position():
    for a, b in zip(drawn(np.arange(9)), drawn(np.arange(9), position=40), strict=True):
        assert np.array_equal(a, b)


# Colours


def test_the_shift_is_the_papers_formula():
    """[p1 p2 p3] [a1 l1, a2 l2, a3 l3]^T, with a drawn for each image as documented."""
    indices = np.array([5, 0, 4_000_000])
    shifts = drawn(indices, colour_noise=0.3).shifts
    assert shifts.dtype == np.float32
    for index, shift in zip(indices, shifts, strict=True):
        alpha = 0.3 * normal(1, 4, key=(1, Purpose.COLOUR), counter=(2, 0, int(index), 0))[0, :3]
        np.testing.assert_allclose(shift, IMAGENET.vectors @ (alpha * IMAGENET.deviations), rtol=1e-6)


def test_the_unit_is_the_standard_deviation():
    """On ImageNet a tenth of it is 12 grey levels along the grey axis; a tenth of the eigenvalue would be 1,483."""
    shifts = drawn(np.arange(20_000), colour_noise=0.1).shifts.astype(np.float64)
    along = shifts @ np.linalg.inv(IMAGENET.vectors).T
    np.testing.assert_allclose(along.std(axis=0), [1.972, 3.709, 12.178], rtol=0.03)
    assert np.abs(along.mean(axis=0)).max() < 0.3
    assert np.abs(np.corrcoef(along.T) - np.eye(3)).max() < 0.03


def test_the_same_shifts_for_any_split_into_batches():
    order = np.random.default_rng(3).permutation(200)
    whole = drawn(order, colour_noise=0.1).shifts
    for cut in (1, 7, 150):
        parts = [drawn(part, colour_noise=0.1).shifts for part in (order[:cut], order[cut:])]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("change", [{"seed": 9}, {"epoch": 9}])
def test_seed_and_epoch_matter_for_colours(change):
    assert (
        drawn(np.arange(9), colour_noise=0.1).shifts != drawn(np.arange(9), colour_noise=0.1, **change).shifts
    ).all()


def test_noise_changes_colours_alone():
    plain, noisy = drawn(np.arange(50)), drawn(np.arange(50), colour_noise=0.1)
    assert not plain.shifts.any()
    assert np.array_equal(plain.offsets, noisy.offsets)
    assert np.array_equal(plain.flips, noisy.flips)


def test_gray_images_have_one_shift():
    gray = Colours(np.array([99.0]), np.array([50.0]), np.ones((1, 1)))
    shifts = drawn(np.arange(5000), shape=(H, W, 1), colours=gray, colour_noise=0.1).shifts
    assert shifts.shape == (5000, 1)
    assert abs(shifts.std() - 5) < 0.2
