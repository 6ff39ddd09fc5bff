"""Training from a configuration to a test error: the files of a run, and that a repetition has the same bits."""

import dataclasses
import json
import shutil
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from refnet.backend.loading import load
from refnet.cli.main import main
from refnet.config import configure
from refnet.data import loader
from refnet.data.crops import Augmentation, centre
from refnet.data.fingerprint import fingerprint
from refnet.data.opening import open_dataset
from refnet.nets import NetSpec, get
from refnet.network import initial, passes
from refnet.runs import generations
from refnet.runs.state import Rate
from refnet.terminal.progress import Pace
from refnet.training import session, step
from refnet.training.schedule import after_epoch

PHOTOS = Path(__file__).parents[1].parent / "shared" / "data" / "photos"
SYNSETS = sorted(path.name for path in PHOTOS.iterdir())
FILES = {".lock", "checkpoints", "config.toml", "environment.json", "metrics.jsonl", "result.json"}
CHANCE = 0.9  # the error of guessing one of ten digits


pytestmark = pytest.mark.usefixtures("one_thread", "cwd")


@pytest.fixture
def trained(capsys):
    """Train, which must succeed; give the run's directory."""

    def run(run_dir, *argv):
        code = main(["train", "--json", "--run-dir", str(run_dir), *map(str, argv)])
        out, err = capsys.readouterr()
        assert code == 0, err
        assert strict_json(out)["run"] == str(run_dir)
        return Path(run_dir)

    return run


def strict_json(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def metrics(run, kind=None):
    """Give the lines of a run's metrics without their seconds, which alone may differ between two runs."""
    lines = [strict_json(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name != "seconds"}
        for line in lines
        if kind in (None, line["kind"])
    ]


def learned(run):
    found = generations.load(run, "newest")
    arrays = {name: (a.shape, a.dtype, a.tobytes()) for name, a in found.tensors().items()}
    return arrays, dataclasses.replace(found.facts.state, seconds=0)


def params_of(run):
    return generations.load(run, "newest").params


def spied(monkeypatch, module, name):
    """Record what a function of the trainer is called with."""
    calls = []
    function = getattr(module, name)

    def spy(*args, **kwargs):
        calls.append((args, kwargs))
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, spy)
    return calls


def assert_same(a, b):
    assert metrics(a) == metrics(b)
    assert learned(a) == learned(b)


# What is printed


