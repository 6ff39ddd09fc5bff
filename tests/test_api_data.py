"""``refnet.open_data``: named data sets, folders, arrays, and what it rejects."""

from pathlib import Path

import numpy as np
import pytest
from programs import QUICK, blank_images, folder_of_pets

import refnet
from refnet.errors import DataError

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")


def test_a_named_data_set(digits):
    assert digits.classes == tuple("0123456789")
    assert [len(split) for split in (digits.train, digits.validation, digits.test)] == [1297, 140, 360]
    assert digits.image_shape == (10, 10, 1)
    assert repr(digits) == (
        "<Data digits: handwritten digits, fixed split; 10 classes; 1,297 training, 140 validation, 360 test images of "
        "10x10x1>"
    )
    assert repr(digits.test) == "<360 images of 10x10x1>"


def test_images_are_indexed(digits):
    image, label = digits.train[3]
    images, labels = digits.train[2:5]
    chosen, _ = digits.train[np.array([3, 0])]
    assert image.shape == (10, 10, 1)
    assert image.dtype == np.uint8
    assert isinstance(label, int)
    np.testing.assert_array_equal(images[1], image)
    np.testing.assert_array_equal(chosen[0], image)
    assert labels.tolist() == digits.train.labels[2:5].tolist()
    assert digits.train[-1][1] == digits.train.labels[-1]
    assert len(list(digits.validation)) == 140
    with pytest.raises(IndexError):
        digits.train[1297]


def test_a_folder_of_images(tmp_path):
    data = refnet.open_data(folder_of_pets(tmp_path / "pets"))
    assert (data.name, data.classes) == ("pets", ("cat", "dog"))
    assert data.train[0][0].shape == (256, 256, 3)
    assert data.dataset(image_size=8, channels=3).image_shape == (8, 8, 3)


def test_a_prepared_folder(tmp_path, monkeypatch):
    from refnet.cli.main import main

    monkeypatch.chdir(tmp_path)
    folder_of_pets(tmp_path / "pets")
    assert main(["data", "prepare", "pets", "ready", "--size", "16"]) == 0
    data = refnet.open_data("ready")
    assert data.image_shape == (16, 16, 3)
    assert len(data.train) + len(data.validation) + len(data.test) == 12
    assert data.dataset(image_size=16, channels=3).image_shape == (16, 16, 3)


def test_arrays_are_held_out_as_files_of_a_folder_are(tmp_path):
    data = refnet.open_data(folder_of_pets(tmp_path / "pets"))
    number = {str(file): i for i, file in enumerate(sorted((tmp_path / "pets").rglob("*.png")))}
    images = np.arange(12, dtype=np.uint8).repeat(16).reshape(12, 4, 4)
    arrays = refnet.open_data((images, np.repeat([0, 1], 6)), classes=["cat", "dog"])
    for name, files in data.source.splits.items():
        assert getattr(arrays, name)[:][0][:, 0, 0, 0].tolist() == [number[path] for path in files.paths]
    assert arrays.classes == ("cat", "dog")
    assert arrays.layout == "arrays of 4x4x1, a fifth of each class held out for validation and a fifth for test"
    assert [len(split) for split in (arrays.train, arrays.validation, arrays.test)] == [8, 2, 2]


@pytest.mark.parametrize("given", ["validation", "test"])
def test_a_tenth_is_held_out_for_what_is_missing(given):
    data = refnet.open_data(blank_images(), **{given: blank_images(5)})
    missing = {"validation": "test", "test": "validation"}[given]
    assert len(getattr(data, given)) == 5
    assert (len(data.train), len(getattr(data, missing))) == (18, 2)
    assert data.layout == f"arrays of 4x4x1, a tenth of each class held out for {missing}"


def test_nothing_is_held_out_of_arrays_with_both():
    data = refnet.open_data(blank_images(), validation=blank_images(5), test=blank_images(6))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [20, 5, 6]
    assert data.layout == "arrays of 4x4x1"


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64, list])
def test_labels_are_integers_of_any_type(kind):
    images, labels = blank_images()
    data = refnet.open_data((images, labels.tolist() if kind is list else labels.astype(kind)))
    assert data.classes == ("0", "1")
    assert data.train.labels.dtype == np.int64


