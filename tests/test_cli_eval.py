"""The commands eval, predict, features and similar: what they print and write, and every mistake."""

import errno
import io
import json
import os
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import refnet
from refnet.cli.main import main
from refnet.data.opening import open_dataset
from refnet.evaluation import neighbours
from refnet.evaluation.trained import open_trained
from refnet.pictures import neighbours as figure
from refnet.runs import generations
from refnet.runs.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")


@pytest.fixture
def refnet_(capsys):
    def run(*argv):
        backend = () if "--backend" in argv else ("--backend", "numpy")  # nothing to compile
        code = main([*map(str, argv), *backend])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def fails(refnet_, cwd):
    """Run what must fail in one line, without leaving anything behind."""

    def run(*argv):
        before = sorted(cwd.rglob("*"))
        code, _, err = refnet_(*argv)
        assert len(err.splitlines()) == 1
        assert sorted(cwd.rglob("*")) == before
        return code, err

    return run


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Give a folder of two classes: twelve dark pictures, and twelve bright ones."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 200)):
        (root / name).mkdir()
        for number in range(12):
            pixels = low + rng.integers(50, size=(12, 11), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """Give a run that tells them apart, by a net with more outputs than classes."""
    run = tmp_path_factory.mktemp("runs") / "run"
    argv = ["--data", pictures, "--batch", 8, "--epochs", 8, "--lr", 0.001, "--run-dir", run, "--backend", "numpy"]
    argv += ["--outputs", 10]
    assert main(["train", "--json", *map(str, argv)]) == 0
    return run


@pytest.fixture
def untrained(checkpoint_of, cwd):
    """Give a function that writes a run of the embedded digits."""

    def make(name="run", mean=None, **facts):
        run = cwd / name
        (run / "checkpoints").mkdir(parents=True)
        saved = checkpoint_of(**facts)
        params = {key: 0.05 * a for key, a in saved.params.items()}
        generations.save(run, Checkpoint(saved.facts, params, saved.velocities, saved.mean if mean is None else mean))
        return run

    return make


# eval


def test_eval(refnet_, trained, pictures):
    code, out, err = refnet_("eval", "--checkpoint", trained)
    assert (code, err) == (0, "")
    assert f"({pictures}): one folder per class" in out
    assert "centre crop  top-1   0.00%, top-5   0.00% of 4 images\n" in out
    assert "ten crops    top-1   0.00%, top-5   0.00% of 4 images\n" in out


def test_eval_json(refnet_, trained):
    code, out, _ = refnet_("eval", "--checkpoint", trained, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["top1_error"] == found["top5_error"] == {"centre": 0.0, "ten": 0.0}
    assert (found["images"], found["split"], found["weights"]) == (4, "test", None)
    assert found["classes"] == ["dark", "light"]
    assert found["class_error"] == [0.0, 0.0]
    assert np.array(found["confusion"]).shape == (2, 10)
    assert [member["top1_error"] for member in found["members"]] == [found["top1_error"]]


def test_eval_agrees_with_what_training_reports(refnet_):
    assert refnet_("train", "--epochs", 1, "--run-dir", "run", "--backend", "numpy")[0] == 0
    reported = json.loads(Path("run/result.json").read_text())
    found = json.loads(refnet_("eval", "--checkpoint", "run", "--json", "--backend", "numpy", "--crops", "centre")[1])
    assert found["top1_error"] == {"centre": pytest.approx(reported["test_top1_error"], abs=1e-12)}
    assert found["top5_error"] == {"centre": pytest.approx(reported["test_top5_error"], abs=1e-12)}


@pytest.mark.parametrize(("split", "images"), [("train", 1297), ("validation", 140), ("test", 360)])
def test_eval_of_other_images(refnet_, untrained, split, images):
    found = json.loads(refnet_("eval", "--checkpoint", untrained(), "--split", split, "--json")[1])
    assert (found["images"], found["split"]) == (images, split)


def test_eval_names_what_is_wrong(refnet_, untrained):
    code, out, _ = refnet_("eval", "--checkpoint", untrained(), "--crops", "centre")
    assert code == 0
    assert "worst classes, centre crop" in out
    assert "confused most, centre crop" in out
    assert "taken for" in out


def test_eval_of_several_with_searched_weights(refnet_, untrained):
    runs = [untrained("a", seed=0), untrained("b", seed=1)]
    argv = ["eval", *(x for run in runs for x in ("--checkpoint", run)), "--weights", "search", "--crops", "ten"]
    found = json.loads(refnet_(*argv, "--json")[1])
    assert len(found["members"]) == 2
    assert sum(found["weights"]["ten"]) == pytest.approx(1)
    code, out, _ = refnet_(*argv)
    assert code == 0
    assert "together\n  ten crops" in out
    assert "weights      ten crops: " in out


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ([], 2, "--checkpoint"),
        (["--checkpoint", "none"], 4, "none does not exist"),
        (["--checkpoint", "run", "--split", "all"], 2, "it must be one of test, validation, train"),
        (["--checkpoint", "run", "--batch", "0"], 2, "--batch 0"),
        (["--checkpoint", "run", "--threads", "0"], 2, "--threads 0"),
        (["--checkpoint", "run", "--read-threads", "0"], 2, "--read-threads 0"),
        (["--checkpoint", "run", "--read-timeout", "nan"], 2, "--read-timeout nan"),
        (["--checkpoint", "run", "--backend", "nunba"], 6, "did you mean numba?"),
        (["--checkpoint", "run", "--data", "none"], 3, "none does not exist"),
        (["--checkpoint", "run", "--weights", "search"], 2, "give --checkpoint more than once"),
        (
            ["--checkpoint", "run", "--checkpoint", "run", "--weights", "search", "--split", "validation"],
            2,
            "give --split test",
        ),
    ],
)
def test_eval_refuses(fails, untrained, argv, code, message):
    untrained()
    found, err = fails("eval", "--json", *argv)
    assert found == code
    assert message in err


