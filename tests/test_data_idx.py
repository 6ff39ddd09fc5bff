"""IDX files, the form of MNIST: compressed or not, real and damaged."""

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
        (b"", "is not an IDX file of bytes with 3 axes: it begins with "),
        (bytes([0, 0, 8, 1, 0, 0, 0, 9, *bytes(9)]), "it begins with 00000801"),
        (bytes([0, 0, 13, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]), "it begins with 00000d03"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "it begins with 89504e47"),
        (bytes([0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 4]), "is damaged: its header promises 0x5x4 bytes"),
        (
            bytes([0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 4]),
            "is damaged: its header promises .* bytes",
        ),
        (bytes([0, 0, 8, 3, 0, 16, 0, 0, 0, 0, 0, 28, 0, 0, 0, 28]), "its header promises 822,083,584 bytes.*has 0"),
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
    refused(root, rf"its header promises 400 bytes \(20x5x4\), but it has {'399' if change < 0 else 'more'}")


@pytest.mark.parametrize("tenth", range(10))
def test_gzip_cut_short(root, tenth):
    path = root / "train-labels-idx1-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])
    refused(root, "train-labels-idx1-ubyte.gz (is damaged or cut short|is not an IDX file)")


def test_gzip_damaged(root):
    path = root / "train-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    refused(root, "train-labels-idx1-ubyte.gz cannot be read: CRC check failed")


def test_a_bomb(root):
    path = root / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(60)) + bytes(50_000_000)))
    refused(root, "its header promises 60 bytes .*, but it has more")


def test_test_labels_that_train_lacks(root):
    _, labels = contents("t10k")
    (root / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.where(np.arange(20) == 4, 7, labels))))
    refused(root, r"t10k-labels-idx1-ubyte\.gz: a label is 7, but the training labels are 0\.\.2")


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


# The names that distributors give


def write(folder, names, *, first=0, table=False, classes=3):
    """Write a set of 12x12 images, whose corner says their label, under four names."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    images_of = {}
    for split, count in (("train", 40), ("test", 20)):
        labels = np.arange(count) % classes + first
        images = rng.integers(0, 256, (count, 12, 12))
        images[:, 0, 5] = labels
        images_of[split] = images
        if table:
            columns = np.stack([labels, *np.full((7, count), 9)], axis=1).astype(">i4")
            content = bytes([0, 0, 12, 2, *count.to_bytes(4, "big"), 0, 0, 0, 8]) + columns.tobytes()
        else:
            content = idx(labels)
        for name, data in zip(names[split], (idx(images), content), strict=True):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return images_of


def pair(start, split, between="-", end="", labels="idx1-ubyte"):
    return f"{start}{split}-images{between}idx3-ubyte{end}", f"{start}{split}-labels{between}{labels}{end}"


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("between", ["-", "."])
@pytest.mark.parametrize("inside", ["", "raw", "gzip"])
def test_mnist_and_those_of_its_names(tmp_path, end, between, inside):
    """Those of Fashion-MNIST and KMNIST, as downloaded, unpacked by any program, or stored by torchvision."""
    names = {"train": pair("", "train", between, end), "test": pair("", "t10k", between, end)}
    images = write(tmp_path / "MNIST" / inside, names)
    source = read_source(str(tmp_path / "MNIST"))
    assert (source.name, source.classes) == ("MNIST", ("0", "1", "2"))
    assert np.array_equal(source.test.pixels[..., 0], images["test"])


def test_files_in_folders_of_their_names(tmp_path):
    """As one archive of Kaggle's has them, beside the same files outside of the folders."""
    plain = {"train": pair("", "train", "."), "test": pair("", "t10k", ".")}
    in_folders = {split: tuple(f"{n.replace('.', '-')}/{n.replace('.', '-')}" for n in plain[split]) for split in plain}
    images = write(tmp_path, in_folders)
    assert np.array_equal(read_source(str(tmp_path)).test.pixels[..., 0], images["test"])
    write(tmp_path, plain)
    assert len(read_source(str(tmp_path)).test) == 20