def test_training_ends_with_error_time_place_and_what_next(capsys):
    assert main(["train", "--max-steps", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    (run,) = Path("runs").iterdir()
    result = strict_json((run / "result.json").read_text())
    assert "1,297 training, 140 validation and 360 test images" in out
    ending = out[out.index("test error") :].splitlines()
    assert f"{result['test_top1_error']:.2%}" in ending[0]
    assert f"{result['test_top5_error']:.2%}" in ending[0]
    assert ending[1].startswith("time ")
    assert ending[2].split() == ["run", str(run)]
    suggested = [line.split()[1] for line in ending if line.startswith("  refnet ")]
    assert set(suggested) == {"summary", "train"}


def test_json_is_the_only_line_of_standard_output(capsys):
    assert main(["train", "--max-steps", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    result = strict_json(line)
    assert 0 <= result["test_top1_error"] <= 1
    assert 0 < result["seconds"] < 60
    assert result["steps"] == 2
    assert strict_json((Path(result["run"]) / "result.json").read_text()) == result
    assert "validation" in err


def test_what_is_suggested_can_be_run(capsys):
    assert main(["train", "--max-steps", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    suggested = [line.split("  ")[1].split() for line in lines if line.startswith("  refnet ")]
    for _, *argv in suggested:
        if "FOLDER" not in argv:
            assert main([*argv, *(["--max-steps", "1"] if argv[0] == "train" else [])]) == 0


def test_the_same_net_in_another_form_is_the_same_net_on_the_same_images(photos, capsys):
    assert main(["train", "--max-steps", "1", "--data", str(photos)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("  refnet train --") and "--seed 1" in line]
    assert f"--data {photos}" in line


# What is left


def test_a_run_in_full(trained, photos):
    run = trained("run", "--data", photos, "--batch", 4, "--epochs", 2)
    assert {file.name for file in run.iterdir()} == FILES
    lines = metrics(run)
    assert [line["kind"] for line in lines] == [*["step"] * 3, "epoch", *["step"] * 3, "epoch", "test"]
    assert [line["images"] for line in metrics(run, "step")] == [4, 4, 1, 4, 4, 1]
    assert [line["step"] for line in metrics(run, "step")] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in metrics(run, "epoch")] == [3, 6]
    for epoch, steps in groupby(metrics(run, "step"), key=lambda line: line["epoch"]):
        losses = [line["loss"] for line in steps for _ in range(line["images"])]
        assert metrics(run, "epoch")[epoch - 1]["train_loss"] == pytest.approx(np.mean(losses))
    result = strict_json((run / "result.json").read_text())
    assert {name: result[name] for name in ("steps", "epochs", "run")} == {"steps": 6, "epochs": 2, "run": "run"}
    assert {name: result[name] for name in metrics(run, "test")[0] if name.startswith("test_")} == {
        name: value for name, value in metrics(run, "test")[0].items() if name.startswith("test_")
    }


def test_what_was_learned_fits_the_net(trained):
    run = trained("run", "--max-steps", 2)
    found = generations.load(run)
    plan, digits = get("digits").plan(2), open_dataset("digits", image_size=10, channels=1)
    assert {name: a.shape for name, a in found.params.items()} == plan.param_shapes()
    assert {name: a.shape for name, a in found.velocities.items()} == plan.param_shapes()
    assert np.array_equal(found.mean, digits.mean)
    facts = found.facts
    assert (facts.spec, facts.backend) == (NetSpec("digits", outputs=10), "numba")
    assert facts.classes == tuple("0123456789")
    assert (facts.data.name, facts.data.image_shape) == ("digits", (10, 10, 1))
    assert facts.data.fingerprint == fingerprint(digits)
    assert (facts.state.step, facts.state.epoch, facts.state.position) == (2, 1, 64)
    assert facts.config["max_steps"] == 2
    assert facts.environment["numpy"] == np.__version__
    first = initial.initialise(plan, 0)
    assert all(not np.array_equal(a, first[name]) for name, a in found.params.items())


@pytest.mark.parametrize(
    ("argv", "steps", "epochs"),
    [
        (["--batch", 4, "--max-steps", 1], 1, 1),
        (["--batch", 4, "--max-steps", 3], 3, 1),
        (["--batch", 4, "--max-steps", 4], 4, 2),
        (["--batch", 4, "--max-steps", 100, "--epochs", 2], 6, 2),
        (["--batch", 100000, "--epochs", 3], 3, 3),  # more than there are images
        (["--batch", 1, "--epochs", 1], 9, 1),
    ],
)
def test_how_far_it_goes(trained, photos, argv, steps, epochs):
    run = trained("run", "--data", photos, *argv)
    assert len(metrics(run, "step")) == steps
    assert len(metrics(run, "epoch")) == epochs
    assert len(metrics(run, "test")) == 1


def test_each_epoch_is_scored_on_validation_and_the_end_on_test(trained, photos, monkeypatch):
    opened = []
    open_folder = session.open_showing
    monkeypatch.setattr(
        session, "open_showing", lambda *args, **kw: opened.append(open_folder(*args, **kw)) or opened[0]
    )
    scores = spied(monkeypatch, session, "score")
    trained("run", "--data", photos, "--epochs", 2)
    (dataset,) = opened
    assert len({id(split) for split in (dataset.train, dataset.validation, dataset.test)}) == 3
    assert [args[2] for args, _ in scores] == [dataset.validation, dataset.validation, dataset.test]
    assert all(args[3] is dataset.mean for args, _ in scores)


def test_training_images_are_scored_where_that_is_asked_for(trained):
    argv = ["--epochs", 2, "--backend", "numpy", "--seed", 3]
    plain = trained("plain", *argv, "--images", 150)
    run = trained("run", *argv, "--images", 150, "--score-train", 100)
    epochs = [line for line in metrics(run) if line["kind"] == "epoch"]
    for line in epochs:
        assert {f"scored_train_{name}" for name in ("loss", "top1_error", "top5_error")} < set(line)
        assert line["scored_train_top1_error"] * 100 == pytest.approx(round(line["scored_train_top1_error"] * 100))
    assert epochs[1]["scored_train_loss"] < epochs[0]["scored_train_loss"]
    assert learned(run)[0] == learned(plain)[0]
    assert {line["images"] for line in metrics(run) if line["kind"] == "step"} == {32, 150 % 32}


def test_validation_that_is_also_the_test_is_scored_once(trained, photos):
    root = Path("data")
    for part in ("train", "val"):
        shutil.copytree(photos, root / part)
    run = trained("run", "--data", root, "--epochs", 1)
    (epoch,), (test,) = metrics(run, "epoch"), metrics(run, "test")
    for name in ("loss", "top1_error", "top5_error"):
        assert epoch[f"validation_{name}"] == test[f"test_{name}"]


# The same again


@pytest.mark.parametrize("columns", [1, 2])
def test_the_same_seed_gives_the_same_bits(trained, columns):
    argv = ["--max-steps", 5, "--columns", columns, "--seed", 3]
    assert_same(trained("a", *argv), trained("b", *argv))


def test_a_photograph_run_gives_the_same_bits(trained, photos):
    argv = ["--data", photos, "--batch", 4, "--epochs", 2]
    assert_same(trained("a", *argv), trained("b", *argv))


def test_another_seed_gives_other_bits(trained):
    a, b = trained("a", "--max-steps", 2), trained("b", "--max-steps", 2, "--seed", 1)
    assert metrics(a) != metrics(b)
    ours, theirs = params_of(a), params_of(b)
    assert all(not np.array_equal(ours[name], theirs[name]) for name in ours)


def test_all_that_is_random_is_keyed_by_the_seed_and_where_it_is_used(trained, photos, monkeypatch):
    initials, draws = (spied(monkeypatch, step, name) for name in ("initialise", "RandomKey"))
    orders, crops = spied(monkeypatch, loader, "epoch_order"), spied(monkeypatch, Augmentation, "draw")
    trained("run", "--data", photos, "--batch", 5, "--epochs", 2, "--seed", 9)
    assert [seed for (_, seed), _ in initials] == [9]
    assert [args for args, _ in orders] == [(9, 9, 1), (9, 9, 2)]  # nine images
    assert [(named["seed"], named["epoch"]) for _, named in crops] == [(9, 1), (9, 1), (9, 2), (9, 2)]
    assert [args for args, _ in draws] == [(9, 1), (9, 2), (9, 3), (9, 4)]
    for epoch in (crops[:2], crops[2:]):
        assert sorted(index for (_, indices), _ in epoch for index in indices.tolist()) == list(range(9))
    assert [indices.tolist() for (_, indices), _ in crops[:2]] != [indices.tolist() for (_, indices), _ in crops[2:]]


def test_the_written_configuration_gives_the_same_run(trained, photos, monkeypatch):
    monkeypatch.setenv("REFNET_MOMENTUM", "0.8")
    Path("mine.toml").write_text("batch = 4\nlr = 0.004\npatience = 1\n")
    argv = ["--data", photos, "--config", "mine.toml", "--epochs", 3, "--columns", 1, "--seed", 7]
    a = trained("a run — ünï", *argv)
    monkeypatch.delenv("REFNET_MOMENTUM")
    b = trained("b", "--config", a / "config.toml")
    assert_same(a, b)
    assert (a / "config.toml").read_text() == (b / "config.toml").read_text()
    assert {line["lr"] for line in metrics(a, "step")} >= {0.004}


def test_other_backends_and_checks_change_nothing(trained):
    argv = ["--max-steps", 3]
    plain = trained("numpy", *argv, "--backend", "numpy")
    assert_same(plain, trained("loopback", *argv, "--backend", "loopback"))
    assert_same(plain, trained("checked", *argv, "--backend", "numpy", "--checked"))
    assert_same(trained("numba", *argv, "--backend", "numba"), trained("auto", *argv))


# The recipe


def test_weights_decay_and_biases_do_not():
    """Biases of the net begin at 0, where decay would not show: they are set to 1 first."""
    lr, decay = 0.5, 0.25
    net, digits = get("digits"), open_dataset("digits", image_size=10, channels=1)
    pixels, draws = digits.train.images(np.arange(8)), centre(8, digits.image_shape, net.crop)
    after = {}
    for weight_decay in (decay, 0.0):
        settings = step.StepSettings(momentum=0.0, weight_decay=weight_decay)
        begun = step.begin(net.plan(2), load("numpy", columns=2), settings)
        for name, param in begun.params.items():
            if name.endswith(".b"):
                param[...] = 1
        before = {name: param.copy() for name, param in begun.params.items()}
        images = passes.place_bytes(begun.plan, pixels, digits.mean, draws, begun.backend)
        begun.take(images, digits.train.labels[:8], lr, 1)
        after[weight_decay] = begun.params
    for name, start in before.items():
        difference = after[decay][name] - after[0.0][name]
        if name.endswith(".b"):
            assert not difference.any()
        else:
            np.testing.assert_allclose(difference, -lr * decay * start, rtol=0, atol=1e-6)
            assert np.abs(difference).max() > 1e-3


def test_momentum_and_rate_lie_inside_the_velocity(trained):
    """Paper, section 5: v <- 0.9 v - 0.0005 lr w - lr g; w <- w + v. With one step, v = -lr (g + decay w)."""
    run = trained("run", "--max-steps", 1, "--lr", 0.01)
    found = generations.load(run)
    first = initial.initialise(get("digits").plan(2), 0)
    for name in found.params:
        assert np.array_equal(found.params[name], first[name] + found.velocities[name])


def test_the_rate_falls_at_fixed_epochs(trained, photos):
    argv = ["--schedule", "fixed", "--drop-epochs", "1,3", "--lr-factor", 4, "--lr", 0.016, "--epochs", 4, "--batch", 5]
    run = trained("run", "--data", photos, *argv)
    assert [line["lr"] for line in metrics(run, "epoch")] == [0.016, 0.004, 0.004, 0.001]
    assert [line["lr"] for line in metrics(run, "step")] == [0.016, 0.016, 0.004, 0.004, 0.004, 0.004, 0.001, 0.001]


def test_the_steps_take_the_rate_that_is_logged(trained, photos):
    """After a drop to nothing, and without momentum, nothing moves."""
    argv = ["--data", photos, "--schedule", "fixed", "--drop-epochs", 1, "--lr-factor", 1e30, "--momentum", 0]
    one, two = (trained(f"{epochs}", *argv, "--epochs", epochs) for epochs in (1, 2))
    early, late = params_of(one), params_of(two)
    for name in early:
        np.testing.assert_allclose(early[name], late[name], rtol=1e-7, atol=1e-25)


def test_a_drop_after_the_last_epoch_does_no_harm(trained, photos):
    run = trained("run", "--data", photos, "--schedule", "fixed", "--drop-epochs", 1, "--epochs", 1)
    assert len(metrics(run, "epoch")) == 1


def test_training_ends_when_the_rate_has_fallen_and_nothing_improves(trained, photos):
    """With so low a rate no error ever changes: the first epoch sets the best, each `patience` later one lowers it."""
    run = trained(
        "run",
        "--data",
        photos,
        "--lr",
        1e-30,
        "--schedule",
        "plateau",
        "--patience",
        2,
        "--lr-drops",
        3,
        "--epochs",
        50,
    )
    found = [line["lr"] for line in metrics(run, "epoch")]
    assert found == pytest.approx([*[1e-30] * 3, *[1e-31] * 2, *[1e-32] * 2, *[1e-33] * 2], rel=1e-6, abs=0)
    assert strict_json((run / "result.json").read_text())["epochs"] == 9


def test_the_rate_follows_the_validation_error(trained, photos):
    run = trained("run", "--data", photos, "--schedule", "plateau", "--patience", 1, "--lr-drops", 2, "--epochs", 15)
    config, rate = configure(schedule="plateau", patience=1, lr_drops=2), Rate(metrics(run, "epoch")[0]["lr"])
    lines = metrics(run, "epoch")
    for line in lines:
        assert not rate.finished
        assert line["lr"] == rate.lr
        rate = after_epoch(rate, config, line["epoch"], line["validation_top1_error"])
    assert rate.finished or len(lines) == 15


def test_digits_are_learned(trained):
    run = trained("run", "--epochs", 3)
    result = strict_json((run / "result.json").read_text())
    assert result["test_top1_error"] < CHANCE / 2
    assert result["test_top5_error"] < result["test_top1_error"]
    assert metrics(run, "epoch")[-1]["train_loss"] < metrics(run, "epoch")[0]["train_loss"]
    assert result["epochs"] == 3


def test_photographs_are_learned_by_heart(trained, photos):
    run = trained("run", "--data", photos, "--epochs", 60, "--schedule", "fixed", "--lr", 0.01)
    losses = [line["loss"] for line in metrics(run, "step")]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 2


# Numbers that are not finite


@pytest.mark.parametrize("columns", [1, 2])
def test_a_loss_that_is_not_finite_ends_the_run(capsys, columns):
    code = main(["train", "--json", "--lr", "1e30", "--run-dir", "run", "--columns", str(columns)])
    out, err = capsys.readouterr()
    assert (code, out) == (5, "")
    last = err.splitlines()[-1]
    assert last.startswith("refnet: step 2: the loss is ")
    assert "a lower --lr than 1e+30" in last
    assert [line["step"] for line in metrics(Path("run"))] == [1]
    assert {file.name for file in Path("run").iterdir()} == FILES - {"result.json"}
    assert not list(Path("run/checkpoints").iterdir())


@pytest.mark.parametrize("lr", ["1e30", "1e300"])
def test_validation_that_is_not_finite_ends_the_run(capsys, lr):
    code = main(["train", "--json", "--lr", lr, "--run-dir", "run", "--max-steps", "1"])
    out, err = capsys.readouterr()
    assert (code, out) == (5, "")
    assert "step 1" in err.splitlines()[-1]
    assert "NaN" not in Path("run/metrics.jsonl").read_text()
    assert metrics(Path("run"), "step")


def test_a_checked_run_says_the_step_too(capsys):
    assert main(["train", "--json", "--lr", "1e30", "--run-dir", "run", "--checked"]) == 5
    assert "step 2" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("argv", "lefts"),
    [(["--images", 64, "--batch", 32, "--epochs", 2], [3, 2, 1, 0]), (["--max-steps", 3], [2, 1, 0])],
)
def test_the_time_left_is_the_runs_and_not_the_epochs(trained, monkeypatch, argv, lefts):
    calls = spied(monkeypatch, Pace, "left")
    trained("run", "--backend", "numpy", *argv)
    assert [left for (_, left), _ in calls] == lefts
