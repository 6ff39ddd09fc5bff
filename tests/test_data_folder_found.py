"""Image folders as people have them: names of splits, files of other programs, links, and nested folders."""

import unicodedata
from pathlib import Path

import pytest
from PIL import Image
from test_data_folder import grays, make, open_, paths, refused

import refnet
from refnet.cli.main import main
from refnet.data.dataset import describe
from refnet.data.parallel import Reading
from refnet.data.readers.folder import read
from refnet.errors import DataError

FOLLOW = Reading(follow_links=True)

# Splits


@pytest.mark.parametrize(
    ("train", "other", "is_test"),
    [
        ("training", "testing", True),
        ("training_set", "test_set", True),
        ("Train", "Test", True),
        ("TRAIN", "VAL", False),
        ("train", "dev", False),
        ("train", "eval", True),
        ("trainset", "testset", True),
        ("train", "valid", False),
        ("training-set", "Validation Set", False),
    ],
)
def test_names_of_splits(tmp_path, train, other, is_test):
    dataset = open_(make(tmp_path, {f"{train}/a": 10, f"{train}/b": 10, f"{other}/a": 1, f"{other}/b": 1}))
    assert dataset.classes == ("a", "b")
    assert grays(dataset.test) == [21, 22]
    assert (dataset.test is dataset.validation) is not is_test
    assert len(dataset.train) == (18 if is_test else 20)
    assert other == "Test" or other in dataset.layout


def test_valid_is_the_validation_split_beside_test(tmp_path):
    parts = {f"{split}/{name}": 2 for split in ("train", "valid", "test") for name in "ab"}
    dataset = open_(make(tmp_path, parts))
    assert [grays(part) for part in (dataset.train, dataset.validation, dataset.test)] == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 10, 11, 12],
    ]
    assert dataset.layout == "folders train, val (valid/) and test"


@pytest.mark.parametrize(("first", "second"), [("val", "valid"), ("Validation", "dev"), ("test", "testing")])
def test_two_names_of_a_split(tmp_path, first, second):
    root = make(tmp_path, {f"{part}/{name}": 1 for part in ("train", first, second) for name in "ab"})
    message = refused(root, "two names of the same split")
    assert f"{first}/" in message
    assert f"{second}/" in message


def test_a_folder_that_is_not_used_is_named(tmp_path):
    dataset = open_(make(tmp_path, {"train/a": 1, "train/b": 1, "val/a": 1, "extra/a": 1, "unlabelled": 1}))
    assert "; not used: extra/, unlabelled/;" in describe(dataset)


def test_a_folder_that_is_not_used_is_named_where_a_split_is_missing(tmp_path):
    root = make(tmp_path, {"train/a": 1, "train/b": 1, "holdout/a": 1})
    refused(root, r"neither val/ nor test/ \(not used: holdout/\)")


@pytest.mark.parametrize(
    "names", [("bus", "car", "train"), ("control", "test"), ("other", "val"), ("a", "test", "val")]
)
def test_a_class_may_be_called_like_a_split(tmp_path, names):
    assert open_(make(tmp_path, dict.fromkeys(names, 3))).classes == names


def test_splits_without_classes_are_no_classes(tmp_path):
    refused(make(tmp_path, {"train": 3, "test": 3}), "has no class folders")


# Files of other programs


SIDECARS = {
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "desktop.ini": b"[.ShellClassInfo]",
    ".DS_Store": b"Bud1",
    "._000.png": b"\x00\x05\x16\x07",
    "000.png:Zone.Identifier": b"[ZoneTransfer]",
    "GT-00000.csv": b"Filename;Width",
    "README": b"",
}


def test_files_that_are_no_images_are_counted(tmp_path):
    root = make(tmp_path, {"a": 5, "b": 5})
    for name, content in SIDECARS.items():
        (root / "a" / name).write_bytes(content)
    make(root, {"a/@eaDir/000.png": 1, "__MACOSX/a": 1})
    dataset = open_(root)
    assert dataset.classes == ("a", "b")
    images = [gray for part in (dataset.train, dataset.validation, dataset.test) for gray in grays(part)]
    assert sorted(images) == list(range(1, 11))
    assert f"; left out as no images: {len(SIDECARS) + 2} (" in describe(dataset)


def test_files_of_one_kind_are_named_once(tmp_path):
    root = make(tmp_path, {"a": 5, "b": 5})
    for path in list(root.glob("*/*.png")):
        path.with_name(f"{path.name}:Zone.Identifier").write_text("[ZoneTransfer]")
    assert "left out as no images: 10 (*:Zone.Identifier)" in open_(root).layout


