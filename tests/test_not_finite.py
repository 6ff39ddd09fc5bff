"""NaN and infinity: the message says where they began, checkpoints stay finite, and a step can be skipped."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from refnet.backend.loading import load
from refnet.cli.main import main
from refnet.data.crops import centre
from refnet.data.opening import open_dataset
from refnet.errors import NumericError
from refnet.nets import get
from refnet.network import passes
from refnet.runs import generations
from refnet.training import session
from refnet.training.step import TrainingStep, begin

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")


@pytest.fixture
def begun():
    """Give the training step of the digits net, and a batch."""
    net, digits = get("digits"), open_dataset("digits", image_size=10, channels=1)
    begun = begin(net.plan(2), load("numpy", columns=2))
    draws = centre(8, digits.image_shape, net.crop)
    images = passes.place_bytes(begun.plan, digits.train.images(np.arange(8)), digits.mean, draws, begun.backend)
    return begun, images, digits.train.labels[:8]


@pytest.fixture
def refnet_(capsys):
    def run(*argv):
        code = main(["train", "--json", "--backend", "numpy", *map(str, argv)])
        return code, capsys.readouterr().err

    return run


def lines(run, kind):
    found = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def poisoned(monkeypatch, steps, where):
    """Make the images of some steps NaN ("images"), or a gradient ("w", "b"), as a broken kernel would."""
    real, count = TrainingStep.take, [0]

    def step(begun, images, *args):
        count[0] += 1
        if count[0] not in steps:
            return real(begun, images, *args)
        if where == "images":
            return real(begun, [np.full_like(each, np.nan) for each in images], *args)
        backward = passes.backward

        def spoiled(*given):
            gradients = backward(*given)
            gradients[f"conv2@1.{where}"].flat[3] = np.inf
            return gradients

        with monkeypatch.context() as patch:
            patch.setattr(passes, "backward", spoiled)
            return real(begun, images, *args)

    monkeypatch.setattr(TrainingStep, "take", step)


# Where it began


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["conv1@1.w", "conv3@0.b", "fc6@0.w"])
def test_a_parameter_is_named(begun, name, value):
    net, images, labels = begun
    net.params[name].flat[0] = value
    with np.errstate(all="ignore"), pytest.raises(NumericError) as caught:
        net.take(images, labels, 0.01, 1)
    assert f"parameter {name} is the first that is not finite" in str(caught.value)


@pytest.mark.parametrize("layer", ["conv1@0", "norm2@1", "pool4@0", "fc5.gather@1", "drop5@1"])
def test_a_layer_is_named(begun, monkeypatch, layer):
    net, images, labels = begun
    layers = dict(passes.LAYERS)

    def broken(op):
        def run(node, *args):
            y, backprop = layers[op](node, *args)
            if node.name == layer:
                y = y.copy()
                y.flat[-1] = np.nan
            return y, backprop

        return run

    monkeypatch.setattr(passes, "LAYERS", {op: broken(op) for op in layers})
    with np.errstate(all="ignore"), pytest.raises(NumericError) as caught:
        net.take(images, labels, 0.01, 1)
    assert f"layer {layer} is the first whose output is not finite" in str(caught.value)


def test_images_are_named(begun):
    net, images, labels = begun
    images[0][3, 0, 2, 2] = np.inf
    with np.errstate(all="ignore"), pytest.raises(NumericError, match="the loss is nan; the images are not finite"):
        net.take(images, labels, 0.01, 1)


@pytest.mark.parametrize("layer", ["conv1@0", "conv4@1", "fc6@0"])
def test_a_gradient_is_named_the_first_on_the_way_back(begun, monkeypatch, layer):
    """From the layer whose gradient is spoiled, NaN goes on to all before it; the last of the network is the first."""
    net, images, labels = begun
    before = {name: a.copy() for name, a in net.params.items()}
    layers = dict(passes.LAYERS)

    def broken(op):
        def run(node, *args):
            y, backprop = layers[op](node, *args)
            if node.name != layer:
                return y, backprop
            return y, lambda dy: backprop(np.where(np.arange(dy.size).reshape(dy.shape) == 0, np.float32(np.nan), dy))

        return run

    monkeypatch.setattr(passes, "LAYERS", {op: broken(op) for op in layers})
    with np.errstate(all="ignore"), pytest.raises(NumericError, match=f"the gradient of {layer}.b is not finite"):
        net.take(images, labels, 0.01, 1)
    assert all(np.array_equal(a, before[name]) for name, a in net.params.items())


# What a run does


@pytest.mark.parametrize("where", ["images", "b"])
def test_a_run_stops_and_keeps_the_last_good_checkpoint(refnet_, monkeypatch, where):
    poisoned(monkeypatch, {5}, where)
    code, err = refnet_("--run-dir", "run", "--checkpoint-steps", 2, "--max-steps", 9)
    assert code == 5
    last = err.splitlines()[-1]
    assert last.startswith("refnet: step 5: the ")
    assert last.endswith("the last checkpoint, step-000000004.safetensors, is finite; the run is in run")
    found = generations.load(Path("run"), "newest")
    assert found.facts.state.step == 4
    assert all(np.isfinite(a).all() for a in found.tensors().values())
    assert [line["step"] for line in lines("run", "step")] == [1, 2, 3, 4]


@pytest.mark.parametrize("every", [1, 3])
def test_a_weight_gradient_that_overflows_alone_is_never_saved(refnet_, monkeypatch, every):
    """Only the biases' gradients are looked at; the next loss, or the next checkpoint, is where it shows."""
    poisoned(monkeypatch, {5}, "w")
    code, err = refnet_("--run-dir", "run", "--checkpoint-steps", every, "--max-steps", 9)
    assert code == 5
    assert "conv2@1.w" in err.splitlines()[-1]
    found = generations.load(Path("run"), "newest")
    assert found.facts.state.step == {1: 4, 3: 3}[every]
    assert all(np.isfinite(a).all() for a in found.tensors().values())


