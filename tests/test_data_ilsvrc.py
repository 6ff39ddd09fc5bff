"""ILSVRC2012 as it is downloaded: tars of tars or folders, and labels in the devkit's own order."""

import io
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from refnet.data.opening import open_dataset, open_for_test, read_source
from refnet.data.parallel import Reading
from refnet.errors import DataError
from refnet.terminal.progress import Quiet

# The devkit's order is not the sorted one: its class 1 is the last by WNID.
DEVKIT = {1: "n04000000", 2: "n02000000", 3: "n03000000"}
WORDS = {1: "kit fox, Vulpes macrotis", 2: "English setter", 3: "grey whale"}
TRUTH = [3, 1, 1, 2, 3, 2, 1]
NAME = "ILSVRC2012_val_{:08}.JPEG"


def png(value):
    content = io.BytesIO()
    Image.new("L", (9, 8), value).save(content, "png")
    return content.getvalue()


def tar(path, contents):
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path.read_bytes()


def meta():
    """MATLAB's table: the leaves, and one group that has children."""
    kinds = [
        (name, object)
        for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height")
    ]
    rows = [(index, DEVKIT[index], WORDS[index], "a gloss", 0, np.array([]), 0) for index in DEVKIT]
    rows.append((4, "n01000000", "animal", "a group", 3, np.array([1, 2, 3]), 5))
    content = io.BytesIO()
    savemat(content, {"synsets": np.array(rows, dtype=kinds).reshape(-1, 1)})
    return content.getvalue()


class Site:
    """The parts, as archives and as folders."""

    def __init__(self, root):
        self.root = root
        self.images = {
            wnid: {f"{wnid}_{i}.JPEG": png(10 * (index + 1) + i) for i in range(index + 2)}
            for index, wnid in enumerate(sorted(DEVKIT.values()))
        }
        self.validation = {NAME.format(i + 1): png(100 + i) for i in range(len(TRUTH))}
        self.devkit = {
            "data/meta.mat": meta(),
            "data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{i}\n" for i in TRUTH).encode(),
        }

    def train(self, form):
        self.root.mkdir(exist_ok=True)
        if form == "tar of tars":
            inner = {f"{wnid}.tar": tar(self.root / "x", images) for wnid, images in self.images.items()}
            (self.root / "x").unlink()
            tar(self.root / "ILSVRC2012_img_train.tar", inner)
            return
        folder = self.root / ("train" if "train/" in form else "ILSVRC2012_img_train")
        folder.mkdir()
        for wnid, images in self.images.items():
            if "tars" in form:
                tar(folder / f"{wnid}.tar", images)
            else:
                self.write(folder / wnid, images)

    def val(self, form):
        if form == "tar":
            tar(self.root / "ILSVRC2012_img_val.tar", self.validation)
        else:
            self.write(self.root / form, self.validation)

    def kit(self, form):
        if form == "tar":
            with tarfile.open(self.root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
                for name, content in self.devkit.items():
                    info = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/{name}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        else:
            for name, content in self.devkit.items():
                self.write(self.root / "ILSVRC2012_devkit_t12" / "data", {name.removeprefix("data/"): content})

    @staticmethod
    def write(folder, contents):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path / "imagenet")


@pytest.fixture
def whole(site):
    site.train("tar of tars")
    site.val("tar")
    site.kit("tar")
    return site


def grays(split):
    return split.images(np.arange(len(split)))[:, 0, 0, 0].tolist()


def refused(site, match):
    with pytest.raises(DataError, match=match) as caught:
        read_source(str(site.root))
    assert str(caught.value).isprintable()
    assert str(site.root) in str(caught.value)


@pytest.mark.parametrize("train", ["tar of tars", "tars", "folders", "train/ tars", "train/ folders"])
@pytest.mark.parametrize("val", ["tar", "val", "ILSVRC2012_img_val"])
@pytest.mark.parametrize("kit", ["tar", "folder"])
def test_every_form_gives_the_same(site, train, val, kit):
    site.train(train)
    site.val(val)
    site.kit(kit)
    dataset = open_dataset(str(site.root), image_size=8, channels=1)
    assert dataset.classes == ("n02000000", "n03000000", "n04000000")
    assert dataset.words == ("English setter", "grey whale", "kit fox, Vulpes macrotis")
    assert grays(dataset.train) == [10, 11, 20, 21, 22, 30, 31, 32, 33]
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert grays(dataset.validation) == list(range(100, 107))
    assert dataset.validation.labels.tolist() == [1, 2, 2, 0, 1, 0, 2]  # TRUTH, by WNID and not by its numbers
    assert dataset.test is dataset.validation
    assert dataset.layout == "ILSVRC2012, classes by sorted WNIDs, val also serving as test"


@pytest.mark.parametrize(("val", "kit"), [("tar", "tar"), ("val", "folder")])
def test_validation_images_alone_are_images_to_test_on(site, val, kit):
    site.root.mkdir()
    site.val(val)
    site.kit(kit)
    opened = open_for_test(Quiet(), str(site.root), image_size=8, channels=1)
    assert opened.classes == tuple(sorted({DEVKIT[index] for index in TRUTH}))
    assert [opened.classes[label] for label in opened.test.labels] == [DEVKIT[index] for index in TRUTH]
    assert grays(opened.test) == [100 + index for index in range(len(TRUTH))]
    assert opened.train is opened.validation is opened.test
    site.train("train/ folders" if val == "val" else "tar of tars")
    assert open_for_test(Quiet(), str(site.root), image_size=8, channels=1) is None


