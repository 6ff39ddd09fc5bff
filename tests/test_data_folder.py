"""Image folders: the layouts, the held-out images, what is rejected, and that the order of reading does not matter."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refnet.data import on_demand, statistics
from refnet.data.dataset import describe
from refnet.data.decode import read
from refnet.data.opening import open_dataset
from refnet.data.parallel import Reading
from refnet.errors import DataError

PHOTOS = Path(__file__).parents[1].parent / "shared" / "data" / "photos"
SYNSETS = sorted(path.name for path in PHOTOS.iterdir())


def make(root, counts):
    """Write small PNGs: counts maps "train/cat" and the like to how many; each image is of one unique gray."""
    value = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            value += 1
            Image.new("L", (9, 8), value).save(root / name / f"{number:03}.png")
    return root


STOP = Reading(bad="stop")


def open_(root, **options):
    return open_dataset(str(root), **{"image_size": 8, "channels": 1, **options})


def paths(split):
    return split.pictures.paths


def grays(split):
    """The gray that tells an image from all others, in the split's order."""
    return split.images(np.arange(len(split)))[:, 0, 0, 0].tolist()


def refused(root, match, **options):
    with pytest.raises(DataError, match=match) as caught:
        open_(root, **options)
    assert all(line.isprintable() for line in str(caught.value).splitlines())
    assert str(root) in str(caught.value)
    return str(caught.value)


# Layouts


def test_photographs_flat():
    dataset = open_dataset(str(PHOTOS), image_size=64, channels=3)
    assert dataset.classes == tuple(SYNSETS)
    assert dataset.name == "photos"
    assert dataset.where == str(PHOTOS)
    assert dataset.image_shape == (64, 64, 3)
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [np.bincount(part.labels).tolist() for part in parts] == [[3] * 12, [1] * 12, [1] * 12]
    assert all(part.labels.dtype == np.int64 for part in parts)
    assert sorted(path for part in parts for path in paths(part)) == sorted(str(path) for path in PHOTOS.glob("*/*"))
    for part in parts:
        assert [SYNSETS[label] for label in part.labels] == [Path(path).parent.name for path in paths(part)]
        expected = np.stack([read(path, 64, 3) for path in paths(part)])
        assert np.array_equal(part.images(np.arange(len(part))), expected)
    assert describe(dataset) == (
        f"photos ({PHOTOS}): one folder per class, a fifth of each held out for validation and for test; 12 classes; "
        "36 training, 12 validation and 12 test images of 64x64x3"
    )


@pytest.mark.parametrize("val", ["val", "validation"])
def test_train_val_test(tmp_path, val):
    root = make(tmp_path, {"train/a": 2, "train/b": 1, f"{val}/a": 1, f"{val}/b": 2, "test/b": 1})
    dataset = open_(root)
    assert [grays(part) for part in (dataset.train, dataset.validation, dataset.test)] == [[1, 2, 3], [4, 5, 6], [7]]
    assert [part.labels.tolist() for part in (dataset.train, dataset.validation, dataset.test)] == [
        [0, 0, 1],
        [0, 1, 1],
        [1],
    ]
    assert dataset.layout == "folders train, val and test"


@pytest.mark.parametrize("val", ["val", "validation"])
def test_only_val_is_both(tmp_path, val):
    dataset = open_(make(tmp_path, {"train/a": 2, "train/b": 2, f"{val}/a": 1, f"{val}/b": 1}))
    assert dataset.test is dataset.validation
    assert grays(dataset.train) == [1, 2, 3, 4]
    assert grays(dataset.validation) == [5, 6]
    assert "val also serving as test" in describe(dataset)


def test_only_test_holds_a_tenth_of_train_out(tmp_path):
    dataset = open_(make(tmp_path, {"train/a": 40, "train/b": 19, "train/c": 2, "test/a": 1, "test/c": 1}))
    assert np.bincount(dataset.validation.labels).tolist() == [4, 1, 1]
    assert np.bincount(dataset.train.labels).tolist() == [36, 18, 1]
    assert sorted(grays(dataset.train) + grays(dataset.validation)) == list(range(1, 62))
    assert grays(dataset.test) == [62, 63]
    assert "a tenth of train held out" in describe(dataset)


