"""The Python interface: the names that ``refnet`` offers, and what train, load and open_data do."""

import ast
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refnet
from refnet import api, nets
from refnet.data import fingerprint
from refnet.errors import CheckpointError, ConfigError, DataError, ShapeError
from refnet.evaluation import protocol
from refnet.evaluation.neighbours import of_images
from refnet.evaluation.trained import open_trained
from refnet.machine import environment
from refnet.nets import Net, registry
from refnet.network.plan import conv, linear, maxpool, relu
from refnet.runs import directory, generations
from refnet.training import loop

DOCS = Path(__file__).parents[1] / "docs"
NAMES = ["__version__", "backend", "check", "load", "nets", "open_data", "ops", "train"]
QUICK = {"backend": "numpy", "progress": False}

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")


@pytest.fixture(scope="module")
def digits():
    return refnet.open_data("digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch on the digits."""
    return refnet.train(epochs=1, run_dir=tmp_path_factory.mktemp("runs") / "run", **QUICK)


@pytest.fixture(scope="module")
def net(run):
    return refnet.load(run, backend="numpy")


@pytest.fixture
def own():
    """A network of a user's own, which this test alone registers."""
    layers = (
        conv("conv1", 8, 3, pad=1, sigma=0.1, bias=0),
        relu("relu1"),
        maxpool("pool1"),
        linear("fc2", 10, sigma=0.1, bias=0, columns="one"),
    )
    yield Net("own", (1, 8, 8), 8, layers, recipe={"lr": 0.02, "batch": 16})
    registry._registered.pop("own", None)


def python(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


# What the package offers


def test_the_package_offers_these_names_and_no_other():
    assert sorted(refnet.__all__) == NAMES
    assert dir(refnet) == NAMES
    for name in NAMES:
        assert getattr(refnet, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'trian'; it has .*train"):
        refnet.trian  # noqa: B018


def test_importing_it_imports_no_library():
    code = "import sys, refnet; print([m for m in ('numpy', 'numba', 'rich', 'PIL', 'hypothesis') if m in sys.modules])"
    assert python(code).stdout == "[]\n"
    assert (
        python("import sys; sys.modules['hypothesis'] = None; import refnet; refnet.train; refnet.check").returncode
        == 0
    )


def test_a_type_checker_sees_every_name():
    tree = ast.parse(inspect.getsource(refnet))
    typed = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.asname or alias.name for node in typed.body for alias in node.names}
    assert seen == set(NAMES) - {"__version__"}


def test_every_public_name_is_in_the_api_reference():
    text = (DOCS / "api.md").read_text()
    documented = re.findall(r"(?:autofunction|autoclass|automodule):: ([\w.]+)", text)
    members = {
        f"{module}.{name.strip()}"
        for module, names in re.findall(r"automodule:: ([\w.]+)\n\s+:members: (.*)", text)
        for name in names.split(",")
    }
    elsewhere = {"Data": "data.handle", "Prediction": "evaluation.prediction", "open_data": "data.handle"}
    public = {f"refnet.{elsewhere.get(name, 'api')}.{name}" for name in api.__all__}
    public |= {"refnet.testing.check.check"}
    public |= {"refnet.nets.Net", "refnet.nets.NetSpec", "refnet.nets.get", "refnet.nets.register"}
    public |= {
        f"refnet.network.plan.{name}" for name in ("conv", "linear", "relu", "tanh", "lrn", "maxpool", "dropout")
    }
    assert public <= set(documented) | members
    assert "](ops/index.md)" in text
    assert "refnet.backend.loading" in documented


# Data


def test_a_named_data_set(digits):
    assert digits.classes == tuple("0123456789")
    assert [len(split) for split in (digits.train, digits.validation, digits.test)] == [1297, 140, 360]
    assert digits.image_shape == (10, 10, 1)
    assert repr(digits) == (
        "<Data digits: handwritten digits, fixed split; 10 classes; 1,297 training, 140 validation, 360 test images of "
        "10x10x1>"
    )
    assert repr(digits.test) == "<360 images of 10x10x1>"


def test_images_are_indexed(digits):
    image, label = digits.train[3]
    images, labels = digits.train[2:5]
    some, _ = digits.train[np.array([3, 0])]
    assert image.shape == (10, 10, 1)
    assert image.dtype == np.uint8
    assert isinstance(label, int)
    np.testing.assert_array_equal(images[1], image)
    np.testing.assert_array_equal(some[0], image)
    assert labels.tolist() == digits.train.labels[2:5].tolist()
    assert digits.train[-1][1] == digits.train.labels[-1]
    assert len(list(digits.validation)) == 140
    with pytest.raises(IndexError):
        digits.train[1297]


def folder(root, size=(12, 9)):
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", size, (40 * number, 0, 200)).save(root / name / f"{number}.png")
    return root


def test_a_folder_of_images(tmp_path):
    data = refnet.open_data(folder(tmp_path / "pets"))
    assert (data.name, data.classes) == ("pets", ("cat", "dog"))
    assert data.train[0][0].shape == (256, 256, 3)
    assert data.dataset(image_size=8, channels=3).image_shape == (8, 8, 3)


def test_a_prepared_folder(tmp_path, monkeypatch):
    from refnet.cli.main import main

    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "pets")
    assert main(["data", "prepare", "pets", "ready", "--size", "16"]) == 0
    data = refnet.open_data("ready")
    assert data.image_shape == (16, 16, 3)
    assert len(data.train) + len(data.validation) + len(data.test) == 12
    assert data.dataset(image_size=16, channels=3).image_shape == (16, 16, 3)


def test_arrays_are_held_out_as_files_of_a_folder_are(tmp_path):
    data = refnet.open_data(folder(tmp_path / "pets"))
    number = {str(file): i for i, file in enumerate(sorted((tmp_path / "pets").rglob("*.png")))}
    images = np.arange(12, dtype=np.uint8).repeat(16).reshape(12, 4, 4)
    arrays = refnet.open_data((images, np.repeat([0, 1], 6)), classes=["cat", "dog"])
    for name, files in data.source.splits.items():
        assert getattr(arrays, name)[:][0][:, 0, 0, 0].tolist() == [number[path] for path in files.paths]
    assert arrays.classes == ("cat", "dog")
    assert arrays.layout == "arrays of 4x4x1, a fifth of each class held out for validation and a fifth for test"
    assert [len(split) for split in (arrays.train, arrays.validation, arrays.test)] == [8, 2, 2]


def some(count=20, shape=(4, 4), classes=2):
    return np.zeros((count, *shape), np.uint8), np.arange(count) % classes


@pytest.mark.parametrize("given", ["validation", "test"])
def test_a_tenth_is_held_out_for_what_is_missing(given):
    data = refnet.open_data(some(), **{given: some(5)})
    missing = {"validation": "test", "test": "validation"}[given]
    assert len(getattr(data, given)) == 5
    assert (len(data.train), len(getattr(data, missing))) == (18, 2)
    assert data.layout == f"arrays of 4x4x1, a tenth of each class held out for {missing}"


def test_nothing_is_held_out_of_arrays_with_both():
    data = refnet.open_data(some(), validation=some(5), test=some(6))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [20, 5, 6]
    assert data.layout == "arrays of 4x4x1"


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64, list])
def test_labels_are_integers_of_any_type(kind):
    images, labels = some()
    data = refnet.open_data((images, labels.tolist() if kind is list else labels.astype(kind)))
    assert data.classes == ("0", "1")
    assert data.train.labels.dtype == np.int64