def test_eval_of_other_classes(fails, untrained, pictures):
    code, err = fails("eval", "--checkpoint", untrained(), "--data", pictures, "--json")
    assert code == 3
    assert "has none of the classes of" in err
    assert "it has dark, light, the network knows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; name the folders" in err


# predict


def test_predict(refnet_, trained, pictures):
    code, out, err = refnet_("predict", pictures / "dark/0.png", pictures / "light/3.png", "--checkpoint", trained)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == str(pictures / "dark/0.png")
    assert lines[1].endswith("dark")
    assert "#" in lines[1]
    assert lines[6] == str(pictures / "light/3.png")
    assert lines[7].endswith("light")
    assert len(lines) == 12


def test_predict_json(refnet_, trained, pictures):
    code, out, _ = refnet_("predict", pictures / "dark/0.png", "--checkpoint", trained, "--json")
    (image,) = json.loads(out)["images"]
    assert code == 0
    assert image["image"] == str(pictures / "dark/0.png")
    first, *others = image["top5"]
    assert (first["class"], first["output"]) == ("dark", 0)
    assert [p["probability"] for p in image["top5"]] == sorted((p["probability"] for p in image["top5"]), reverse=True)
    assert {p["class"] for p in others} <= {None, "light"}  # the net has more outputs than there were classes


def test_predict_goes_on_after_a_bad_file(refnet_, trained, pictures, cwd):
    (cwd / "bad\n.png").write_bytes(b"no picture")
    argv = ["predict", "none.png", "bad\n.png", pictures / "light/1.png", "--checkpoint", trained]
    code, out, err = refnet_(*argv)
    assert code == 3
    assert len(err.splitlines()) == 2
    assert "refnet: none.png does not exist; name an image file, or a folder of images" in err
    assert "is not an image refnet reads" in err
    assert out.splitlines()[0] == str(pictures / "light/1.png")
    code, out, _ = refnet_(*argv, "--json")
    assert code == 3
    assert ["error" in image for image in json.loads(out)["images"]] == [True, True, False]


def test_predict_a_folder(refnet_, trained, pictures, cwd):
    (cwd / "own" / "inner").mkdir(parents=True)
    shutil.copy(pictures / "light/1.png", cwd / "own/inner/b.png")
    shutil.copy(pictures / "dark/1.png", cwd / "own/a.PNG")
    (cwd / "own" / "Thumbs.db").write_bytes(b"no picture")
    code, out, err = refnet_("predict", "own", "--checkpoint", trained)
    assert (code, err) == (0, "refnet: own: left out as no images: 1 (Thumbs.db)\n")
    assert [line for line in out.splitlines() if line[0] != " "] == ["own/a.PNG", "own/inner/b.png"]
    assert [line.split()[-1] for line in out.splitlines()[1::6]] == ["dark", "light"]


def test_predict_patterns_that_no_shell_resolved(refnet_, trained, pictures):
    argv = ["predict", f"{pictures}/*/1.png", f"{pictures}/light/[23].png", f"{pictures}/d*", "--checkpoint", trained]
    code, out, err = refnet_(*argv, "--crops", "centre", "--json")
    named = [image["image"] for image in json.loads(out)["images"]]
    assert (code, err) == (0, "")
    assert named[:4] == [f"{pictures}/{name}.png" for name in ("dark/1", "light/1", "light/2", "light/3")]
    assert named[4:] == sorted(map(str, (pictures / "dark").iterdir()))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("*.jpg", "no file matches *.jpg; name image files"),
        ("https://example.org/cat.jpg", "is an address, and refnet reads only files: download it first"),
        ("file:/home/cat.jpg", "is an address"),
        ("empty", "empty has no images; name image files"),
        ("junk", "junk has no images (left out as no images: 1 (notes.txt)); name image files"),
    ],
)
def test_predict_says_why_there_is_no_image(refnet_, trained, cwd, named, message):
    (cwd / "empty").mkdir()
    (cwd / "junk").mkdir()
    (cwd / "junk" / "notes.txt").write_text("two cats")
    code, out, err = refnet_("predict", named, "--checkpoint", trained)
    assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert message in err


