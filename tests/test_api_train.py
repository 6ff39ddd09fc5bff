"""``refnet.train``: on named data sets, on arrays, and with a network of the user's own."""

import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import QUICK, blank_images, folder_of_pets

import refnet
from refnet import nets
from refnet.data import fingerprint
from refnet.errors import CheckpointError, ConfigError, DataError
from refnet.nets import Net, registry
from refnet.network.plan import conv, linear, maxpool, relu
from refnet.runs import directory, generations
from refnet.training import loop

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")


def test_the_recipe_of_the_net_applies_as_on_the_command_line():
    run = refnet.train(max_steps=1, **QUICK)
    written = directory.configuration(run.path).read_text()
    recipe = dict(nets.get("digits").recipe)
    for name, value in recipe.items():
        shown = json.dumps(list(value) if isinstance(value, tuple) else value)
        assert re.sub(r"\s+|,(?=\s*\])", "", f"{name}={shown}") in re.sub(r"\s+|,(?=\s*\])", "", written)


def test_the_run_is_that_of_the_command(digits_run, tmp_path):
    from refnet.cli.main import main

    assert main(["train", "--epochs", "1", "--backend", "numpy", "--run-dir", str(tmp_path / "other")]) == 0
    python, command = (generations.load(path, "newest") for path in (digits_run.path, tmp_path / "other"))
    for name, value in python.params.items():
        np.testing.assert_array_equal(value, command.params[name])


def test_a_run_tells_how_it_went(digits_run):
    result = json.loads((digits_run.path / "result.json").read_text())
    assert digits_run.result == result
    assert digits_run.test_error == result["test_top1_error"]
    curves = digits_run.curves
    assert len(curves.step) == len(curves.loss) == len(curves.learning_rate) == 41
    assert curves.step[0] == 1
    assert set(curves.learning_rate) == {0.015}
    assert curves.epoch.tolist() == [1]
    assert 0 < curves.validation_top5_error[0] < curves.validation_error[0] < 1
    assert curves.train_loss[0] == pytest.approx(curves.loss.mean(), rel=0.1)
    assert repr(curves).startswith("<Curves: step, loss, learning_rate (41); epoch")


def test_a_run_is_readable(digits_run):
    assert re.fullmatch(
        r"<Run \S+/run: net digits, data digits, test error \d+\.\d\d%, best validation error \d+\.\d\d%, steps 41, "
        r"epochs 1 of 1, finished>",
        repr(digits_run),
    )
    assert f"<tr><th>test error</th><td>{digits_run.test_error:.2%}</td></tr>" in digits_run._repr_html_()


def test_a_report_is_written(digits_run, tmp_path):
    assert digits_run.report() == digits_run.path / "report.html"
    assert digits_run.report(tmp_path / "page.html").read_bytes() == (digits_run.path / "report.html").read_bytes()
    assert "left out" not in (digits_run.path / "report.html").read_text()
    with pytest.raises(ConfigError, match=r"output='.*' cannot be written: No such file or directory"):
        digits_run.report(tmp_path / "nowhere" / "page.html")


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


def test_a_folder_that_has_a_run_is_refused_with_what_to_do(digits_run):
    before = (digits_run.path / "result.json").read_bytes()
    with pytest.raises(ConfigError) as error:
        refnet.train(run_dir=digits_run.path, **QUICK)
    assert str(error.value) == (
        f"run_dir='{digits_run.path}' has a run already; continue it with resume='{digits_run.path}', give another "
        "folder, or leave run_dir out for a fresh one each time"
    )
    assert (digits_run.path / "result.json").read_bytes() == before


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
    resumed = refnet.train(resume=str(run.path), max_steps=4, progress=False)
    assert resumed.path == run.path
    assert resumed.result["steps"] == 4
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
def on_arrays(digit_arrays, tmp_path_factory):
    return refnet.train(data=digit_arrays, epochs=1, run_dir=tmp_path_factory.mktemp("arrays") / "run", **QUICK)


def test_arrays_are_what_a_run_learns_from(on_arrays, digit_arrays):
    data = refnet.open_data(digit_arrays)
    dataset = data.dataset(image_size=10, channels=1)
    facts = generations.load(on_arrays.path).facts
    assert facts.data.fingerprint == fingerprint.fingerprint(dataset)
    assert facts.config["data"] == "<arrays>"
    assert on_arrays.net.evaluate().count == len(data.test)
    assert on_arrays.net.evaluate().top1_error == on_arrays.test_error
    assert "left out" not in on_arrays.report().read_text()