def test_labels_are_names_of_classes():
    images, labels = some()
    names = np.array(["dog", "cat"])[labels]
    assert refnet.open_data((images, names)).classes == ("cat", "dog")
    ordered = refnet.open_data((images, names.astype(object)), classes=["dog", "cat"])
    assert ordered.classes == ("dog", "cat")
    validation = refnet.open_data((images, names), validation=(images[:2], ["cat", "dog"])).validation
    assert validation.labels.tolist() == [0, 1]


images, labels = some()
WRONG = [
    ((images / 255, labels), {}, "data: images are float64 from 0.0 to 0.0, not uint8; convert them: (255 * images)"),
    ((images.astype(int) + 200, labels), {}, "data: images are int64 from 200 to 200, not uint8; convert them: images"),
    ((images - 300.0, labels), {}, "data: images are float64 from -300.0 to -300.0, not uint8; scale them"),
    ((images[0], labels[:1]), {}, "data: images have shape (4, 4), not (N,H,W)"),
    (some(shape=(3, 4, 4)), {}, "(20, 3, 4, 4), not (N,H,W), (N,H,W,1) or (N,H,W,3); move the channels"),
    (some(shape=(4, 4, 4)), {}, "drop the fourth channel: images[..., :3]"),
    ((images[:0], labels[:0]), {}, "data: images have shape (0, 4, 4, 1)"),
    (([images[0], images[0][:2]], labels[:2]), {}, "data: images differ in shape"),
    ((images, labels[:-1]), {}, "data: 20 images, but 19 labels"),
    ((images, labels.astype(float)), {}, "data: labels are float64, not integers or names; convert them: labels"),
    ((images, np.eye(2)[labels].astype(int)), {}, "data: labels have shape (20, 2), not (N,); try labels.argmax"),
    ((images, labels[:, None]), {}, "data: labels have shape (20, 1), not (N,); try labels.ravel()"),
    ((images, labels - 1), {}, "data: a label is -1, but"),
    ((images, labels), {"classes": ["a"]}, "data: a label is 1, but 1 classes have the labels 0 to 0 (10 of 20 labels"),
    ((images, labels), {"test": (images, labels + 1)}, "test: a label is 2, but 2 classes have the labels 0 to 1"),
    (
        (images, labels),
        {"validation": (images, ["x"] * 20)},
        "validation: the label 'x' is none of the 2 classes (0, 1)",
    ),
    ((images, labels), {"validation": images}, "validation has ndarray; give a pair of two arrays, validation=(images"),
    ((images, labels), {"classes": "ab"}, "classes='ab' is one text"),
    ((images, labels), {"classes": ["a", "a"]}, "classes: 'a' is there 2 times"),
    ((images, labels, labels), {}, "data has 3 items; give a pair of two arrays, data=(images, labels)"),
    ((images[:3], [0, 0, 1]), {}, "the class '0' has 2 of the 3 images needed to hold 2 out"),
    ((images, labels * 0), {}, "data: one class, '0'"),
    (
        (images, labels + 2**40),
        {},
        "the largest of 20 is 1099511627777; number the classes from 0: numpy.unique(labels",
    ),
    ((images, labels), {"classes": 10}, "classes=10 is int; give a list of names"),
    ((images, labels), {"classes": []}, "classes is empty; give a list of names"),
    ("digits", {"classes": ["a"]}, "classes= belongs to arrays, but data='digits' has its own"),
    ("nowhere", {}, "nowhere does not exist"),
]


