"""Test a network on labelled images: the splits of a folder, classes matched by name, data that have moved."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refnet
from refnet.cli.main import main
from refnet.data.opening import open_dataset
from refnet.errors import DataError
from refnet.evaluation.labelled import labels_by_name
from refnet.evaluation.trained import open_trained

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")

CLASSES = ("cat", "dog", "emu", "fox")
TOLD_APART = dict(zip((*CLASSES, "gnu", "owl"), range(20, 260, 40), strict=True))


def folder(root, counts, size=12, mode="L"):
    """Write pictures: counts maps "test/cat" and the like to how many. The gray tells the class."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            gray = TOLD_APART.get(Path(name).name, 0)
            pixels = gray + rng.integers(16, size=(size, size), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("data") / "animals", dict.fromkeys(CLASSES, 15))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Give a run that tells the four classes apart."""
    run = tmp_path_factory.mktemp("runs") / "run"
    argv = ["--data", data, "--batch", 6, "--epochs", 20, "--lr", 0.003, "--run-dir", run, "--backend", "numpy"]
    assert main(["train", "--json", *map(str, argv)]) == 0
    return run


@pytest.fixture
def command(capsys, run):
    """Give a function that runs a command with the network, and returns its exit code, JSON and messages."""

    def call(name, *argv):
        capsys.readouterr()
        argv = ["--checkpoint", run, *argv]
        code = main([name, *map(str, argv), "--json", "--backend", "numpy"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else {}, err

    return call


# What counts as the test set


def test_a_folder_of_classes_is_one_test_set(command, cwd):
    own = folder(cwd / "own", dict.fromkeys(CLASSES, 3))
    code, figures, err = command("eval", "--data", own)
    assert (code, figures["images"]) == (0, 12)
    assert figures["top1_error"]["centre"] < 0.3
    assert "one folder per class, all images to test on; 4 classes; 12 test images of 10x10x1" in err
    assert "note" not in err
    shutil.copy(own / "cat" / "0.png", own / "loose.png")
    code, figures, err = command("eval", "--data", own)
    assert (code, figures["images"]) == (0, 12)
    assert "left out, in no class folder: 1 (loose.png)" in err


@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_a_class_needs_one_image_and_any_split_is_the_whole_folder(command, cwd, split):
    own = folder(cwd / "own", dict.fromkeys(CLASSES, 1))
    assert command("eval", "--data", own, "--split", split)[1]["images"] == 4


@pytest.mark.parametrize(("size", "mode"), [(7, "RGB"), (40, "L"), (12, "RGBA"), (12, "1")])
def test_images_of_any_size_and_colours(command, cwd, size, mode):
    own = folder(cwd / "own", {"cat": 2, "fox": 2}, size=size, mode=mode)
    assert command("eval", "--data", own)[1]["images"] == 4


@pytest.mark.parametrize(
    ("counts", "split", "images"),
    [
        ({"test/cat": 2, "test/dog": 1}, "test", 3),
        ({"val/cat": 2, "val/dog": 1}, "test", 3),
        ({"Testing/cat": 2, "valid/dog": 1}, "test", 2),
        ({"Testing/cat": 2, "valid/dog": 1}, "validation", 1),
        ({"train/cat": 4, "train/dog": 4, "test/dog": 3}, "test", 3),
        ({"train/cat": 4, "train/dog": 4, "test/dog": 3}, "train", 6),
    ],
)
def test_folders_of_splits(command, cwd, counts, split, images):
    assert command("eval", "--data", folder(cwd / "own", counts), "--split", split)[1]["images"] == images


def test_weights_are_not_searched_on_the_images_that_are_tested(command, cwd, run):
    own = folder(cwd / "own", dict.fromkeys(CLASSES, 3))
    code, _, err = command("eval", "--checkpoint", run, "--data", own, "--weights", "search")
    assert code == 2
    assert "give --split test and data with test images of their own" in err


def test_the_images_of_the_training_are_recognised_wherever_they_are(command, data, cwd, monkeypatch):
    code, figures, _ = command("eval")
    shutil.copytree(data, cwd / "moved")
    (cwd / "link").symlink_to(data)
    assert code == 0
    for place in (data, cwd / "moved", cwd / "link"):
        assert command("eval", "--data", place)[1]["images"] == figures["images"] == 12
    monkeypatch.chdir(data.parent)
    assert command("eval", "--data", data.name)[1]["images"] == 12


def test_a_folder_with_more_images_than_the_training_had_is_another(command, data, cwd):
    shutil.copytree(data, cwd / "more")
    Image.new("L", (12, 12)).save(cwd / "more" / "cat" / "new.png")
    assert command("eval", "--data", cwd / "more")[1]["images"] == 61


def test_a_changed_folder_is_said(data, cwd, capsys):
    shutil.copytree(data, cwd / "own")
    argv = ["--data", cwd / "own", "--max-steps", 1, "--run-dir", cwd / "run", "--backend", "numpy"]
    assert main(["train", "--json", *map(str, argv)]) == 0
    Image.new("L", (12, 12)).save(cwd / "own" / "cat" / "new.png")
    assert main(["eval", "--checkpoint", str(cwd / "run"), "--backend", "numpy"]) == 0
    assert f"note: {cwd / 'own'} has changed since {cwd / 'run'} was trained on it" in capsys.readouterr().out


def test_damaged_images_are_left_out_and_said(command, cwd):
    own = folder(cwd / "own", {"cat": 2, "fox": 1})
    (own / "fox" / "0.png").write_bytes(b"no picture")
    code, figures, err = command("eval", "--data", own)
    assert (code, figures["images"]) == (0, 2)
    assert "warning: 1 of 3 images cannot be read and is left out: " in err
    code, figures, err = command("eval", "--data", own, "--bad", "stop")
    assert code == 3


def test_images_are_tested_in_the_form_in_which_they_are_predicted(cwd):
    """The embedded digits have pixels of 0 to 16 and a border; a network trained on them needs every image so."""
    digits = refnet.open_data("digits")
    (cwd / "own" / "3").mkdir(parents=True)
    (cwd / "own" / "7").mkdir()
    images, labels = digits.test[:80]
    large = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        if label in (3, 7):
            gray = np.rint(image[1:-1, 1:-1, 0] * (255 / 16)).astype(np.uint8)
            large.append((np.repeat(np.repeat(gray, 3, 0), 3, 1), label))
            Image.fromarray(gray).save(cwd / "own" / str(label) / f"{number}.png")
    net = refnet.train(epochs=8, backend="numpy", progress=False).net
    chosen = np.isin(labels, (3, 7))
    expected = net.evaluate((images[chosen], labels[chosen]))
    assert expected.top1_error < 0.3
    np.testing.assert_array_equal(net.evaluate(cwd / "own").confusion, expected.confusion)
    of_arrays = net.evaluate((np.stack([image for image, _ in large]), np.array([label for _, label in large])))
    assert of_arrays.top1_error <= expected.top1_error + 0.2
    opened = net.evaluate(refnet.open_data(cwd / "own"), split="train")
    assert opened.top1_error < 0.3


# Classes by name


def test_some_of_the_classes(command, cwd):
    code, figures, err = command("eval", "--data", folder(cwd / "own", {"cat": 2, "fox": 3}))
    assert code == 0
    assert "note: no images of 2 of the network's 4 classes: dog, emu" in err
    assert figures["classes"] == [*CLASSES]
    assert np.array(figures["confusion"]).sum(axis=1).tolist() == [2, 0, 0, 3]
    assert figures["class_error"][1:3] == [None, None]
    assert figures["top1_error"]["centre"] < 0.3  # a fox has the network's label, and not the second of this folder


def test_one_class(command, cwd):
    code, figures, _ = command("eval", "--data", folder(cwd / "own", {"emu": 3}))
    assert code == 0
    assert np.array(figures["confusion"]).sum(axis=1).tolist() == [0, 0, 3, 0]


def test_classes_that_the_network_does_not_know_are_left_out(command, cwd):
    code, figures, err = command("eval", "--data", folder(cwd / "own", {"cat": 2, "gnu": 3, "fox": 1, "owl": 1}))
    assert (code, figures["images"]) == (0, 3)
    assert "note: left out 4 images of classes that the network does not know: gnu, owl" in err


def test_folders_of_classes_without_images_are_said(command, cwd):
    own = folder(cwd / "own", {"cat": 2, "dog": 0})
    code, figures, err = command("eval", "--data", own)
    assert (code, figures["images"]) == (0, 2)
    assert "classes without images: dog" in err


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"gnu": 2, "owl": 2}, "has none of the classes of"),
        ({"train/cat": 3, "train/gnu": 3, "test/gnu": 1}, "its test images are of none of the network's classes"),
        ({"cat": 0}, "has no folders of classes with images in them"),
        ({}, "has no folders of classes with images in them"),
    ],
)
def test_nothing_is_left(command, cwd, counts, message):
    (cwd / "own").mkdir()
    code, figures, err = command("eval", "--data", folder(cwd / "own", counts))
    assert (code, figures) == (3, {})
    assert message in err


def test_names_match_as_they_are_then_by_spelling_then_by_words():
    known = ("n01", "n02", "Cat", "dog", "african elephant", "Caf\u00e9", "a", "A")
    words = ("crane, a bird", "crane, a machine", *known[2:])
    expected = {
        "n02": 1,
        "Cat": 2,
        "cat": 2,
        "DOG": 3,
        "African_Elephant": 4,
        "Cafe\u0301": 5,
        "a": 6,
        "A": 7,
        "crane": None,
        "crane, a machine": 1,
        "bird": None,
    }
    assert labels_by_name([*expected], known, words) == [*expected.values()]


def test_numbers_as_names_of_classes_are_no_places(cwd):
    """Folders called 0 to 11 are sorted as text, so the label 2 could be the third class, 10, or the class 2."""
    own = folder(cwd / "own", {f"{number}": 3 for number in range(12)})
    settings = {"max_steps": 1, "backend": "numpy", "progress": False}
    net = refnet.train(net="cifar", data=own, **settings).net
    images = np.zeros((3, 32, 32, 3), np.uint8)
    with pytest.raises(DataError, match=r"the class number 2 is called '10'; give names, labels.astype"):
        net.evaluate((images, np.array([0, 2, 11])))
    assert net.evaluate((images, np.array(["0", "2", "11"]))).confusion.sum(axis=1)[net.classes.index("2")] == 1


# Features and similar images need no class


def test_features_keep_every_image(command, cwd):
    code, figures, err = command("features", "--data", folder(cwd / "own", {"gnu": 2, "fox": 1, "owl": 1}))
    assert code == 0
    assert figures["shape"] == [4, 128]
    assert figures["classes"] == [*CLASSES, "gnu", "owl"]
    assert np.load("features-labels.npy").tolist() == [3, 4, 4, 5]
    assert "note: classes that the network does not know have the labels 4 to 5: gnu, owl" in err


def test_similar_among_images_of_other_classes(command, cwd):
    own = folder(cwd / "own", {"gnu": 2, "owl": 2})
    code, figures, _ = command("similar", own / "gnu", "--data", own, "--count", 2)
    assert code == 0
    assert [image["image"] for image in figures["images"]] == [str(own / "gnu" / f"{n}.png") for n in (0, 1)]
    for number, image in enumerate(figures["images"]):
        assert image["similar"][0]["where"] == str(own / "gnu" / f"{number}.png")
        assert image["similar"][0]["class"] == "gnu"


# Data that are not on this machine


def test_data_that_are_named_by_the_beginning_of_their_files_are_here(cwd):
    """As one of EMNIST's sets, whose path is not there."""
    (cwd / "gzip").mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 10)):
        images = rng.integers(256, size=(count, 28, 28), dtype=np.uint8)
        head = bytes((0, 0, 8, 3)) + b"".join(number.to_bytes(4) for number in images.shape)
        (cwd / f"gzip/emnist-digits-{split}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        labels = (np.arange(count) % 10).astype(np.uint8)
        head = bytes((0, 0, 8, 1)) + count.to_bytes(4)
        (cwd / f"gzip/emnist-digits-{split}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    run = refnet.train(data="gzip/emnist-digits", max_steps=1, backend="numpy", progress=False)
    assert run.net.evaluate().count == 10
    assert refnet.train(resume=run, max_steps=2, progress=False).result["steps"] == 2


@pytest.fixture
def alone(run, data, cwd):
    """Give a checkpoint as another machine has it: without its training data."""
    shutil.copytree(data, cwd / "moved")
    for path in (run / "checkpoints").iterdir():
        shutil.copy(path, cwd / "c.safetensors")
    shutil.copytree(run, cwd / "copied")
    away = data.with_name("away")
    data.rename(away)
    yield cwd / "c.safetensors"
    away.rename(data)


@pytest.mark.parametrize(
    "argv",
    [
        ["eval", "--checkpoint", "c.safetensors"],
        ["features", "--checkpoint", "c.safetensors"],
        ["similar", "moved/cat/0.png", "--checkpoint", "c.safetensors"],
        ["plot", "predictions", "copied"],
        ["plot", "activations", "copied"],
        ["plot", "neighbours", "copied"],
    ],
)
@pytest.mark.usefixtures("alone")
def test_what_needs_the_data_says_how_to_give_their_new_place(capsys, data, argv):
    if argv[0] == "plot":
        pytest.importorskip("matplotlib")
    assert main([*argv, "--backend", "numpy"]) == 3
    err = capsys.readouterr().err
    assert f"was trained on {data}, which is not here: give the new place of these images" in err
    assert err.endswith("with --data\n")
    assert main([*argv, "--backend", "numpy", "--data", "moved"]) == 0


@pytest.mark.usefixtures("alone")
def test_a_run_that_is_resumed_elsewhere_says_how_to_give_the_new_place(capsys, data, cwd):
    argv = ["train", "--resume", "copied", "--epochs", "21", "--backend", "numpy"]
    assert main(argv) == 3
    assert capsys.readouterr().err == (
        f"refnet: copied was trained on {data}, which is not here: give the new place of these images with --data\n"
    )
    with pytest.raises(DataError, match=r"give the new place of these images with data$"):
        refnet.train(resume="copied", epochs=21, progress=False)
    assert main([*argv, "--data", str(cwd / "moved")]) == 0


@pytest.mark.parametrize("place", ["https://example.org/own.zip", "https:/example.org/own.zip"])
def test_an_address_is_no_data(command, place):
    code, _, err = command("eval", "--data", place)
    assert code == 3
    assert "is an address, and refnet reads only files: download it first" in err
    assert main(["train", "--data", place, "--backend", "numpy"]) == 3


@pytest.mark.parametrize(
    "argv",
    [
        ["predict", "moved/cat/0.png", "--checkpoint", "c.safetensors", "--backend", "numpy"],
        ["show", "c.safetensors"],
        ["show", "copied"],
        ["runs", "."],
        ["plot", "kernels", "copied", "--backend", "numpy"],
        ["plot", "curves", "copied"],
    ],
)
@pytest.mark.usefixtures("alone")
def test_what_does_not_need_the_data_does_not_ask_for_them(argv):
    if argv[0] == "plot":
        pytest.importorskip("matplotlib")
    assert main(argv) == 0


@pytest.mark.usefixtures("alone")
def test_a_report_says_what_it_lacks_and_takes_the_new_place(capsys, cwd):
    assert main(["report", "copied", "--backend", "numpy"]) == 0
    assert "note: copied was trained on" in (err := capsys.readouterr().err)
    assert "with --data; the parts that need images are left out" in err
    page = (cwd / "copied/report.html").read_text(encoding="utf-8")
    assert "with --data. The parts that need images are left out." in page
    assert main(["report", "copied", "--backend", "numpy", "--data", "moved"]) == 0
    assert capsys.readouterr().err == ""
    page = (cwd / "copied/report.html").read_text(encoding="utf-8")
    assert "left out" not in page
    assert "have changed since" not in page


@pytest.mark.usefixtures("alone")
def test_a_python_program_on_another_machine(cwd):
    net = refnet.load("c.safetensors", backend="numpy")
    assert net.predict("moved/fox/0.png")[0].class_name == "fox"
    assert net.features("moved/fox").shape == (15, 128)
    with pytest.raises(DataError, match=r"give the new place of these images, or other labelled images, with data$"):
        net.evaluate()
    assert net.evaluate("moved").count == 12  # those that were held out
    own = folder(cwd / "own", {"cat": 2, "fox": 1, "owl": 3})
    with pytest.warns(UserWarning, match="^left out 3 images of classes that the network does not know: owl$"):
        tally = net.evaluate(own)
    assert tally.count == 3
    assert tally.confusion.sum(axis=1).tolist() == [2, 0, 0, 1]


def test_a_checkpoint_has_the_mean_of_its_training(run, data):
    expected = open_dataset(str(data), image_size=10, channels=1).mean
    np.testing.assert_array_equal(open_trained(run, "numpy").mean, expected)
