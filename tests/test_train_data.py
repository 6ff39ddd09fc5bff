"""Training on unusable data: one line, exit code 3, and no file written."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refnet.cli.main import main
from refnet.data.dataset import ArraySplit, Dataset
from refnet.data.opening import open_dataset
from refnet.training import session

PHOTOS = Path(__file__).parents[1].parent / "shared" / "data" / "photos"
SYNSETS = sorted(path.name for path in PHOTOS.iterdir())

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")


@pytest.fixture
def copied(photos, cwd):
    """Give a copy of that folder, to be spoiled."""
    return Path(shutil.copytree(photos, cwd / "spoiled")).relative_to(cwd)


@pytest.fixture
def fails(capsys):
    """Train, which must fail before anything is written, with one line."""

    def run(*argv):
        before = sorted(Path().rglob("*"))
        code = main(["train", "--json", *map(str, argv)])
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert err.startswith("refnet: ")
        assert sorted(Path().rglob("*")) == before
        return code, err.removeprefix("refnet: ").removesuffix("\n")

    return run


def test_more_classes_than_outputs(fails):
    code, message = fails("--data", PHOTOS, "--outputs", 10)
    assert code == 3
    remedy = "give --outputs 12, or leave it out for one output for each class"
    assert message == f"photos has 12 classes, the net has 10 outputs; {remedy}"


def test_no_folder(fails):
    code, message = fails("--data", "nowhere")
    assert code == 3
    assert message.startswith("nowhere does not exist: give 'digits', or a folder of images")


def test_a_file_for_a_folder(fails):
    Path("data.jpg").touch()
    code, message = fails("--data", "data.jpg")
    assert code == 3
    assert message.startswith("data.jpg is a file: give 'digits', or a folder of images")


def test_an_empty_folder(fails):
    Path("empty").mkdir()
    code, message = fails("--data", "empty")
    assert code == 3
    assert message.startswith("empty has no class folders: refnet reads ")


def test_a_folder_that_cannot_be_read(fails, monkeypatch):
    """Root may read anything, so that the answer of the system is replaced."""

    def denied(_):
        raise PermissionError(13, "Permission denied")

    Path("locked").mkdir()
    monkeypatch.setattr(os, "scandir", denied)
    monkeypatch.setattr(Path, "rglob", lambda *_: [])
    code, message = fails("--data", "locked")
    assert code == 3
    assert message == "locked cannot be listed: Permission denied; fix its permissions"


def test_one_class(fails, copied):
    for name in SYNSETS[1:3]:
        shutil.rmtree(copied / name)
    code, message = fails("--data", copied)
    assert code == 3
    assert message.startswith(f"{copied} has one class, '{SYNSETS[0]}'")


def test_a_class_without_images(fails, copied):
    (copied / "nothing").mkdir()
    code, message = fails("--data", copied)
    assert code == 3
    assert message.startswith(f"{copied}/nothing is a class without images")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0\x10JFIF\0"])
def test_a_file_that_is_no_image(fails, copied, content):
    (copied / SYNSETS[1] / "0.jpg").write_bytes(content)
    code, message = fails("--data", copied, "--bad", "stop")
    assert code == 3
    assert message.startswith(f"{copied}/{SYNSETS[1]}/0.jpg is ")
    assert message.endswith("remove it, or leave it out with --bad skip")


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_an_image_that_is_cut_short(fails, photos, part):
    root = Path("data")
    for name in ("train", "val", "test"):
        shutil.copytree(photos, root / name)
    victim = next((root / part / SYNSETS[0]).iterdir())
    victim.write_bytes(victim.read_bytes()[:-2000])
    code, message = fails("--data", root, "--epochs", 1, "--bad", "stop")
    assert code == 3
    assert message.startswith(f"{victim} is damaged or cut short")


def test_a_picture_of_another_format_is_read(copied):
    Image.new("RGBA", (30, 20), (200, 10, 20, 128)).save(copied / SYNSETS[0] / "z.png")
    Image.new("L", (3, 50), 7).save(copied / SYNSETS[0] / "z.webp")
    assert main(["train", "--json", "--run-dir", "run", "--data", str(copied), "--epochs", "1"]) == 0


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("label", [-1, 10])
def test_labels_out_of_range(fails, monkeypatch, split, label):
    digits = open_dataset("digits", image_size=10, channels=1)
    kept = getattr(digits, split)
    spoiled = ArraySplit(np.where(np.arange(len(kept)) == 7, label, kept.labels), kept.pixels)
    dataset = Dataset(**{**vars(digits), split: spoiled})
    monkeypatch.setattr(session, "open_showing", lambda *_, **__: dataset)
    code, message = fails()
    assert code == 3
    word = {"train": "training"}.get(split, split)
    assert message.startswith(f"digits: a {word} label is {label}, but labels must lie in 0..9")


def test_a_net_whose_images_the_digits_are_not(fails, monkeypatch):
    monkeypatch.setattr(session, "begin", lambda *_: None)  # it draws sixty million numbers
    code, message = fails("--net", "half", "--data", "digits")
    assert code == 3
    assert message.startswith("digits: its images are 10x10x1, the net asks for 256x256x3")