@pytest.mark.parametrize(("data", "more", "message"), WRONG, ids=[w[2][:40] for w in WRONG])
def test_wrong_data_is_refused_by_the_argument_s_name(data, more, message):
    with pytest.raises(DataError) as error:
        refnet.open_data(data, **more)
    assert message in str(error.value)
    with pytest.raises(DataError) as error:
        refnet.train(data=data, **more, **QUICK)
    assert message in str(error.value)
    assert not Path("runs").exists()


# Train


def test_the_recipe_of_the_net_applies_as_on_the_command_line():
    run = refnet.train(max_steps=1, **QUICK)
    written = directory.configuration(run.path).read_text()
    recipe = dict(nets.get("digits").recipe)
    for name, value in recipe.items():
        shown = json.dumps(list(value) if isinstance(value, tuple) else value)
        assert re.sub(r"\s+|,(?=\s*\])", "", f"{name}={shown}") in re.sub(r"\s+|,(?=\s*\])", "", written)


def test_the_run_is_that_of_the_command(run, tmp_path):
    from refnet.cli.main import main

    assert main(["train", "--epochs", "1", "--backend", "numpy", "--run-dir", str(tmp_path / "other")]) == 0
    mine, other = (generations.load(path, "newest") for path in (run.path, tmp_path / "other"))
    for name, value in mine.params.items():
        np.testing.assert_array_equal(value, other.params[name])


def test_a_run_tells_how_it_went(run):
    result = json.loads((run.path / "result.json").read_text())
    assert run.result == result
    assert run.test_error == result["test_top1_error"]
    curves = run.curves
    assert len(curves.step) == len(curves.loss) == len(curves.learning_rate) == 41
    assert curves.step[0] == 1
    assert set(curves.learning_rate) == {0.015}
    assert curves.epoch.tolist() == [1]
    assert 0 < curves.validation_top5_error[0] < curves.validation_error[0] < 1
    assert curves.train_loss[0] == pytest.approx(curves.loss.mean(), rel=0.1)
    assert repr(curves).startswith("<Curves: step, loss, learning_rate (41); epoch")


