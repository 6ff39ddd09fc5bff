"""The embedded digits: their pixels, their fixed split, and the options that they accept."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from refnet.data.dataset import ArraySplit, check_fits, describe
from refnet.data.opening import open_dataset
from refnet.data.readers.digits import split
from refnet.errors import DataError


@pytest.fixture(scope="module")
def digits():
    return open_dataset("digits", image_size=10, channels=1)


def everything(part):
    return part.images(np.arange(len(part)))


def test_the_split_is_pinned(digits):
    parts = split()
    assert sorted(np.concatenate(parts).tolist()) == list(range(1797))
    assert [hashlib.sha256(part.astype("<i8").tobytes()).hexdigest()[:16] for part in parts] == [
        "d16595b918a266f3",
        "232971e0536e6d3e",
        "fede9471a028b85d",
    ]
    assert np.bincount(digits.train.labels).tolist() == [131, 137, 141, 132, 122, 124, 120, 135, 129, 126]
    assert np.bincount(digits.validation.labels).tolist() == [10, 11, 15, 17, 17, 14, 13, 14, 15, 14]
    assert np.bincount(digits.test.labels).tolist() == [37, 34, 21, 34, 42, 44, 48, 30, 30, 40]


def test_the_pixels_are_those_of_the_original(digits):
    """The first image of optdigits.tes is a 0 with these rows of pixels; it is at the index that the split gives."""
    first = [0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0], [0, 3, 15, 2, 0, 11, 8, 0]
    parts = (digits.train, digits.validation, digits.test)
    (part, place) = next((p, np.flatnonzero(ix == 0)) for p, ix in zip(parts, split(), strict=True) if 0 in ix)
    image = part.images(place)[0]
    assert part.labels[place] == 0
    assert image[1:4, 1:9, 0].tolist() == list(first)
    assert sum(int(everything(p).sum(dtype=np.int64)) for p in parts) == 561_718


def test_images_have_a_border_of_zeros(digits):
    images = everything(digits.train)
    assert images.shape == (1297, 10, 10, 1)
    assert images.dtype == np.uint8
    assert images.max() == 16
    assert images.sum() == images[:, 1:9, 1:9].sum()
    assert digits.image_shape == images.shape[1:]


def test_mean(digits):
    assert digits.mean.dtype == np.float32
    expected = everything(digits.train).astype(np.float64).mean(axis=0).astype(np.float32)
    assert np.array_equal(digits.mean, expected)


def test_images_come_in_the_order_asked_and_are_fresh(digits):
    images = digits.test.images(np.array([5, 3, 5]))
    assert np.array_equal(images, everything(digits.test)[[5, 3, 5]])
    images[:] = 99
    assert digits.test.images(np.array([5])).max() <= 16


def test_describe(digits):
    assert describe(digits) == (
        "digits (embedded): handwritten digits, fixed split; 10 classes; 1,297 training, 140 validation and 360 test "
        "images of 10x10x1"
    )


@pytest.mark.parametrize(("size", "channels"), [(256, 3), (10, 3), (8, 1)])
def test_a_net_that_reads_other_images(size, channels):
    with pytest.raises(DataError, match=rf"10x10x1, the net asks for {size}x{size}x{channels}.*net 'digits'"):
        open_dataset("digits", image_size=size, channels=channels)


def test_check_fits(digits):
    check_fits(digits, 10)
    check_fits(digits, 1000)
    with pytest.raises(DataError, match=r"digits has 10 classes, the net has 9 outputs"):
        check_fits(digits, 9)


@pytest.mark.parametrize("label", [-1, 10])
@pytest.mark.parametrize("which", ["train", "validation", "test"])
def test_labels_out_of_range(digits, which, label):
    part = getattr(digits, which)
    labels = part.labels.copy()
    labels[7] = label
    wrong = replace(digits, **{which: ArraySplit(labels, part.pixels)})
    with pytest.raises(DataError, match=rf"label is {label}, but labels must lie in 0\.\.9 \(1 of {len(part)} "):
        check_fits(wrong, 1000)


# Some of the images


@pytest.mark.parametrize("images", [1, 100, 1296])
def test_few_images_are_some_of_all(digits, images):
    few = digits.subset(images)
    assert (len(few.train), len(few.test)) == (images, 360)
    assert len(few.validation) == max(1, round(140 * images / 1297))
    numbers = few.train.chosen
    assert (np.diff(numbers) > 0).all()
    assert few.train.labels.tolist() == digits.train.labels[numbers].tolist()
    assert everything(few.train).tobytes() == digits.train.images(numbers).tobytes()
    backwards = np.arange(images)[::-1]
    assert few.train.images(backwards).tobytes() == digits.train.images(numbers[::-1]).tobytes()
    assert few.train.where(images - 1) == digits.train.where(int(numbers[-1]))
    assert few.mean is digits.mean
    assert few.image_shape == few.train.shape == digits.image_shape


def test_fewer_are_among_more_and_of_every_class(digits):
    small, large = digits.subset(100).train, digits.subset(200).train
    assert set(small.chosen) < set(large.chosen)
    assert (digits.subset(100).train.chosen == small.chosen).all()
    assert set(small.labels) == set(range(10))


@pytest.mark.parametrize("images", [1297, 5000])
def test_there_are_no_more_than_all(digits, images):
    few = digits.subset(images)
    assert few.train is digits.train
    assert few.validation is digits.validation


def test_where_validation_tests_it_still_does(digits):
    few = replace(digits, test=digits.validation).subset(500)
    assert few.test is few.validation