def test_an_image_without_an_images_name_is_read(tmp_path):
    root = make(tmp_path, {"a": 3, "b": 3})
    (root / "a" / "000.png").rename(root / "a" / "000")
    dataset = open_(root)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 6
    assert "left out" not in dataset.layout


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF"])
def test_an_image_of_any_kind_without_a_name_is_listed(tmp_path, kind):
    make(tmp_path, {"a": 3, "b": 3})
    Image.new("L", (9, 8)).save(tmp_path / "a" / "unnamed", kind)
    assert "left out" not in read(str(tmp_path)).layout


def test_a_class_of_files_that_are_no_images(tmp_path):
    root = make(tmp_path, {"a": 3, "b": 3, "c": 0})
    (root / "c" / "notes.txt").write_text("text")
    refused(root, "/c is a class without images")


# Links


def test_linked_classes_and_splits_are_followed(tmp_path):
    make(tmp_path / "full", {"a": 3, "b": 3, "c": 3})
    root = tmp_path / "some"
    make(root, {"train/z": 1})
    for name in "ab":
        (root / "train" / name).symlink_to(tmp_path / "full" / name)
    (root / "val").symlink_to(tmp_path / "full")
    with_c = root / "train" / "c"
    with_c.symlink_to("z")
    refused(root, r"3 links lead out of it \(val -> .*/full, a -> .*, b -> .*\): .* follow_links=True")
    dataset = open_(root, reading=FOLLOW)
    assert dataset.classes == ("a", "b", "c", "z")
    assert len(dataset.validation) == 9
    assert "links that lead elsewhere are followed: 3 (val -> " in dataset.layout
    assert "c -> " not in dataset.layout


def test_a_linked_image_elsewhere_is_named(tmp_path):
    root = make(tmp_path / "tree", {"a": 3, "b": 3})
    make(tmp_path / "elsewhere", {"x": 1})
    (root / "a" / "out.png").symlink_to(tmp_path / "elsewhere" / "x" / "000.png")
    refused(root, r"a link leads out of it \(out\.png -> .*/000\.png\): ")
    assert "links that lead elsewhere are followed: 1 (out.png -> " in open_(root, reading=FOLLOW).layout


def test_links_that_stay_inside_are_followed_without_a_word(tmp_path):
    root = make(tmp_path / "tree", {"train/a": 2, "train/b": 2, "held_out/a": 1})
    (root / "val").symlink_to("held_out")
    (root / "train" / "c").symlink_to(root / "train" / "a")
    (root / "train" / "b" / "002.png").symlink_to("000.png")
    (tmp_path / "link").symlink_to(root)
    dataset = open_(tmp_path / "link")
    assert dataset.classes == ("a", "b", "c")
    assert grays(dataset.train) == [1, 2, 3, 4, 3, 1, 2]
    assert "links" not in dataset.layout


def test_a_link_that_is_not_used_is_no_reason_to_refuse(tmp_path):
    root = make(tmp_path / "tree", {"train/a": 2, "train/b": 2, "val/a": 1})
    make(tmp_path / "elsewhere", {"x": 1})
    (root / "raw").symlink_to(tmp_path / "elsewhere")
    assert open_(root).layout.endswith("; not used: raw/")


def test_links_are_followed_for_a_run_and_whoever_reads_its_data_again(tmp_path, monkeypatch, capsys):
    make(tmp_path / "full", {"a": 6, "b": 6, "c": 6})
    for name in "ab":
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / name).symlink_to(tmp_path / "full" / name)
    monkeypatch.chdir(tmp_path)
    train = ["train", "--net", "cifar", "--data", "d", "--max-steps", "1", "--json"]
    assert main([*train, "--run-dir", "r"]) == 3
    assert main([*train, "--run-dir", "r", "--follow-links"]) == 0
    assert main(["eval", "--checkpoint", "r", "--json"]) == 0
    assert main(["train", "--resume", "r", "--max-steps", "2", "--json"]) == 0
    capsys.readouterr()
    assert main(["data", "prepare", "d", "p", "--size", "8"]) == 3
    assert capsys.readouterr().err.endswith("read what is there with --follow-links, or copy it into the folder\n")
    assert main(["data", "prepare", "d", "p", "--size", "8", "--follow-links"]) == 0
    with pytest.raises(DataError, match="follow_links=True"):
        refnet.open_data("d")
    run = refnet.train("cifar", refnet.open_data("d", follow_links=True), max_steps=1, progress=False)
    assert refnet.load(run).evaluate().count == 2