def test_a_run_is_readable(run):
    assert re.fullmatch(
        r"<Run \S+/run: net digits, data digits, test error \d+\.\d\d%, best validation error \d+\.\d\d%, steps 41, "
        r"epochs 1 of 1, finished>",
        repr(run),
    )
    assert f"<tr><th>test error</th><td>{run.test_error:.2%}</td></tr>" in run._repr_html_()


def test_a_report_is_written(run, tmp_path):
    assert run.report() == run.path / "report.html"
    assert run.report(tmp_path / "page.html").read_bytes() == (run.path / "report.html").read_bytes()
    assert "left out" not in (run.path / "report.html").read_text()
    with pytest.raises(ConfigError, match=r"output='.*' cannot be written: No such file or directory"):
        run.report(tmp_path / "nowhere" / "page.html")


def test_progress_is_plain_lines_or_nothing(capsys):
    refnet.train(epochs=1, max_steps=2, backend="numpy")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("digits (embedded): handwritten digits")
    assert lines[2].startswith("epoch   1  lr 0.015")
    assert re.fullmatch(r"test error \d+\.\d\d% top-1, \d+\.\d\d% top-5; run in runs/digits-\S+", lines[-1])
    assert not [line for line in lines if "\x1b" in line or "\r" in line]
    refnet.train(max_steps=1, **QUICK)
    assert capsys.readouterr() == ("", "")