def test_every_split_that_is_given_is_used(digit_arrays, digits):
    run = refnet.train(data=digit_arrays, validation=digits.validation[:30], test=digits.test[:], max_steps=2, **QUICK)
    assert run.net.evaluate().count == 360
    assert run.net.evaluate(split="validation").count == 30
    assert run.net.evaluate(split="train").count == 200
    data = refnet.open_data(digit_arrays, validation=digits.validation[:30], test=digits.test[:])
    opened = refnet.train(data=data, max_steps=2, **QUICK)
    np.testing.assert_array_equal(run.curves.loss, opened.curves.loss)


def test_a_data_set_can_be_given_by_path_name_or_object(tmp_path, digits):
    losses = [refnet.train(data=data, max_steps=2, **QUICK).curves.loss for data in (None, "digits", digits)]
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_array_equal(losses[0], losses[2])
    pets = folder_of_pets(tmp_path / "pets")
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
    given = refnet.open_data((pictures, np.repeat([0, 1], count))).dataset(image_size=10, channels=1)
    for a, b in ((files.train, given.train), (files.test, given.test)):
        np.testing.assert_array_equal(a[:][0], b[:][0])


def test_a_run_on_arrays_is_resumed_with_them(on_arrays, digit_arrays):
    resumed = refnet.train(resume=on_arrays, epochs=2, progress=False)  # the run still has them
    assert resumed.result["epochs"] == 2
    given = refnet.train(resume=on_arrays.path, data=digit_arrays, epochs=3, progress=False)
    assert given.result["epochs"] == 3
    with pytest.raises(DataError, match=r"were arrays in a Python program.*data=\(images, labels\)"):
        refnet.train(resume=on_arrays.path, epochs=4, progress=False)
    with pytest.raises(DataError, match="has changed since step"):
        refnet.train(resume=on_arrays.path, data=(digit_arrays[0] // 2, digit_arrays[1]), epochs=4, progress=False)
    images = digit_arrays[0] // 2
    changed = refnet.train(
        resume=on_arrays.path, data=(images, digit_arrays[1]), changed_data=True, epochs=4, progress=False
    )
    assert changed.result["epochs"] == 4


def test_the_command_says_that_a_run_was_trained_on_arrays(on_arrays, capsys):
    from refnet.cli.main import main

    assert main(["eval", "--checkpoint", str(on_arrays.path)]) == 3
    assert "were arrays in a Python program" in capsys.readouterr().err
    assert main(["report", str(on_arrays.path), "-o", "page.html"]) == 0
    assert "The parts that need images are left out" in Path("page.html").read_text()
    assert main(["show", str(on_arrays.path)]) == 0
    assert "<arrays>" in capsys.readouterr().out


# A network of the user's own


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


def test_a_net_of_one_s_own(own, digit_arrays):
    run = refnet.train(own, digit_arrays, max_steps=3, **QUICK)
    config = generations.load(run.path).facts.config
    assert (config["net"], config["lr"], config["batch"]) == ("own", 0.02, 16)
    assert run.net.layers == ("conv1", "relu1", "pool1", "fc2")
    assert run.net.spec.plan(fused=False) == own.plan(2)
    assert refnet.train(resume=run, max_steps=4, progress=False).result["steps"] == 4
    with pytest.raises(ConfigError, match="net own has no data of its own"):
        refnet.train(own, **QUICK)
    with pytest.raises(ConfigError, match="there is a net digits already; give yours another name"):
        refnet.train(nets.get("digits"), **QUICK)


def test_a_net_of_one_s_own_in_another_program(own, digit_arrays):
    run = refnet.train(own, digit_arrays, max_steps=3, **QUICK)
    p = run.net.predict(digit_arrays[0][0])[0].probabilities
    del registry._registered["own"]
    with pytest.raises(CheckpointError, match=r"net own is not known.*register"):
        refnet.load(run.path)
    np.testing.assert_array_equal(refnet.load(run.path, net=own).predict(digit_arrays[0][0])[0].probabilities, p)


def test_a_net_too_narrow_for_the_classes_is_refused(own):
    images, labels = blank_images(60, (8, 8), classes=12)
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