def test_flat_holds_a_fifth_out_twice(tmp_path):
    dataset = open_(make(tmp_path, {"a": 3, "b": 9, "c": 10, "d": 40}))
    assert np.bincount(dataset.test.labels).tolist() == [1, 1, 2, 8]
    assert np.bincount(dataset.validation.labels).tolist() == [1, 1, 2, 8]
    assert np.bincount(dataset.train.labels).tolist() == [1, 7, 6, 24]
    assert sorted(grays(dataset.train) + grays(dataset.validation) + grays(dataset.test)) == list(range(1, 63))


def test_what_is_held_out_is_pinned(tmp_path):
    """A model's test images must stay unseen from version to version."""
    dataset = open_(make(tmp_path, {"a": 10, "b": 10}))
    assert grays(dataset.test) == [2, 3, 17, 20]
    assert grays(dataset.validation) == [6, 7, 11, 13]


def test_hidden_names_and_stray_files_are_passed_over(tmp_path):
    root = make(tmp_path, {"train/a": 1, "train/b": 1, "val/a": 1, "train/.cache": 1, ".test/a": 1, "docs/x": 1})
    (root / "README").write_text("text")
    (root / "train" / "labels.txt").write_text("text")
    (root / "train" / "a" / ".DS_Store").write_text("text")
    (root / "test").write_text("a file, not a folder")
    dataset = open_(root)
    assert dataset.classes == ("a", "b")
    assert (len(dataset.train), len(dataset.validation)) == (2, 1)


def test_classes_are_sorted_and_a_link_to_a_file_is_read(tmp_path):
    root = make(tmp_path, {"z": 3, "B": 3, "a": 3})
    (root / "a" / "linked.png").symlink_to(root / "z" / "000.png")
    dataset = open_(root)
    assert dataset.classes == ("B", "a", "z")
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 10


def test_links_out_of_the_tree(tmp_path):
    """A link to a picture elsewhere is read; a link to anything else is rejected, and its content not shown."""
    root = make(tmp_path / "tree", {"z": 3, "a": 3})
    make(tmp_path / "elsewhere", {"x": 1})
    (root / "a" / "out.png").symlink_to(tmp_path / "elsewhere" / "x" / "000.png")
    dataset = open_(root, reading=Reading(follow_links=True))
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 7
    (tmp_path / "secret").write_text("secret")
    (root / "a" / "secret.png").symlink_to(tmp_path / "secret")
    refused(root, r"/a/secret\.png is not an image refnet reads", reading=Reading(bad="stop", follow_links=True))


def test_names_of_any_kind(tmp_path):
    names = ["with a space", "ünï 猫", "line\nbreak", "\x1b[31m", os.fsdecode(b"\xff")]
    root = make(tmp_path, dict.fromkeys(names, 3))
    for path in list(root.glob("*/000.png")):
        path.rename(path.with_name(f"{path.parent.name}.png"))
    dataset = open_(root)
    assert dataset.classes == tuple(sorted(names))
    assert sorted(grays(dataset.train) + grays(dataset.validation) + grays(dataset.test)) == list(range(1, 16))
    assert describe(dataset).isprintable()


# Images


def test_any_order_of_asking_kept_or_not(tmp_path, monkeypatch):
    root = make(tmp_path, {"a": 30, "b": 30})
    kept = open_(root)
    monkeypatch.setattr(on_demand, "MAX_KEPT_BYTES", 36 * 64 - 1)
    lazy = open_(root)
    assert kept.train._kept is not None
    assert lazy.train._kept is None
    assert lazy.test._kept is not None
    whole = kept.train.images(np.arange(36))
    order = np.random.default_rng(0).permutation(36)
    for dataset in (kept, lazy):
        got = np.concatenate([dataset.train.images(order[:5]), dataset.train.images(order[5:])])
        assert np.array_equal(got, whole[order])
        assert np.array_equal(dataset.validation.images(np.array([3, 1, 3])), kept.validation.images([3, 1, 3]))
        assert dataset.train.images(np.arange(0)).shape == (0, 8, 8, 1)
        with pytest.raises(IndexError):
            dataset.train.images(np.array([36]))
    assert np.array_equal(kept.mean, lazy.mean)