def test_a_damaged_image_in_a_tar_is_named(whole):
    whole.images["n03000000"]["n03000000_1.JPEG"] = png(5)[:40]
    whole.train("tar of tars")
    with pytest.raises(
        DataError, match=r"img_train\.tar:n03000000_1\.JPEG is (damaged or cut short|not an image).* remove it"
    ):
        open_dataset(str(whole.root), image_size=8, channels=1, reading=Reading(bad="stop"))
    dataset = open_dataset(str(whole.root), image_size=8, channels=1)
    assert grays(dataset.train) == [10, 11, 20, 22, 30, 31, 32, 33]
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    assert "1 of 16 images cannot be read and is left out: " in dataset.warning


@pytest.mark.parametrize(
    ("part", "match"),
    [
        ("ILSVRC2012_img_train.tar", "has no training images: put ILSVRC2012_img_train.tar or ILSVRC2012_img_train or"),
        ("ILSVRC2012_img_val.tar", "has no validation images"),
        ("ILSVRC2012_devkit_t12.tar.gz", "has no devkit: put ILSVRC2012_devkit_t12.tar.gz or"),
    ],
)
def test_a_part_is_missing(whole, part, match):
    (whole.root / part).unlink()
    refused(whole, match)


@pytest.mark.parametrize("part", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"])
@pytest.mark.parametrize("tenth", range(10))
def test_an_archive_is_cut_short(whole, part, tenth):
    path = whole.root / part
    content = path.read_bytes()
    used = len(content.rstrip(b"\0"))
    path.write_bytes(content[: used * tenth // 10])
    refused(
        whole,
        r"is (damaged or )?cut short|not a plain tar archive|says what 7 validation images show|no devkit|has no ",
    )


def test_compressed_training_images_are_refused(whole):
    with tarfile.open(whole.root / "ILSVRC2012_img_train.tar", "w:gz"):
        pass
    refused(whole, r"img_train\.tar is not a plain tar archive")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_an_archive_are_refused(whole, kind):
    with tarfile.open(whole.root / "ILSVRC2012_img_val.tar", "a") as archive:
        info = tarfile.TarInfo("x.JPEG")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    refused(whole, r"img_val\.tar: x\.JPEG in it is a link or a device")


def test_a_negative_size_in_an_archive(whole):
    """With which tarfile of Python 3.11.7 would go in a circle."""
    path = whole.root / "ILSVRC2012_img_val.tar"
    with tarfile.open(path) as archive:
        header = bytearray(archive.getmembers()[1].tobuf())
        at = archive.getmembers()[1].offset
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024, in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content = path.read_bytes()
    path.write_bytes(content[:at] + header + content[at + 512 :])
    refused(whole, r"ILSVRC2012_val_00000002\.JPEG in it has a negative size")


def test_another_count_of_validation_images(whole):
    whole.validation.popitem()
    whole.val("tar")
    refused(whole, "says what 7 validation images show, but there are 6")


@pytest.mark.parametrize("truth", [b"1\n2\nx\n", b"1.5\n", b"\xff\n"])
def test_ground_truth_that_is_no_numbers(whole, truth):
    whole.devkit["data/ILSVRC2012_validation_ground_truth.txt"] = truth
    whole.kit("tar")
    refused(whole, "ground_truth.txt is not a number in each line")


@pytest.mark.parametrize("index", [4, 5])
def test_ground_truth_of_no_leaf(whole, index):
    """Class 4 is a group, and 5 is none."""
    whole.devkit["data/ILSVRC2012_validation_ground_truth.txt"] = f"{index}\n".encode() * 7
    whole.kit("tar")
    refused(whole, f"the ground truth has class {index}, which meta.mat lacks")


def test_a_validation_class_without_training_images(whole):
    del whole.images["n02000000"]
    whole.train("tar of tars")
    refused(whole, r"the validation class 'n02000000' \(1 such\) has no training images")


@pytest.mark.parametrize("table", [b"", b"MATLAB 5.0 MAT-file", b"\x80\x04."])
def test_a_damaged_table(whole, table):
    whole.devkit["data/meta.mat"] = table
    whole.kit("tar")
    refused(whole, "meta.mat has no table of classes")


def test_a_devkit_without_its_table(whole):
    del whole.devkit["data/meta.mat"]
    whole.kit("tar")
    refused(whole, r"has no data/meta\.mat")


def test_without_scipy_it_says_what_to_install(whole, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    refused(whole, r"needs scipy: pip install 'refnet\[imagenet\]'")


def test_folders_that_are_no_classes(site):
    site.train("folders")
    site.val("val")
    site.kit("folder")
    (site.root / "ILSVRC2012_img_train" / "cats").mkdir()
    refused(site, "'cats' is not a WNID")
    shutil.rmtree(site.root / "ILSVRC2012_img_train" / "cats")
    (site.root / "ILSVRC2012_img_train" / "n09000000").mkdir()
    refused(site, "n09000000 is a class without images")
    shutil.rmtree(site.root / "ILSVRC2012_img_train")
    (site.root / "ILSVRC2012_img_train").mkdir()
    refused(site, "holds no classes")


def test_validation_images_in_folders(site):
    site.train("folders")
    site.write(site.root / "val" / "n02000000", site.validation)
    site.kit("folder")
    refused(site, "val has folders in it, but the ground truth is of images side by side")


def test_a_tree_by_class_is_just_a_tree(site):
    """What many have made of it: train/<wnid>/ and val/<wnid>/, and no devkit."""
    site.train("train/ folders")
    for wnid, images in site.images.items():
        site.write(site.root / "val" / wnid, images)
    assert read_source(str(site.root)).layout == "folders train and val, val also serving as test"