def test_labels_are_names_of_classes():
    images, labels = blank_images()
    names = np.array(["dog", "cat"])[labels]
    assert refnet.open_data((images, names)).classes == ("cat", "dog")
    ordered = refnet.open_data((images, names.astype(object)), classes=["dog", "cat"])
    assert ordered.classes == ("dog", "cat")
    validation = refnet.open_data((images, names), validation=(images[:2], ["cat", "dog"])).validation
    assert validation.labels.tolist() == [0, 1]


images, labels = blank_images()


WRONG = [
    ((images / 255, labels), {}, "data: images are float64 from 0.0 to 0.0, not uint8; convert them: (255 * images)"),
    ((images.astype(int) + 200, labels), {}, "data: images are int64 from 200 to 200, not uint8; convert them: images"),
    ((images - 300.0, labels), {}, "data: images are float64 from -300.0 to -300.0, not uint8; scale them"),
    ((images[0], labels[:1]), {}, "data: images have shape (4, 4), not (N,H,W)"),
    (blank_images(shape=(3, 4, 4)), {}, "(20, 3, 4, 4), not (N,H,W), (N,H,W,1) or (N,H,W,3); move the channels"),
    (blank_images(shape=(4, 4, 4)), {}, "drop the fourth channel: images[..., :3]"),
    ((images[:0], labels[:0]), {}, "data: images have shape (0, 4, 4, 1)"),
    (([images[0], images[0][:2]], labels[:2]), {}, "data: images differ in shape"),
    ((images, labels[:-1]), {}, "data: 20 images, but 19 labels"),
    ((images, labels.astype(float)), {}, "data: labels are float64, not integers or names; convert them: labels"),
    ((images, np.eye(2)[labels].astype(int)), {}, "data: labels have shape (20, 2), not (N,); try labels.argmax"),
    ((images, labels[:, None]), {}, "data: labels have shape (20, 1), not (N,); try labels.ravel()"),
    ((images, labels - 1), {}, "data: a label is -1, but"),
    ((images, labels), {"classes": ["a"]}, "data: a label is 1, but 1 classes have the labels 0 to 0 (10 of 20 labels"),
    ((images, labels), {"test": (images, labels + 1)}, "test: a label is 2, but 2 classes have the labels 0 to 1"),
    (
        (images, labels),
        {"validation": (images, ["x"] * 20)},
        "validation: the label 'x' is none of the 2 classes (0, 1)",
    ),
    ((images, labels), {"validation": images}, "validation has ndarray; give a pair of two arrays, validation=(images"),
    ((images, labels), {"classes": "ab"}, "classes='ab' is one text"),
    ((images, labels), {"classes": ["a", "a"]}, "classes: 'a' is there 2 times"),
    ((images, labels, labels), {}, "data has 3 items; give a pair of two arrays, data=(images, labels)"),
    ((images[:3], [0, 0, 1]), {}, "the class '0' has 2 of the 3 images needed to hold 2 out"),
    ((images, labels * 0), {}, "data: one class, '0'"),
    (
        (images, labels + 2**40),
        {},
        "the largest of 20 is 1099511627777; number the classes from 0: numpy.unique(labels",
    ),
    ((images, labels), {"classes": 10}, "classes=10 is int; give a list of names"),
    ((images, labels), {"classes": []}, "classes is empty; give a list of names"),
    ("digits", {"classes": ["a"]}, "classes= belongs to arrays, but data='digits' has its own"),
    ("nowhere", {}, "nowhere does not exist"),
]


@pytest.mark.parametrize(("data", "more", "message"), WRONG, ids=[w[2][:40] for w in WRONG])
def test_wrong_data_is_refused_by_the_argument_s_name(data, more, message):
    with pytest.raises(DataError) as error:
        refnet.open_data(data, **more)
    assert message in str(error.value)
    with pytest.raises(DataError) as error:
        refnet.train(data=data, **more, **QUICK)
    assert message in str(error.value)
    assert not Path("runs").exists()