def test_kept_images_are_read_once_and_returned_fresh(tmp_path):
    dataset = open_(make(tmp_path, {"a": 5, "b": 5}))
    before = dataset.train.images(np.arange(6))
    shutil.rmtree(tmp_path / "a")
    dataset.train.images(np.arange(6))[:] = 0
    assert np.array_equal(dataset.train.images(np.arange(6)), before)


def test_mean_is_over_the_training_images(tmp_path, monkeypatch):
    root = tmp_path / "photos"
    shutil.copytree(PHOTOS, root)
    first = open_dataset(str(root), image_size=32, channels=3)
    expected = first.train.images(np.arange(36)).astype(np.float64).mean(axis=0).astype(np.float32)
    assert first.mean.dtype == np.float32
    assert np.array_equal(first.mean, expected)
    monkeypatch.setattr(statistics, "BATCH", 7)
    again = open_dataset(str(root), image_size=32, channels=3, reading=Reading(threads=1))
    assert np.array_equal(again.mean, expected)
    for name, figures in vars(first.colours).items():
        assert np.array_equal(figures, getattr(again.colours, name))


def test_progress(tmp_path):
    told = []
    open_(make(tmp_path, {"a": 5, "b": 5}), progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 10) for done in range(1, 11)]


def test_val_that_is_also_test_is_looked_at_once(tmp_path):
    told = []
    root = make(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 3})
    open_(root, progress=lambda *args: told.append(args))
    assert told[-1] == (2 + 2 + 3, 7)


# Refusals


def test_no_such_path(tmp_path):
    refused(tmp_path / "nowhere", "does not exist: give 'digits', or a folder of images")


def test_a_file(tmp_path):
    (tmp_path / "cifar10.tar.gz").write_bytes(b"x")
    refused(tmp_path / "cifar10.tar.gz", r"is a file: .*train/<class>/<image>")


def test_empty(tmp_path):
    refused(tmp_path, "has no class folders")


def test_no_class_folders(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    refused(tmp_path, "has no class folders")


def test_train_without_classes(tmp_path):
    make(tmp_path, {"train": 1, "val/a": 1})
    refused(tmp_path, "/train has no class folders")


def test_one_class(tmp_path):
    refused(make(tmp_path, {"train/cat": 2, "val/cat": 1}), "has one class, 'cat'")


def test_a_class_without_images(tmp_path):
    root = make(tmp_path, {"train/a": 2, "train/b": 2, "train/c": 0, "val/a": 2, "test/a": 2})
    (root / "train" / "c" / ".hidden").write_text("x")
    refused(root, "/train/c is a class without images")


@pytest.mark.parametrize("part", ["val", "test"])
def test_validation_and_test_images_may_lack_a_class(tmp_path, part):
    """Also where an empty folder is left, as people keep one so that every split has the same folders."""
    root = make(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 2, "test/a": 2, f"{part}/b": 0})
    (root / part / "b" / ".hidden").write_text("x")
    dataset = open_(root)
    assert dataset.classes == ("a", "b")
    assert f"; not used: {part}/b/" in dataset.layout


@pytest.mark.parametrize(("part", "which"), [("val", "validation"), ("test", "test")])
def test_a_class_that_train_lacks(tmp_path, part, which):
    root = make(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 1, "test/a": 1, f"{part}/dog": 1})
    refused(root, f"the {which} class 'dog' has no folder in train/")


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_to_hold_out(tmp_path, count):
    refused(make(tmp_path, {"cat": 5, "dog": count}), f"the class 'dog' has {count} of the 3 images needed")


def test_too_few_training_images_to_hold_out(tmp_path):
    root = make(tmp_path, {"train/cat": 5, "train/dog": 1, "test/cat": 1})
    refused(root, "/train: the class 'dog' has 1 of the 2 images needed")


def test_train_alone(tmp_path):
    refused(make(tmp_path, {"train/a": 3, "train/b": 3}), r"neither val/ nor test/: add one, or give .*/train itself")


@pytest.mark.parametrize("part", ["val", "test", "validation"])
def test_no_train(tmp_path, part):
    refused(make(tmp_path, {f"{part}/a": 3, f"{part}/b": 3}), f"has {part}/ but no train/")