def test_predict_from_a_pipe(refnet_, trained, pictures, cwd):
    os.mkfifo(cwd / "pipe")
    content = (pictures / "dark/0.png").read_bytes()
    writer = threading.Thread(target=lambda: (cwd / "pipe").write_bytes(content))
    writer.start()
    code, out, _ = refnet_("predict", "pipe", "--checkpoint", trained)
    writer.join()
    assert code == 0
    assert out.splitlines()[1].endswith("dark")


def test_predict_from_standard_input(refnet_, trained, pictures, monkeypatch):
    content = (pictures / "light/0.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    code, out, _ = refnet_("predict", "-", "--checkpoint", trained, "--crops", "centre")
    assert code == 0
    assert out.splitlines()[1].endswith("light")


@pytest.mark.parametrize("stdin", [SimpleNamespace(buffer=io.BytesIO(b"")), None, io.StringIO("of a notebook")])
def test_predict_from_an_empty_or_closed_standard_input(refnet_, trained, monkeypatch, stdin):
    monkeypatch.setattr(sys, "stdin", stdin)
    code, out, err = refnet_("predict", "-", "--checkpoint", trained)
    assert (code, out) == (3, "")
    assert err.startswith("refnet: standard input is ")


def test_predict_prints_no_control_characters(refnet_, untrained, pictures):
    run = untrained(classes=("\x1b[2J", *"123456789"))
    code, out, _ = refnet_("predict", pictures / "dark/0.png", "--checkpoint", run)
    assert code == 0
    assert "\x1b" not in out


def test_predict_on_a_terminal(refnet_, trained, pictures, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    Path("[red]odd.png").write_bytes((pictures / "dark/0.png").read_bytes())
    code, out, _ = refnet_("predict", "[red]odd.png", "--checkpoint", trained)
    assert code == 0
    assert "[red]odd.png" in out  # nothing in a name is markup
    assert "dark" in out


def test_predict_prepares_a_digit_as_the_embedded_ones(untrained):
    dataset = open_dataset("digits", image_size=10, channels=1)
    image = dataset.test.images(np.arange(1))[0]
    Image.fromarray(np.rint(image[1:-1, 1:-1, 0] * (255 / 16)).astype(np.uint8)).save("digit.png")
    np.testing.assert_array_equal(open_trained(untrained(), "numpy").read("digit.png"), image)


def test_predict_notes_a_digit_in_ink_on_paper(refnet_, untrained):
    digits = open_dataset("digits", image_size=10, channels=1)
    run = untrained("run", mean=digits.mean)
    image = np.rint(digits.test.images(np.arange(1))[0, 1:-1, 1:-1, 0] * (255 / 16)).astype(np.uint8)
    Image.fromarray(image).save("light.png")
    Image.fromarray(255 - image).save("ink.png")
    code, _, err = refnet_("predict", "light.png", "ink.png", "--checkpoint", run)
    assert code == 0
    assert err.startswith("note: ink.png may be negatives of the training images: if light and dark are exchanged")
    assert len(err.splitlines()) == 1
    net = refnet.load(run, backend="numpy")
    with pytest.warns(UserWarning, match="image 1 may be negatives") as caught:
        net.predict(["light.png", "ink.png"])
    assert caught[0].filename == __file__
    for name, ground in (("light", False), ("ink", True)):
        Path(name, "3").mkdir(parents=True)
        shutil.copy(f"{name}.png", Path(name, "3"))
        _, out, _ = refnet_("eval", "--checkpoint", run, "--data", name)
        assert ("note: most of the images may be negatives of the training images" in out) is ground
    with pytest.warns(UserWarning, match="most of the images may be negatives"):
        net.evaluate("ink")


def test_no_picture_is_a_negative_where_training_images_are_as_often_dark_as_light(refnet_, trained, pictures):
    code, _, err = refnet_("predict", pictures / "light", pictures / "dark", "--checkpoint", trained)
    assert (code, err) == (0, "")


# features


def test_features(refnet_, trained):
    code, out, _ = refnet_("features", "--checkpoint", trained, "-o", "f.npy", "--json")
    assert code == 0
    found, labels = np.load("f.npy"), np.load("f-labels.npy")
    assert (found.shape, found.dtype) == ((4, 128), np.float32)
    assert labels.tolist() == [0, 0, 1, 1]
    assert json.loads(out)["shape"] == [4, 128]
    apart = np.linalg.norm(found[:2].mean(axis=0) - found[2:].mean(axis=0))
    assert apart > np.linalg.norm(found[0] - found[1])


def test_features_in_words(refnet_, trained):
    code, out, _ = refnet_("features", "--checkpoint", trained)
    assert code == 0
    assert "features     features.npy: float32 (4, 128)\n" in out


@pytest.mark.parametrize(
    ("path", "message"),
    [("f.npz", "a file that ends in .npy"), ("taken.npy", "exists already"), ("none/f.npy", "none is not a folder")],
)
def test_features_go_to_a_new_file(fails, trained, cwd, path, message):
    (cwd / "taken.npy").write_bytes(b"precious")
    code, err = fails("features", "--checkpoint", trained, "-o", path)
    assert code == 2
    assert message in err
    assert (cwd / "taken.npy").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "argv",
    [
        ["features", "--checkpoint", "RUN"],
        ["similar", "x.png", "--checkpoint", "RUN"],
        ["report", "RUN", "-o", "page.html"],
        ["plot", "kernels", "RUN"],
    ],
)
def test_a_folder_that_is_read_only_is_seen_before_the_work(fails, trained, monkeypatch, argv):
    monkeypatch.setattr(os, "access", lambda *_: False)
    code, err = fails(*[str(trained) if a == "RUN" else a for a in argv])
    assert code == 2
    assert "does not let you write to it; choose another with -o" in err


def test_a_disk_that_fails_is_said_of_the_file_that_was_named(fails, trained, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    code, err = fails("features", "--checkpoint", trained)
    assert (code, err) == (2, "refnet: features-labels.npy cannot be used: No space left on device\n")


# similar


def test_similar(refnet_, trained, pictures):
    argv = ["similar", pictures / "light/0.png", pictures / "dark/0.png", "--checkpoint", trained, "--count", 2]
    code, out, _ = refnet_(*argv, "--json", "-o", "s.png")
    assert code == 0
    light, dark = (json.loads(out)["images"][n]["similar"] for n in (0, 1))
    assert [one["class"] for one in light] == ["light", "light"]
    assert [one["class"] for one in dark] == ["dark", "dark"]
    assert light[0]["distance"] <= light[1]["distance"]
    assert light[0]["where"].endswith(".png")
    with Image.open("s.png") as picture:
        assert picture.size == (130 + 24 + 2 * (130 + 8) - 8, 2 * 130 + 8)
    code, out, _ = refnet_(*argv, "-o", "t.png")
    assert code == 0
    assert out.count("  light  ") == out.count("  dark  ") == 2


def test_similar_to_itself(refnet_, trained, pictures):
    out = refnet_("similar", pictures / "light/0.png", "--checkpoint", trained, "--count", 1, "--json")[1]
    (one,) = json.loads(out)["images"][0]["similar"]
    code, out, _ = refnet_("similar", one["where"], "--checkpoint", trained, "--count", 1, "--json", "-o", "2.png")
    (again,) = json.loads(out)["images"][0]["similar"]
    assert code == 0
    assert again["where"] == one["where"]
    assert again["distance"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["none.png"], 3, "none.png does not exist"),
        (["x.png", "--count", "0"], 2, "--count 0"),
        (["x.png", "-o", "s.jpg"], 2, "a file that ends in .png"),
    ],
)
def test_similar_refuses(fails, trained, argv, code, message):
    found, err = fails("similar", *argv, "--checkpoint", trained)
    assert found == code
    assert message in err


def test_nearest_by_hand():
    among = np.array([[3, 4], [0, 0], [0, 1], [1, 0], [9, 9]], np.float32)
    found = neighbours.nearest(np.zeros(2, np.float32), among, 4)
    assert found.indices.tolist() == [1, 2, 3, 0]
    assert found.distances.tolist() == [0, 1, 1, 5]
    assert len(neighbours.nearest(among[0], among, 100).indices) == 5


def test_nearest_among_more_than_one_part():
    among = np.random.default_rng(0).normal(size=(2500, 3)).astype(np.float32)
    expected = np.argsort(np.linalg.norm(among.astype(float) - among[2000], axis=1), kind="stable")[:5]
    assert neighbours.nearest(among[2000], among, 5).indices.tolist() == expected.tolist()


def test_a_picture_in_colour():
    image = np.full((64, 64, 3), 7, np.uint8)
    picture = np.asarray(figure.draw([(image, np.stack([image + 1, image + 2]))]))
    assert picture.shape == (128, 128 + 24 + 2 * 128 + 8, 3)
    assert [int(picture[5, x, 0]) for x in (0, 127, 128, 151, 152, 279, 280, 288)] == [7, 7, 255, 255, 8, 8, 255, 9]
