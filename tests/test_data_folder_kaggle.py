"""Image folders as Kaggle distributes them: ILSVRC with its tables, folders in folders of the same name, flat tests."""

import pytest
from test_data_folder import grays, make, open_, refused

from refnet.cli.main import main

SOLUTION = (
    "ImageId,PredictionString\n"
    "001,n02000000 1 1 2 2 n02000000 3 3 4 4 \n"
    "000,n01000000 1 1 2 2 \n"
    "002,n02000000 1 1 2 2 \n"
)


@pytest.fixture
def ilsvrc(tmp_path):
    inside = tmp_path / "k" / "ILSVRC" / "Data" / "CLS-LOC"
    make(inside, {"train/n01000000": 2, "train/n02000000": 2, "val": 3, "test": 2})
    make(tmp_path / "k" / "ILSVRC", {"Annotations/CLS-LOC/val": 0, "ImageSets/CLS-LOC": 0})
    (tmp_path / "k" / "LOC_val_solution.csv").write_text(SOLUTION)
    (tmp_path / "k" / "LOC_synset_mapping.txt").write_text("n01000000 tench, Tinca tinca\nn02000000 goldfish\n")
    return tmp_path / "k"


@pytest.mark.parametrize("named", ["", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_ilsvrc(ilsvrc, named):
    """Whichever folder is named: its validation images are side by side, and its tables are beside ILSVRC."""
    dataset = open_(ilsvrc / named)
    assert dataset.classes == ("n01000000", "n02000000")
    assert dataset.words == ("tench, Tinca tinca", "goldfish")
    assert grays(dataset.train) == [1, 2, 3, 4]
    assert grays(dataset.validation) == [5, 6, 7]
    assert dataset.validation.labels.tolist() == [0, 1, 1]
    assert dataset.test is dataset.validation
    assert dataset.layout.startswith("folders train and val, val also serving as test; ")
    assert "not used: " in dataset.layout
    assert "test/" in dataset.layout


def test_ilsvrc_prepared(ilsvrc, tmp_path, capsys):
    assert main(["data", "prepare", str(ilsvrc), str(tmp_path / "p"), "--size", "8"]) == 0
    assert "7 images (4 train, 3 validation)" in capsys.readouterr().out


def test_ilsvrc_without_its_solution(ilsvrc):
    (ilsvrc / "LOC_val_solution.csv").unlink()
    refused(ilsvrc, r"/val has no class folders, and no file says .*, or LOC_val_solution\.csv ")


def test_ilsvrc_with_the_solution_of_other_images(ilsvrc):
    (ilsvrc / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00000001,n01000000 1 1 2 2\n"
    )
    refused(ilsvrc, r"LOC_val_solution\.csv has no class for any image in .*/val: it is of other images")


def test_ilsvrc_with_images_that_the_solution_lacks(ilsvrc):
    (ilsvrc / "LOC_val_solution.csv").write_text("\n".join(SOLUTION.splitlines()[:3]))
    dataset = open_(ilsvrc)
    assert grays(dataset.validation) == [5, 6]
    assert "left out, of no known class: 1 (002.png)" in dataset.layout


@pytest.mark.parametrize("junk", ["", "ImageId\n", "\0,\n", '"', "000\n001,\n", "é" * 200_000])
def test_a_damaged_solution(ilsvrc, junk):
    (ilsvrc / "LOC_val_solution.csv").write_text(junk)
    refused(ilsvrc, "has no class for any image")


def test_validation_images_sorted_into_classes(ilsvrc):
    """As everybody's script for ImageNet does."""
    inside = ilsvrc / "ILSVRC" / "Data" / "CLS-LOC"
    for name, wnid in (("000", "n01000000"), ("001", "n02000000"), ("002", "n02000000")):
        (inside / "val" / wnid).mkdir(exist_ok=True)
        (inside / "val" / f"{name}.png").rename(inside / "val" / wnid / f"{name}.png")
    assert open_(ilsvrc).validation.labels.tolist() == [0, 1, 1]


# Caffe


@pytest.fixture
def caffe(tmp_path):
    """Classes in an order of their own, so that a number is no index into the sorted names."""
    make(tmp_path, {"train/n01000000": 2, "train/n02000000": 2, "val": 3})
    (tmp_path / "val.txt").write_text("000.png 1\n001.png 0\n002.png 0\n")
    (tmp_path / "synset_words.txt").write_text("n02000000 goldfish\nn01000000 tench, Tinca tinca\n")
    return tmp_path


@pytest.mark.parametrize("place", ["", "val"])
@pytest.mark.parametrize("table", ["synset_words.txt", "synsets.txt"])
def test_caffe(caffe, place, table):
    (caffe / "val.txt").rename(caffe / place / "val.txt")
    (caffe / "synset_words.txt").rename(caffe / place / table)
    dataset = open_(caffe)
    assert grays(dataset.validation) == [5, 6, 7]
    assert dataset.validation.labels.tolist() == [0, 1, 1]


def test_caffe_without_the_order_of_its_classes(caffe):
    (caffe / "synset_words.txt").unlink()
    refused(
        caffe, r"/val\.txt numbers the classes in an order that no synsets\.txt or synset_words\.txt beside it says"
    )


@pytest.mark.parametrize("number", ["2", "-1", "x", "²"])
def test_caffe_with_a_class_that_its_list_lacks(caffe, number):
    (caffe / "val.txt").write_text(f"000.png {number}\n")
    refused(caffe, r"/val\.txt: the class of 000\.png is .*, but .*/synset_words\.txt has classes 0\.\.1")


# Other sets


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("training_set/training_set", "test_set/test_set"),
        ("train/Train", "test/Testing"),
    ],
)
def test_a_split_in_a_folder_of_its_name(tmp_path, train, test):
    dataset = open_(make(tmp_path, {f"{train}/a": 10, f"{train}/b": 10, f"{test}/a": 1, f"{test}/b": 1, "seg_pred": 2}))
    assert dataset.classes == ("a", "b")
    assert grays(dataset.test) == [21, 22]
    assert f"classes in {test}/ and {train}/" in dataset.layout or f"classes in {train}/ and {test}/" in dataset.layout
    assert "not used: seg_pred/" in dataset.layout