def test_two_validation_folders(tmp_path):
    root = make(tmp_path, {f"{part}/{name}": 1 for part in ("train", "val", "validation") for name in "ab"})
    refused(root, "both val/ and validation/")


def test_the_folder_above_two(tmp_path):
    make(tmp_path, {"cifar10/train/a": 1, "cifar10/test/a": 1, "mnist/train/a": 1})
    refused(tmp_path, "/cifar10 is taken for a class, but the folder 'test' is in it")


@pytest.mark.parametrize("where", ["train", "train/c", "train/a/more"])
def test_a_link_to_a_folder(tmp_path, where):
    """At each level; not even a circle is followed."""
    root = make(tmp_path, {"train/a": 1, "train/b": 1, "val/a": 1})
    if where == "train":
        (root / "train").rename(root / "elsewhere")
    (root / where).symlink_to(root)
    refused(root, f"/{where} is a link to a folder")


def test_the_path_itself_may_be_a_link(tmp_path):
    make(tmp_path / "real", {"a": 3, "b": 3})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    dataset = open_(tmp_path / "link")
    assert dataset.name == "real"
    assert dataset.where == str(tmp_path / "link")


def test_neither_file_nor_folder(tmp_path):
    root = make(tmp_path, {"a": 3, "b": 3})
    odd = root / "b" / "x.jpg"
    odd.symlink_to(odd)
    refused(root, "/b/x.jpg is a broken link", reading=STOP)
    odd.unlink()
    odd.symlink_to(root / "nowhere")
    refused(root, "/b/x.jpg is a broken link", reading=STOP)
    odd.unlink()
    os.mkfifo(odd)
    refused(root, "/b/x.jpg is not a regular file", reading=STOP)


def test_a_text_named_jpg_is_found_at_opening(tmp_path):
    root = make(tmp_path, {"a": 300, "b": 4})
    (root / "a" / "123.png").rename(root / "a" / "123.jpg")
    (root / "a" / "123.jpg").write_text("no image")
    message = refused(
        root,
        r"/a/123.jpg is not an image refnet reads \(JPEG, PNG, BMP, WebP, TIFF, GIF, PPM, PGM, PBM, AVIF\)",
        reading=STOP,
    )
    assert message.endswith("convert or remove it, or leave it out with bad='skip'")
    (root / "b" / "other.jpg").write_text("no image")
    (root / "b" / "another.PNG").write_text("no image")
    *every, summary = refused(root, "3 of 306 images cannot be read:", reading=STOP).splitlines()
    assert sorted(re.findall(r"/(\w+\.\w+) is not an image", "\n".join(every))) == [
        "123.jpg",
        "another.PNG",
        "other.jpg",
    ]
    assert summary.endswith("bad='skip'")


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_truncated_file_is_found_at_opening(tmp_path, part):
    root = tmp_path / "photos"
    shutil.copytree(PHOTOS, root, copy_function=shutil.copyfile)
    path = Path(paths(getattr(open_(root), part))[5])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    match = rf"{path.name} is damaged or cut short \(image file is truncated"
    refused(root, match, reading=STOP)


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_channels(tmp_path, channels):
    root = make(tmp_path, {"a": 3, "b": 3})
    refused(root, rf"1 \(gray\) or 3 \(RGB\) channels, the net asks for {channels}", channels=channels)


@pytest.fixture
def locked_folder():
    """Make a folder of images of which one part is locked even for us: root, who may read all, becomes nobody."""
    root = Path(tempfile.mkdtemp())  # not tmp_path, which lies in a folder that only its owner may enter
    root.chmod(0o755)
    make(root, {"data/a": 3, "data/b": 3})
    before = os.geteuid()

    def lock(name):
        (root / name).chmod(0)
        if before == 0:
            os.seteuid(65534)
        return root / "data"

    yield lock
    os.seteuid(before)
    for name in ("data", "data/b", "data/b/001.png"):
        (root / name).chmod(0o755)
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("part", "match"),
    [
        ("data", "/data cannot be listed: Permission denied"),
        ("data/b", "/data/b cannot be listed: Permission denied"),
        ("data/b/001.png", r"/data/b/001\.png cannot be read: Permission denied"),
    ],
)
def test_permissions(locked_folder, part, match):
    refused(locked_folder(part), match, reading=STOP)