MAPPING = {"letters": "1 65 97\n2 66 98\n3 67 99\n", "balanced": "0 48\n1 65\n2 97\n"}


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("kind", "first", "mapped", "classes"),
    [
        ("letters", 1, True, ("Aa", "Bb", "Cc")),
        ("letters", 1, False, ("1", "2", "3")),
        ("balanced", 0, True, ("0", "A", "a")),
        ("digits", 0, False, ("0", "1", "2")),
        ("mnist", 0, False, ("0", "1", "2")),
    ],
)
def test_emnist(tmp_path, end, kind, first, mapped, classes):
    start = f"emnist-{kind}-"
    names = {split: pair(start, split, end=end) for split in ("train", "test")}
    images = write(tmp_path / "gzip", names, first=first)
    if mapped:
        (tmp_path / "gzip" / f"{start}mapping.txt").write_text(MAPPING[kind])
    source = read_source(str(tmp_path / "gzip"))
    assert (source.name, source.classes) == (f"emnist-{kind}", classes)
    assert source.layout.endswith("; images transposed to stand upright")
    assert np.array_equal(source.test.pixels[..., 0], images["test"].transpose(0, 2, 1))
    assert np.array_equal(source.test.labels, source.test.pixels[:, 5, 0, 0] - first)
    assert np.array_equal(source.train.labels, source.train.pixels[:, 5, 0, 0] - first)


def test_one_of_several_sets_is_named(tmp_path):
    for kind, classes in (("letters", 2), ("digits", 3)):
        names = {split: pair(f"emnist-{kind}-", split, end=".gz") for split in ("train", "test")}
        write(tmp_path / "gzip", names, classes=classes)
    refused(tmp_path, r"several data sets \(emnist-digits, emnist-letters\): name one .*/gzip/emnist-digits$")
    assert len(read_source(str(tmp_path / "gzip" / "emnist-digits")).classes) == 3
    assert len(read_source(str(tmp_path / "gzip" / "emnist-letters")).classes) == 2
    with pytest.raises(DataError, match="does not exist"):
        read_source(str(tmp_path / "gzip" / "emnist-balanced"))


@pytest.mark.parametrize("mapping", ["", "1\n", "1 65 97 99\n2 65 97\n3 6x\n", "\xff\n1 999999999\n", "1 7\n"])
def test_a_mapping_that_cannot_name_the_classes(tmp_path, mapping):
    names = {split: pair("emnist-letters-", split) for split in ("train", "test")}
    write(tmp_path, names, first=1)
    (tmp_path / "emnist-letters-mapping.txt").write_text(mapping)
    assert read_source(str(tmp_path)).classes == ("1", "2", "3")


def test_qmnist_has_its_digits_in_a_column(tmp_path):
    names = {split: pair("qmnist-", split, end=".gz", labels="idx2-int") for split in ("train", "test")}
    images = write(tmp_path, names, table=True)
    source = read_source(str(tmp_path))
    assert (source.name, source.classes) == ("qmnist", ("0", "1", "2"))
    assert np.array_equal(source.test.pixels[..., 0], images["test"])
    assert np.array_equal(source.test.labels, np.arange(20) % 3)
    path = tmp_path / "qmnist-test-labels-idx2-int.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[12 + 3 * 32] = 128
    path.write_bytes(gzip.compress(bytes(content)))
    refused(tmp_path, "a label is -2147483648, but the training labels are 0..2")


def test_a_set_with_a_missing_file(tmp_path):
    write(tmp_path, {split: pair("emnist-letters-", split) for split in ("train", "test")})
    (tmp_path / "emnist-letters-test-labels-idx1-ubyte").unlink()
    refused(tmp_path, r"has no emnist-letters-test-labels-idx1-ubyte \(nor emnist-letters-test-labels-idx1-ubyte\.gz\)")


@pytest.mark.parametrize("name", ["mnist.npz", "kmnist-train-imgs.npz", "k49-test-labels.npz"])
def test_numpy_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    for given in (tmp_path, tmp_path / name):
        refused(
            given, rf"{name} is a file of NumPy arrays, .*: get the IDX files .*, or load .*data=\(images, labels\)"
        )
