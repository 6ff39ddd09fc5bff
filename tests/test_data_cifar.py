"""CIFAR-10's binary files: every byte is read correctly, and other files are rejected."""

import pickle

import numpy as np
import pytest

from refnet.data.dataset import describe
from refnet.data.opening import open_dataset, read_source
from refnet.data.readers.cifar import CLASSES, RECORD, TEST, TRAIN
from refnet.errors import DataError

EACH = 40  # records in a file


def records(seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(EACH) % 10)
    return np.concatenate([labels[:, None], rng.integers(0, 256, (EACH, RECORD - 1))], axis=1).astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    for seed, name in enumerate((*TRAIN, TEST)):
        (tmp_path / name).write_bytes(records(seed).tobytes())
    return tmp_path


def refused(root, match):
    with pytest.raises(DataError, match=match) as caught:
        read_source(str(root))
    assert str(caught.value).isprintable()


def test_every_pixel(root):
    """A record is its label, then the red, the green and the blue plane, row by row."""
    source = read_source(str(root))
    assert source.classes == source.words == CLASSES
    everything = np.concatenate([records(seed) for seed in range(5)])
    pictures = [*zip(source.train.labels, source.train.pixels, strict=True)]
    pictures += zip(source.validation.labels, source.validation.pixels, strict=True)
    found = {(int(label), pixels.tobytes()) for label, pixels in pictures}
    assert len(pictures) == len(found) == 5 * EACH
    assert found == {(int(r[0]), r[1:].reshape(3, 32, 32).transpose(1, 2, 0).tobytes()) for r in everything}
    last = records(5)[-1]
    image = source.test.image(EACH - 1, 32, 3)
    assert source.test.labels[-1] == last[0]
    assert image[3, 5].tolist() == last[[1 + 3 * 32 + 5, 1 + 1024 + 3 * 32 + 5, 1 + 2048 + 3 * 32 + 5]].tolist()


def test_a_tenth_of_each_class_validates(root):
    source = read_source(str(root))
    assert np.bincount(source.validation.labels).tolist() == [2] * 10
    assert np.bincount(source.train.labels).tolist() == [18] * 10
    again = read_source(str(root))
    assert np.array_equal(again.validation.pixels, source.validation.pixels)


def test_the_folder_that_the_archive_makes(root, tmp_path):
    inner = tmp_path / "above" / "cifar-10-batches-bin"
    inner.parent.mkdir()
    inner.mkdir()
    for name in (*TRAIN, TEST):
        (root / name).rename(inner / name)
    assert describe(open_dataset(str(inner.parent), image_size=32, channels=3)) == (
        f"cifar10 ({inner.parent}): CIFAR-10, binary version, a tenth of each training class held out to validate; "
        "10 classes; 180 training, 20 validation and 40 test images of 32x32x3"
    )


@pytest.mark.parametrize(("size", "channels"), [(24, 3), (32, 1)])
def test_another_form_is_made_as_from_a_file(root, size, channels):
    from PIL import Image

    from refnet.data.decode import read

    source = read_source(str(root))
    Image.fromarray(source.test.pixels[7]).save(root / "a.png")
    assert np.array_equal(source.test.image(7, size, channels), read(str(root / "a.png"), size, channels))


@pytest.mark.parametrize("name", [TRAIN[2], TEST])
def test_a_file_is_missing(root, name):
    (root / name).unlink()
    refused(root, rf"/{name} is missing")


@pytest.mark.parametrize("length", [0, 1, RECORD - 1, EACH * RECORD - 1, EACH * RECORD + 1])
def test_no_whole_number_of_records(root, length):
    path = root / TRAIN[1]
    path.write_bytes((path.read_bytes() + b"x")[:length])
    refused(root, rf"/data_batch_2\.bin has {length:,} bytes, which is not a number of records of 3,073")


def test_a_label_that_is_no_class(root):
    content = bytearray((root / TEST).read_bytes())
    content[3 * RECORD] = 10
    (root / TEST).write_bytes(content)
    refused(root, r"/test_batch\.bin: a label is 10, but CIFAR-10 has labels 0\.\.9")


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
def test_pickles_are_refused_and_not_opened(tmp_path, inside):
    folder = tmp_path / inside
    folder.mkdir(exist_ok=True)
    for name in ("data_batch_1", "data_batch_2", "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Payload(str(tmp_path / "opened"))))
    refused(tmp_path, "Python version of CIFAR-10, whose files are pickles.*get the binary version")
    assert not (tmp_path / "opened").exists()


def test_a_single_pickle(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(Payload(str(tmp_path / "opened"))))
    refused(tmp_path / "data_batch_1", "is a pickle, and to open a pickle is to run what it says")
    assert not (tmp_path / "opened").exists()