@pytest.mark.parametrize("where", ["images", "b", "w"])
def test_a_step_can_be_left_out(refnet_, monkeypatch, where):
    poisoned(monkeypatch, {2, 5}, where)
    code, err = refnet_("--run-dir", "run", "--max-steps", 7, "--non-finite", "skip")
    assert code == 0
    assert err.count("; the step is left out") == 2
    assert [line["step"] for line in lines("run", "step")] == [1, 3, 4, 6, 7]
    skipped = lines("run", "skip")
    assert [line["step"] for line in skipped] == [2, 5]
    assert all("not finite; a lower --lr than" in line["reason"] for line in skipped)
    (epoch,) = lines("run", "epoch")
    assert epoch["train_loss"] == pytest.approx(np.mean([line["loss"] for line in lines("run", "step")]))
    state = generations.load(Path("run")).facts.state
    assert (state.step, state.position, state.counted, state.skipped) == (7, 7 * 32, 5 * 32, 0)


def test_a_step_left_out_changes_nothing(refnet_, monkeypatch):
    poisoned(monkeypatch, {3}, "images")
    refnet_("--run-dir", "run", "--max-steps", 3, "--checkpoint-steps", 1, "--non-finite", "skip")
    after, before = (generations.checkpoint.read(path) for path in generations.listed(Path("run"))[:2])
    assert (after.facts.state.step, before.facts.state.step) == (3, 2)
    assert all(a.tobytes() == before.tensors()[name].tobytes() for name, a in after.tensors().items())


def test_ten_in_a_row_are_too_many(refnet_, monkeypatch):
    poisoned(monkeypatch, range(4, 99), "images")
    code, err = refnet_("--run-dir", "run", "--checkpoint-steps", 1, "--non-finite", "skip")
    assert code == 5
    assert err.splitlines()[-1].startswith("refnet: step 13: ")
    assert generations.load(Path("run"), "newest").facts.state.step == 12


def test_an_epoch_of_nothing_has_no_loss(refnet_, monkeypatch):
    poisoned(monkeypatch, {1}, "images")
    assert refnet_("--run-dir", "run", "--max-steps", 1, "--non-finite", "skip")[0] == 0
    assert lines("run", "epoch")[0]["train_loss"] is None


# A disk that is full


def test_a_run_survives_a_disk_that_is_full_for_a_while(refnet_, monkeypatch):
    """Two checkpoints are due while nothing can be written; then there is room again."""
    real, write = TrainingStep.take, os.write
    steps = [0]

    def refuse(file, content):
        if 3 <= steps[0] <= 7:
            raise OSError(28, "No space left on device")
        return write(file, content)

    def step(*args):
        steps[0] += 1
        return real(*args)

    monkeypatch.setattr(TrainingStep, "take", step)
    monkeypatch.setattr("refnet.runs.metrics.os.write", refuse)
    code, err = refnet_("--run-dir", "run", "--checkpoint-steps", 2, "--max-steps", 9)
    assert code == 0
    assert err.count("warning: run: the metrics cannot be written: No space left on device; training goes on") == 2
    assert [line["step"] for line in lines("run", "step")] == list(range(1, 10))
    assert session.generations.load(Path("run"), "newest").facts.state.step == 9


def test_a_disk_that_stays_full_ends_the_run_at_the_third_failure(refnet_, monkeypatch):
    steps, write = [0], os.write

    def refuse(file, content):
        if steps[0] >= 3:
            raise OSError(28, "No space left on device")
        return write(file, content)

    real = TrainingStep.take

    def step(*args):
        steps[0] += 1
        return real(*args)

    monkeypatch.setattr(TrainingStep, "take", step)
    monkeypatch.setattr("refnet.runs.metrics.os.write", refuse)
    code, err = refnet_("--run-dir", "run", "--checkpoint-steps", 2, "--max-steps", 19)
    assert code == 4
    assert "No space left on device (3 times in a row)" in err.splitlines()[-1]
    assert steps[0] <= 9
    assert generations.load(Path("run"), "newest").facts.state.step == 2