def test_a_broken_link_in_place_of_a_class(tmp_path):
    root = make(tmp_path, {"a": 3, "b": 3})
    (root / "c").symlink_to(tmp_path / "nowhere")
    refused(root, "/c is a broken link")


def test_links_in_a_circle(tmp_path):
    root = make(tmp_path, {"a": 3, "b": 3})
    (root / "a" / "x").symlink_to(root / "b")
    (root / "b" / "y").symlink_to(root / "a")
    refused(root, "is a link to a folder that contains it: remove the link")


# Folders in folders


@pytest.mark.parametrize("parts", [("",), ("train/", "val/")])
def test_a_folder_too_many_is_entered(tmp_path, parts):
    flat = {f"{part}{name}": 3 for part in parts for name in "ab"}
    root = make(tmp_path, {f"archive/{name}": count for name, count in flat.items()})
    (root / "README.txt").write_text("text")
    make(root, {"__MACOSX/archive": 0})
    dataset = open_(root)
    assert dataset.classes == ("a", "b")
    assert "all in the folder archive/" in describe(dataset)
    inside = open_(root / "archive")
    assert paths(inside.train) == paths(dataset.train)
    assert inside.classes == dataset.classes


def test_folders_in_classes(tmp_path):
    root = make(tmp_path, {"train/a/images": 2, "train/b/images": 2, "val/a": 1, "val/b": 1, "val/b/more/deep": 1})
    (root / "train" / "a" / "a_boxes.txt").write_text("000.JPEG 0 0 1 1")
    dataset = open_(root)
    assert grays(dataset.train) == [1, 2, 3, 4]
    assert dataset.train.labels.tolist() == [0, 0, 1, 1]
    assert dataset.validation.labels.tolist() == [0, 1, 1]
    assert "images in folders of a class belong to the class (a/images, b/images, " in dataset.layout
    assert "left out as no images: 1 (a_boxes.txt)" in dataset.layout


def test_composed_and_decomposed_names_are_one_class(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))
    assert composed != decomposed
    dataset = open_(make(tmp_path, {f"train/{decomposed}": 2, "train/b": 2, f"val/{composed}": 1, "val/b": 1}))
    assert dataset.classes == ("b", decomposed)
    assert [Path(path).parent.name for path in paths(dataset.validation)] == ["b", composed]
    assert dataset.validation.labels.tolist() == [0, 1]


@pytest.fixture
def tiny(tmp_path):
    """Make what tiny-imagenet is: folders in classes, and validation images with their classes in a file."""
    root = make(tmp_path, {"train/a/images": 2, "train/b/images": 2, "val/images": 3, "test/images": 2})
    (root / "val" / "val_annotations.txt").write_text("000.png\tb\t0\t0\n001.png\ta\t0\t0\n002.png\tb\t0\t0\n")
    return root


def test_images_with_their_classes_in_a_file(tiny):
    dataset = open_(tiny)
    assert dataset.classes == ("a", "b")
    assert grays(dataset.validation) == [6, 5, 7]
    assert dataset.validation.labels.tolist() == [0, 1, 1]
    assert dataset.test is dataset.validation
    assert "; not used: test/images/;" in describe(dataset)


def test_an_image_whose_class_is_not_in_the_file(tiny):
    (tiny / "val" / "val_annotations.txt").write_text("000.png\tb\n001.png\ta\n")
    dataset = open_(tiny)
    assert grays(dataset.validation) == [6, 5]
    assert "left out, of no known class: 1 (002.png)" in dataset.layout
    (tiny / "val" / "val_annotations.txt").write_text("x.png\tb\n")
    refused(tiny, r"/val/val_annotations\.txt has no class for any image in .*/val/images: it is of other images")


def test_validation_images_side_by_side_without_a_file(tiny):
    (tiny / "val" / "val_annotations.txt").unlink()
    refused(tiny, r"/val/images has no class folders, and no file says what its images show: put ")


def test_a_class_in_the_file_that_train_lacks(tiny):
    (tiny / "val" / "val_annotations.txt").write_text("000.png\tb\n001.png\ta\n002.png\tc\n")
    refused(tiny, "the validation class 'c' has no folder in train/")


def test_a_class_may_be_called_images(tmp_path):
    dataset = open_(make(tmp_path, {"train/images": 2, "train/other": 2, "val/other": 1, "test/images": 1}))
    assert grays(dataset.test) == [6]
    assert dataset.test.labels.tolist() == [0]