def test_twice_in_one_second_are_two_folders(monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    paths = [refnet.train(max_steps=1, **QUICK).path.name for _ in range(3)]
    assert paths == [f"digits-20260101-000000{end}" for end in ("", "-2", "-3")]


def test_a_folder_that_has_a_run_is_refused_with_what_to_do(run):
    before = (run.path / "result.json").read_bytes()
    with pytest.raises(ConfigError) as error:
        refnet.train(run_dir=run.path, **QUICK)
    assert str(error.value) == (
        f"run_dir='{run.path}' has a run already; continue it with resume='{run.path}', give another folder, or leave "
        "run_dir out for a fresh one each time"
    )
    assert (run.path / "result.json").read_bytes() == before


def test_wrong_settings_are_named_as_arguments_all_at_once():
    with pytest.raises(ConfigError) as error:
        refnet.train("digits", lr=-1, batch=0, epoch=3, **QUICK)
    lines = str(error.value).splitlines()
    assert lines[0].startswith("lr=-1 is not allowed")
    assert lines[1].startswith("batch=0 is not allowed")
    assert "epoch" in lines[2]
    assert "epochs" in lines[2]
    assert "--" not in str(error.value)
    with pytest.raises(ConfigError, match="net='digit' is not allowed; it must be one of digits, paper"):
        refnet.train("digit", **QUICK)


@pytest.fixture
def stopped_after_two_steps(monkeypatch):
    """Send SIGINT in the second step."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    step = loop._step

    def interrupting(session, batch, began):
        if session.state.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(session, batch, began)

    monkeypatch.setattr(loop, "_step", interrupting)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("stopped_after_two_steps")
def test_an_interrupt_saves_and_returns_the_run(capsys, monkeypatch, tmp_path):
    run = refnet.train(epochs=1, backend="numpy")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"interrupted; step 2 is saved; resume with refnet.train(resume='{run.path}')"
    assert run.test_error is None
    assert run.result is None
    assert repr(run).endswith("steps 2, epochs 1 of 1, stopped>")
    assert run.net.spec.name == "digits"
    here = Path.cwd()
    monkeypatch.undo()
    monkeypatch.chdir(here)
    resumed = refnet.train(resume=run, **QUICK)
    assert resumed.path == run.path
    whole = refnet.train(epochs=1, run_dir=tmp_path / "whole", **QUICK)
    for name, value in whole.net.parameters.items():
        np.testing.assert_array_equal(value, resumed.net.parameters[name])


def test_a_run_is_resumed_with_changed_settings():
    run = refnet.train(epochs=1, max_steps=2, **QUICK)
    again = refnet.train(resume=str(run.path), max_steps=4, progress=False)
    assert again.path == run.path
    assert again.result["steps"] == 4
    with pytest.raises(ConfigError, match="seed"):
        refnet.train(resume=run, seed=1, progress=False)
    with pytest.raises(ConfigError, match="run_dir='x' cannot be given with resume=: the run has its own folder"):
        refnet.train(resume=run, run_dir="x", progress=False)
    with pytest.raises(ConfigError, match="nowhere"):
        refnet.train(resume="nowhere", progress=False)
    with pytest.raises(ConfigError, match=r"net"):
        refnet.train("half", resume=run, progress=False)


# Train on arrays


@pytest.fixture(scope="module")
def arrays(digits):
    return digits.train[:200]


@pytest.fixture(scope="module")
def on_arrays(arrays, tmp_path_factory):
    return refnet.train(data=arrays, epochs=1, run_dir=tmp_path_factory.mktemp("arrays") / "run", **QUICK)


def test_arrays_are_what_a_run_learns_from(on_arrays, arrays):
    data = refnet.open_data(arrays)
    dataset = data.dataset(image_size=10, channels=1)
    facts = generations.load(on_arrays.path).facts
    assert facts.data.fingerprint == fingerprint.fingerprint(dataset)
    assert facts.config["data"] == "<arrays>"
    assert on_arrays.net.evaluate().count == len(data.test)
    assert on_arrays.net.evaluate().top1_error == on_arrays.test_error
    assert "left out" not in on_arrays.report().read_text()


def test_every_split_that_is_given_is_used(arrays, digits):
    run = refnet.train(data=arrays, validation=digits.validation[:30], test=digits.test[:], max_steps=2, **QUICK)
    assert run.net.evaluate().count == 360
    assert run.net.evaluate(split="validation").count == 30
    assert run.net.evaluate(split="train").count == 200
    data = refnet.open_data(arrays, validation=digits.validation[:30], test=digits.test[:])
    again = refnet.train(data=data, max_steps=2, **QUICK)
    np.testing.assert_array_equal(run.curves.loss, again.curves.loss)


def test_a_data_set_can_be_given_by_path_name_or_object(tmp_path, digits):
    losses = [refnet.train(data=data, max_steps=2, **QUICK).curves.loss for data in (None, "digits", digits)]
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_array_equal(losses[0], losses[2])
    pets = folder(tmp_path / "pets")
    runs = [refnet.train(data=data, max_steps=1, **QUICK) for data in (pets, str(pets), refnet.open_data(pets))]
    assert len({run.curves.loss[0] for run in runs}) == 1
    assert runs[0].net.classes == ("cat", "dog")


def test_arrays_of_another_size_are_resized_as_files_are(tmp_path):
    root, count = tmp_path / "pets", 10
    pictures = np.random.default_rng(0).integers(0, 256, (2 * count, 14, 20, 3), np.uint8)
    for number, picture in enumerate(pictures):
        place = root / "ab"[number // count]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{number:02}.png")
    files = refnet.open_data(root).dataset(image_size=10, channels=1)
    mine = refnet.open_data((pictures, np.repeat([0, 1], count))).dataset(image_size=10, channels=1)
    for a, b in ((files.train, mine.train), (files.test, mine.test)):
        np.testing.assert_array_equal(a[:][0], b[:][0])


def test_a_run_on_arrays_is_resumed_with_them(on_arrays, arrays):
    again = refnet.train(resume=on_arrays, epochs=2, progress=False)  # the run still has them
    assert again.result["epochs"] == 2
    given = refnet.train(resume=on_arrays.path, data=arrays, epochs=3, progress=False)
    assert given.result["epochs"] == 3
    with pytest.raises(DataError, match=r"were arrays in a Python program.*data=\(images, labels\)"):
        refnet.train(resume=on_arrays.path, epochs=4, progress=False)
    with pytest.raises(DataError, match="has changed since step"):
        refnet.train(resume=on_arrays.path, data=(arrays[0] // 2, arrays[1]), epochs=4, progress=False)
    images = arrays[0] // 2
    changed = refnet.train(resume=on_arrays.path, data=(images, arrays[1]), changed_data=True, epochs=4, progress=False)
    assert changed.result["epochs"] == 4


def test_the_command_says_that_a_run_was_trained_on_arrays(on_arrays, capsys):
    from refnet.cli.main import main

    assert main(["eval", "--checkpoint", str(on_arrays.path)]) == 3
    assert "were arrays in a Python program" in capsys.readouterr().err
    assert main(["report", str(on_arrays.path), "-o", "page.html"]) == 0
    assert "The parts that need images are left out" in Path("page.html").read_text()
    assert main(["show", str(on_arrays.path)]) == 0
    assert "<arrays>" in capsys.readouterr().out


# A network of one's own


def test_a_net_of_one_s_own(own, arrays):
    run = refnet.train(own, arrays, max_steps=3, **QUICK)
    config = generations.load(run.path).facts.config
    assert (config["net"], config["lr"], config["batch"]) == ("own", 0.02, 16)
    assert run.net.layers == ("conv1", "relu1", "pool1", "fc2")
    assert run.net.spec.plan(fused=False) == own.plan(2)
    assert refnet.train(resume=run, max_steps=4, progress=False).result["steps"] == 4
    with pytest.raises(ConfigError, match="net own has no data of its own"):
        refnet.train(own, **QUICK)
    with pytest.raises(ConfigError, match="there is a net digits already; give yours another name"):
        refnet.train(nets.get("digits"), **QUICK)


def test_a_net_of_one_s_own_in_another_program(own, arrays):
    run = refnet.train(own, arrays, max_steps=3, **QUICK)
    p = run.net.predict(arrays[0][0])[0].probabilities
    del registry._registered["own"]
    with pytest.raises(CheckpointError, match=r"net own is not known.*register"):
        refnet.load(run.path)
    np.testing.assert_array_equal(refnet.load(run.path, net=own).predict(arrays[0][0])[0].probabilities, p)


def test_a_net_too_narrow_for_the_classes_is_refused(own):
    images, labels = some(60, (8, 8), classes=12)
    with pytest.raises(DataError, match="has 12 classes, the net has 10 outputs; give outputs=12, or leave it out"):
        refnet.train(own, (images, labels), outputs=10, **QUICK)
    run = refnet.train(own, (images, labels), max_steps=1, **QUICK)
    assert run.net.parameters["fc2@0.w"].shape[0] == len(run.net.predict(images[0])[0].probabilities) == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../own"}, r"name='../own' is not allowed; use letters"),
        ({"name": 3}, "name=3 is not allowed"),
        ({"layers": ()}, r"own has layers=\(\); it must be a tuple of at least one layer"),
        ({"layers": ("conv",)}, "own has a layer 'conv'; make it with a function of refnet.network.plan"),
        ({"layers": (conv("conv1", -4, 3, sigma=0.1, bias=0),)}, "the layer conv1 has width=-4; it must be"),
        ({"layers": (conv("conv1", "4", 3, sigma=0.1, bias=0),)}, "the layer conv1 has width='4'; it must be"),
        ({"input_shape": (8, 8)}, r"own has input_shape=\(8, 8\); it must be \(channels, height, width\)"),
        ({"image_size": 0}, "own has image_size=0; it must be"),
    ],
)
def test_a_malformed_net_is_refused_before_anything_is_written(own, changes, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        refnet.train(replace(own, **changes), "digits", **QUICK)
    assert not any(tmp_path.iterdir())
    assert "own" not in registry.names()


def test_what_is_no_run_is_refused_by_the_argument_s_name(run):
    with pytest.raises(ConfigError, match="where=3 is not allowed; it must be a run, its folder, or the path of a ch"):
        refnet.load(3)
    with pytest.raises(ConfigError, match=r"net='cifar' is not allowed; it must be a refnet\.nets\.Net"):
        refnet.load(run, net="cifar")
    with pytest.raises(ConfigError, match="resume=3 is not allowed; it must be a run, or the path of its folder"):
        refnet.train(resume=3)
    with pytest.raises(ConfigError, match="output=3 is not allowed; it must be the path of a file"):
        run.report(3)
    with pytest.raises(ConfigError, match=r"output='\.' cannot be written: Is a directory; choose another"):
        run.report(".")


# Load, and ask


@pytest.fixture(scope="module")
def pictures(digits):
    return digits.test[:5][0]


def test_a_network_is_readable(net, run):
    assert repr(net) == (
        "<Network net digits, columns 2, images 10x10x1, classes 10 (0, 1, 2, 3, 4, ...), parameters 99,210, steps 41, "
        f"backend numpy, from {run.path}>"
    )
    html = net._repr_html_()
    assert "<tr><th>parameters</th><td>99,210</td></tr>" in html
    assert 'alt="the network in 2 columns"' in html


def test_the_drawing_is_an_image_of_its_own(net):
    import base64
    from xml.etree import ElementTree as ET

    encoded = re.search(r'base64,([^"]+)"', net._repr_html_())[1]
    svg = ET.fromstring(base64.b64decode(encoded))  # noqa: S314 - our own
    words = " ".join(svg.itertext())
    assert "conv1" in words
    assert ".net .column0" in words
    assert "1\N{MULTIPLICATION SIGN}8" in words


def test_load_takes_a_run_its_path_or_a_checkpoint(run):
    best = generations.choose(run.path)
    values = [refnet.load(where, backend="numpy").parameters for where in (run, run.path, str(run.path), best)]
    for other in values[1:]:
        for name, value in values[0].items():
            np.testing.assert_array_equal(value, other[name])
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        refnet.load("nowhere")


def test_parameters_are_copies_by_name(net, run):
    saved = generations.load(run.path).params
    assert net.parameters.keys() == saved.keys()
    np.testing.assert_array_equal(net.parameters["conv1@1.w"], saved["conv1@1.w"])
    net.parameters["conv1@1.w"][...] = 0
    assert net.parameters["conv1@1.w"].any()


@pytest.mark.parametrize("crops", ["centre", "ten"])
def test_predictions_are_those_of_the_command(net, run, pictures, crops):
    expected = protocol.classify(open_trained(run.path, "numpy"), pictures, {crops: protocol.PROTOCOLS[crops]})[crops]
    predictions = net.predict(pictures, crops=crops)
    for prediction, p in zip(predictions, expected, strict=True):
        np.testing.assert_array_equal(prediction.probabilities, p)
        assert prediction.label == p.argmax()
        assert prediction.class_name == net.classes[prediction.label] == prediction.top5[0][0]
        assert prediction.probability == p.max() == prediction.top5[0][1]
        assert [value for _, value in prediction.top5] == sorted(p, reverse=True)[:5]
    with pytest.raises(ConfigError, match="crops='five' is not allowed; it must be one of 'centre', 'ten'"):
        net.predict(pictures, crops="five")


def test_a_prediction_is_readable(net, pictures):
    assert re.fullmatch(r"\[<\d \d+\.\d%; then (\d \d+\.\d%(, )?){4}>\]", repr(net.predict(pictures[0])))


def test_images_come_in_every_form(net, pictures, tmp_path):
    def p(images):
        return [prediction.probabilities for prediction in net.predict(images)]

    one = p(pictures[0])
    assert len(one) == 1
    for form in (pictures[0][..., 0], pictures[:1], pictures[:1, ..., 0], [pictures[0]], [pictures[0][..., 0]]):
        np.testing.assert_array_equal(p(form), one)
    assert len(p(pictures[..., 0])) == len(p(pictures)) == 5
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    forms = (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(picture), picture, picture[None])
    for form in forms:
        np.testing.assert_array_equal(p(form), p(forms[0]))
    assert len(p([*forms[:3], pictures[0]])) == 4
    Image.fromarray(pictures[1][..., 0]).save(tmp_path / "b.png")
    expected = p([tmp_path / "a.png", tmp_path / "b.png"])
    for form in (tmp_path, f"{tmp_path}/*.png", sorted(tmp_path.glob("*.png")), iter(sorted(tmp_path.iterdir()))):
        np.testing.assert_array_equal(p(form), expected)
    assert net.activations(tmp_path, "fc6").shape == (2, 10)
    assert net.activations(tmp_path / "a.png", "fc6").shape == (10,)
    assert len(net.predict(np.repeat(pictures, 30, axis=0))) == 150


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((10, 10)), "images: images are float64 from 0.0 to 0.0, not uint8"),
        (np.zeros((1, 3, 10, 10), np.uint8), "images: images have shape (1, 3, 10, 10)"),
        ([], "images is an empty list"),
        (iter([]), "images is an empty list"),
        ("none/*.png", "no file matches none/*.png"),
        ("https://example.org/cat.jpg", "is an address, and refnet reads only files: download it first"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_wrong_images_are_refused(net, images, message):
    with pytest.raises(DataError) as error:
        net.predict(images)
    assert message in str(error.value)


def test_features_are_the_last_hidden_layer_or_that_of_a_name(net, run, pictures):
    trained = open_trained(run.path, "numpy")
    np.testing.assert_array_equal(net.features(pictures), of_images(trained, pictures))
    np.testing.assert_allclose(net.features(pictures, layer="drop5"), net.features(pictures), rtol=1e-6)
    conv3 = net.features(pictures, layer="conv3")
    assert conv3.shape == (5, 64 * 4 * 4)
    np.testing.assert_allclose(conv3[1], net.activations(pictures[:2], "conv3")[1].ravel(), rtol=1e-3, atol=1e-5)


def test_activations_have_both_columns_in_order(net, pictures):
    maps = net.activations(pictures[0], "conv1")
    assert maps.shape == (32, 8, 8)
    assert maps.dtype == np.float32
    assert (maps < 0).any()  # before the ReLU
    np.testing.assert_array_equal(net.activations(pictures[0], "relu1"), np.maximum(maps, 0))
    for column in (0, 1):
        filters = net.parameters[f"conv1@{column}.w"], net.parameters[f"conv1@{column}.b"]
        mean = generations.load(Path(net._trained.where)).mean
        x = (pictures[0] - mean)[1:9, 1:9].transpose(2, 0, 1)[None].astype(np.float32)
        expected = refnet.ops.conv2d.forward(x, *filters, stride=1, pad=1, ceil=False)[0]
        np.testing.assert_allclose(maps[16 * column : 16 * column + 16], expected, rtol=1e-5, atol=1e-5)
    assert net.activations(pictures, "fc6").shape == (5, 10)
    with pytest.raises(ConfigError, match="layer='conv9' is not a layer of this network; it has conv1, relu1"):
        net.activations(pictures, "conv9")


def test_evaluation_of_every_kind_of_data(net, run, digits):
    assert net.evaluate().top1_error == run.test_error
    assert net.evaluate("digits").top1_error == net.evaluate(digits).top1_error == run.test_error
    assert net.evaluate(digits, split="validation").count == 140
    some, labels = digits.test[:50]
    tally = net.evaluate((some, labels.astype(str)), crops="ten")
    assert tally.count == 50
    assert repr(tally) == f"<Tally 50 images: top-1 error {tally.top1_error:.2%}, top-5 error {tally.top5_error:.2%}>"
    wrong = [p.label != label for p, label in zip(net.predict(some, crops="ten"), labels, strict=True)]
    assert tally.top1_error == pytest.approx(np.mean(wrong))
    with pytest.raises(DataError, match="data: a label is 10, but 10 classes"):
        net.evaluate((some, labels + 1))
    with pytest.raises(ConfigError, match="split='all' is not allowed"):
        net.evaluate(digits, split="all")
    of_two = refnet.open_data(some_of_two())  # the classes 0 and 1
    assert net.evaluate(of_two).count == len(of_two.test)
    images, labels = some_of_two()
    with pytest.raises(
        DataError, match=r"memory has none of the classes of .*: it has cat, dog, the network knows 0, 1"
    ):
        net.evaluate(refnet.open_data((images, np.array(["cat", "dog"])[labels])))
    with pytest.warns(UserWarning, match="left out [0-9]+ images of classes that the network does not know: dog"):
        assert net.evaluate(refnet.open_data((images, np.array(["3", "dog"])[labels]))).confusion[3].sum() > 0


def some_of_two():
    return some(20, (10, 10))


def test_an_evaluation_uses_the_images_that_the_run_used():
    run = refnet.train(images=300, max_steps=1, **QUICK)
    assert run.net.evaluate(split="train").count == 300


def test_the_summary_is_that_of_the_command(net, capsys):
    from refnet.cli.main import main

    assert main(["summary", "digits"]) == 0
    assert str(net.summary()) == repr(net.summary())
    expected = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert net.summary().splitlines() == expected


def test_columns_are_kept(arrays):
    run = refnet.train(data=arrays, columns=1, max_steps=1, **QUICK)
    assert run.net.spec.columns == 1
    assert 'alt="the network in one column"' in run.net._repr_html_()
    with pytest.raises(ShapeError):
        run.net.spec.__class__("digits", columns=3).plan()


def test_libraries_of_other_packages_do_not_count_as_surroundings(monkeypatch):
    """In a notebook, SciPy's OpenBLAS may be loaded between a run and its continuation."""
    common = {"user_api": "blas", "internal_api": "openblas", "architecture": "Haswell", "num_threads": 2}
    numpys = common | {"filepath": "/lib/numpy.libs/a.so", "version": "1"}
    scipys = common | {"filepath": "/lib/scipy.libs/b.so", "version": "2"}
    systems = common | {"filepath": "/usr/lib/libopenblas.so", "version": "3"}

    def versions(*pools):
        monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: list(pools))
        return [pool["version"] for pool in environment.blas()]

    assert versions(numpys) == versions(scipys, numpys) == ["1"]
    assert versions(systems, scipys) == ["3", "2"]
