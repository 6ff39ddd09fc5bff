"""IDX files: MNIST's form, compressed or not, real and wrong."""

import gzip
import hashlib

import numpy as np
import pytest

from refnet.data.opening import open_dataset, read_source
from refnet.data.readers.idx import FASHION_CLASSES
from refnet.errors import DataError

SHAPE = (5, 4)  # rows and columns
COUNTS = {"train": 60, "t10k": 20}


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def contents(part):
    rng = np.random.default_rng(len(part))
    count = COUNTS[part]
    return rng.integers(0, 256, (count, *SHAPE)), rng.permutation(np.arange(count) % 3)


@pytest.fixture
def root(tmp_path):
    for part in COUNTS:
        images, labels = contents(part)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


def refused(root, match):
    with pytest.raises(DataError, match=match) as caught:
        read_source(str(root))
    assert str(caught.value).isprintable()


def test_every_pixel(root):
    source = read_source(str(root))
    assert source.classes == ("0", "1", "2")
    images, labels = contents("t10k")
    assert np.array_equal(source.test.pixels[..., 0], images)
    assert np.array_equal(source.test.labels, labels)
    images, labels = contents("train")
    found = np.concatenate([source.train.pixels, source.validation.pixels])[..., 0]
    assert sorted(image.tobytes() for image in found) == sorted(i.astype(np.uint8).tobytes() for i in images)
    assert np.bincount(source.validation.labels).tolist() == [2, 2, 2]
    for split in (source.train, source.validation):
        for image, label in zip(split.pixels, split.labels, strict=True):
            assert label == labels[np.flatnonzero((images == image[..., 0]).all(axis=(1, 2)))[0]]


def test_the_other_spelling(root):
    for path in list(root.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(read_source(str(root)).test) == 20


def test_square_images_of_the_right_size_are_given_as_they_are(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6))
    for part in COUNTS:
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(40) % 2))
    dataset = open_dataset(str(tmp_path), image_size=6, channels=1)
    assert np.array_equal(dataset.test.images(np.arange(40))[..., 0], images)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_file_is_missing(root, name):
    for path in root.glob(f"{name}*"):
        path.unlink()
    refused(root, rf"has no {name} \(nor {name}\.gz\)")


def test_counts_differ(root):
    images, _ = contents("train")
    (root / "train-images-idx3-ubyte").write_bytes(idx(images[:59]))
    refused(root, r"train-images-idx3-ubyte has 59 images, .*train-labels-idx1-ubyte\.gz has 60 labels")


@pytest.mark.parametrize(
    ("head", "match"),
    [
        (b"", "is no IDX file of bytes with 3 axes: it begins with "),
        (bytes([0, 0, 8, 1, 0, 0, 0, 9, *bytes(9)]), "it begins with 00000801"),
        (bytes([0, 0, 13, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]), "it begins with 00000d03"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "it begins with 89504e47"),
        (bytes([0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 4]), "says that it holds 0x5x4 bytes"),
        (bytes([0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 4]), "bytes: it is damaged"),
        (bytes([0, 0, 8, 3, 0, 16, 0, 0, 0, 0, 0, 28, 0, 0, 0, 28]), "says that 822,083,584 bytes follow.*has 0"),
    ],
)
def test_wrong_heads(root, head, match):
    """The last one promises 822 MB and has none: no memory is taken for the promise."""
    (root / "train-images-idx3-ubyte").write_bytes(head)
    refused(root, match)


@pytest.mark.parametrize("change", [-1, 1])
def test_too_short_or_too_long(root, change):
    path = root / "t10k-images-idx3-ubyte"
    path.write_bytes((path.read_bytes() + b"x")[: path.stat().st_size + change])
    refused(root, rf"says that 400 bytes follow \(20x5x4\), but it has {'399' if change < 0 else 'more'}")


@pytest.mark.parametrize("tenth", range(10))
def test_gzip_cut_short(root, tenth):
    path = root / "train-labels-idx1-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])
    refused(root, "train-labels-idx1-ubyte.gz (is damaged or cut short|is no IDX file)")


def test_gzip_damaged(root):
    path = root / "train-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    refused(root, "train-labels-idx1-ubyte.gz cannot be read: CRC check failed")


def test_a_bomb(root):
    path = root / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(60)) + bytes(50_000_000)))
    refused(root, "says that 60 bytes follow .*, but it has more")


def test_test_labels_that_train_lacks(root):
    _, labels = contents("t10k")
    (root / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.where(np.arange(20) == 4, 7, labels))))
    refused(root, r"t10k-labels-idx1-ubyte: a label is 7, but the training labels are 0\.\.2")


def test_a_label_that_nothing_has(root):
    """Label 1 of 0..2 is missing: there is no picture of that class to hold out."""
    _, labels = contents("train")
    (root / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.where(labels == 1, 2, labels))))
    refused(root, "the class '1' has 0 of the 2 images needed")


def test_fashion_mnist_is_known_by_its_labels(root, monkeypatch):
    from refnet.data.readers import idx as reader

    _, labels = contents("train")
    monkeypatch.setattr(reader, "FASHION_LABELS_SHA256", hashlib.sha256(labels.astype(np.uint8).tobytes()).hexdigest())
    with pytest.raises(DataError, match="the class 'dress' has 0 of the 2 images needed"):  # these have three classes
        read_source(str(root))
    monkeypatch.setattr(reader, "FASHION_CLASSES", FASHION_CLASSES[:3])
    source = read_source(str(root))
    assert (source.name, source.classes) == ("fashion-mnist", ("T-shirt/top", "trouser", "pullover"))