def test_two_folders_too_many_are_entered(tmp_path):
    dataset = open_(make(tmp_path, {"archive/data/train/a": 1, "archive/data/train/b": 1, "archive/data/val/a": 1}))
    assert dataset.classes == ("a", "b")
    assert "all in the folder archive/data/" in dataset.layout


def test_test_images_without_classes_are_not_used(tmp_path):
    dataset = open_(make(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 1, "test": 3}))
    assert dataset.test is dataset.validation
    assert "; not used: test/" in dataset.layout


@pytest.mark.parametrize("test", ["test", "test1", "test_stg1"])
def test_training_images_that_only_their_names_sort(tmp_path, test):
    """Cats against dogs: the folders are no two classes "train" and "test1"."""
    root = make(tmp_path, {"train": 4, test: 2})
    refused(root, "/train has no class folders, but images: put those of each class in a folder of its name")


def test_all_images_again_in_a_folder_among_the_classes(tmp_path):
    root = make(tmp_path, {"a": 3, "b": 3, "PlantVillage/a": 3, "PlantVillage/b": 3})
    refused(root, r"/PlantVillage is taken for a class, but folders of other classes are in it \(a, b\): remove it")


def test_images_beside_the_classes_are_counted(tmp_path):
    root = make(tmp_path, {"a": 3, "b": 3})
    for name in ("000.png", "001.png"):
        (root / name).write_bytes((root / "a" / name).read_bytes())
    (root / "notes.txt").write_text("text")
    dataset = open_(root)
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 6
    assert "left out, in no class folder: 2 (000.png, 001.png)" in dataset.layout
