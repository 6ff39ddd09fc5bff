"""A resumed run has the same bits as one that was never stopped, wherever and however it was stopped."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refnet.cli.main import main
from refnet.config import configure
from refnet.data.fingerprint import fingerprint
from refnet.data.opening import open_dataset
from refnet.errors import ConfigError
from refnet.runs import checkpoint, generations, resume
from refnet.runs.metrics import Metrics
from refnet.training import session

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")

LEAVE = "leave it out, or start a new run without --resume"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Give a folder of two classes of twelve pictures of noise: 16 to train on, 4 to validate and 4 to test."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir()
        for number in range(12):
            Image.fromarray(rng.integers(256, size=(12, 11), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def refnet_(capsys):
    def run(*argv):
        code = main(["train", "--json", *map(str, argv)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def trains(refnet_):
    def run(*argv):
        code, out, err = refnet_(*argv)
        assert code == 0, err
        return json.loads(out), err

    return run


@pytest.fixture
def stopped(refnet_, monkeypatch):
    """Train until a step is logged, at which the process sends itself a signal."""

    def run(step, *argv, number=signal.SIGTERM):
        log = Metrics.log

        def log_and_stop(self, kind, **figures):
            log(self, kind, **figures)
            if kind == "step" and figures["step"] == step:
                os.kill(os.getpid(), number)

        with monkeypatch.context() as patch:
            patch.setattr(Metrics, "log", log_and_stop)
            code, out, err = refnet_(*argv)
        assert (code, out) == (128 + number, "")
        return err

    return run


def lines(run):
    """Give the metrics without the seconds, which alone may differ."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in found]


def assert_same(a, b):
    a, b = Path(a), Path(b)
    ours, theirs = (generations.load(run, "newest") for run in (a, b))
    for name, array in ours.tensors().items():
        assert array.tobytes() == theirs.tensors()[name].tobytes(), name
    assert dataclasses.replace(ours.facts.state, seconds=0) == dataclasses.replace(theirs.facts.state, seconds=0)
    assert lines(a) == lines(b)
    mine, other = (json.loads((run / "result.json").read_text()) for run in (a, b))
    assert {**mine, "seconds": 0, "run": ""} == {**other, "seconds": 0, "run": ""}


def recipe(pictures):
    """Seven steps of three epochs of sixteen images, with dropout, crops, a rate that falls, and a short last batch."""
    argv = ["--data", pictures, "--batch", 6, "--epochs", 3, "--schedule", "fixed", "--drop-epochs", "1", "--seed", 5]
    return [*argv, "--lr", 0.01]


# The same bits


@pytest.mark.parametrize("name", ["numpy", "numba", "loopback"])
@pytest.mark.parametrize("columns", [1, 2])
def test_stopped_at_any_step(trains, stopped, pictures, name, columns):
    argv = [*recipe(pictures), "--backend", name, "--columns", columns]
    trains(*argv, "--run-dir", "never")
    steps = len([line for line in lines(Path("never")) if line["kind"] == "step"])
    assert steps == 9
    for step in range(1, steps + 1):
        stopped(step, *argv, "--run-dir", f"at{step}")
        assert generations.load(Path(f"at{step}"), "newest").facts.state.step == step
        trains("--resume", f"at{step}")
        assert_same("never", f"at{step}")


def test_stopped_at_every_step(trains, stopped, pictures):
    trains(*recipe(pictures), "--run-dir", "never")
    stopped(1, *recipe(pictures), "--run-dir", "often")
    for step in range(2, 10):
        stopped(step, "--resume", "often")
    trains("--resume", "often")
    assert_same("never", "often")


def test_the_comparison_sees_another_seed(trains, pictures):
    for seed in (1, 2):
        trains(*recipe(pictures), "--seed", seed, "--run-dir", str(seed))
    with pytest.raises(AssertionError):
        assert_same("1", "2")


def test_digits_on_the_default_backend(trains, stopped):
    trains("--epochs", 3, "--run-dir", "never")
    for step in (20, 60):
        stopped(step, "--epochs", 3, "--run-dir", f"at{step}")
        trains("--resume", f"at{step}")
        assert_same("never", f"at{step}")


@pytest.mark.parametrize("scored", [1, 2, 4])
def test_stopped_while_validating_or_testing(trains, refnet_, pictures, monkeypatch, scored):
    trains(*recipe(pictures), "--run-dir", "never")
    score, calls = session.score, []

    def stopping(*args, **named):
        calls.append(1)
        if len(calls) == scored:
            os.kill(os.getpid(), signal.SIGINT)
        return score(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(session, "score", stopping)
        code, _, err = refnet_(*recipe(pictures), "--run-dir", "run")
    assert code == 130
    assert err.splitlines()[-1].endswith("is saved; resume with: refnet train --resume run")
    assert not Path("run/result.json").exists()
    trains("--resume", "run")
    assert_same("never", "run")


@pytest.mark.parametrize("steps", [2, 3, 4, 6])
def test_a_run_that_is_allowed_more_steps(trains, pictures, steps):
    """At 3 and 6 an epoch ends; at 2 and 4 one was cut, validated, and is then gone on with as if it had not been."""
    trains(*recipe(pictures), "--run-dir", "never")
    trains(*recipe(pictures), "--max-steps", steps, "--run-dir", "run")
    assert json.loads(Path("run/result.json").read_text())["steps"] == steps
    trains("--resume", "run", "--max-steps", 100)
    changed = {"kind": "resume", "step": steps, "changed": {"max_steps": [steps, 100]}}
    assert changed in lines(Path("run"))
    assert [line for line in lines(Path("run")) if line != changed] == lines(Path("never"))


def test_a_run_that_is_allowed_more_epochs(trains, pictures):
    trains(*recipe(pictures), "--run-dir", "never")
    trains(*recipe(pictures), "--epochs", 2, "--run-dir", "run")
    trains("--resume", "run", "--epochs", 3)
    found = lines(Path("run"))
    assert [line for line in found if line["kind"] != "resume"] == lines(Path("never"))


@pytest.mark.parametrize("argv", [[], ["--max-steps", 4]], ids=str)
def test_a_run_that_is_finished_ends_the_same_again(trains, pictures, argv):
    trains(*recipe(pictures), *argv, "--run-dir", "never")
    shutil.copytree("never", "run")
    trains("--resume", "run")
    assert_same("never", "run")


def test_a_run_killed_before_its_first_checkpoint_begins_anew(trains, stopped, pictures):
    trains(*recipe(pictures), "--run-dir", "never")
    stopped(5, *recipe(pictures), "--run-dir", "run")
    shutil.rmtree("run/checkpoints")
    _, err = trains("--resume", "run")
    assert "run has no checkpoint: it starts from the beginning" in err
    assert_same("never", "run")


def test_another_place(trains, stopped, pictures):
    """The folder may be moved, and its data with it."""
    shutil.copytree(pictures, "here")
    trains(*recipe("here"), "--run-dir", "never")
    stopped(4, *recipe("here"), "--run-dir", "run")
    Path("here").rename("there")
    Path("run").rename("moved")
    code_and_err = trains("--resume", "moved", "--data", "there")
    assert "changed" not in code_and_err[1]
    assert_same("never", "moved")


# Damage


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(trains, stopped, pictures):
    trains(*recipe(pictures), "--run-dir", "never")
    stopped(5, *recipe(pictures), "--checkpoint-steps", 1, "--run-dir", "run")
    newest = generations.path_of(Path("run"), 5)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    _, err = trains("--resume", "run", "--checkpoint-steps", 1)
    assert "warning: run/checkpoints/step-000000005.safetensors: the numbers of " in err
    assert "are damaged (their SHA-256 differs); copy it again; it is set aside, and the one before is used" in err
    assert "continuing after step 4, in epoch 2" in err
    assert newest.with_name(newest.name + ".damaged").read_bytes() == content
    assert lines(Path("run")) == lines(Path("never"))
    assert [line["step"] for line in lines(Path("run")) if line["kind"] == "step"] == list(range(1, 10))


def test_nothing_is_begun_anew_over_damage(refnet_, stopped, pictures):
    stopped(5, *recipe(pictures), "--checkpoint-steps", 1, "--run-dir", "run")
    paths = generations.listed(Path("run"))
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1])
    before = Path("run/metrics.jsonl").read_bytes()
    code, _, err = refnet_("--resume", "run")
    assert code == 4
    assert len(err.splitlines()) == len(paths)
    assert all(f"{path} is not an intact safetensors file" in err for path in paths)
    assert Path("run/metrics.jsonl").read_bytes() == before
    assert generations.listed(Path("run")) == paths


def test_metrics_that_were_lost_are_told(trains, stopped, pictures):
    stopped(5, *recipe(pictures), "--run-dir", "run")
    text = Path("run/metrics.jsonl").read_text()
    Path("run/metrics.jsonl").write_text("".join(text.splitlines(keepends=True)[:2]))
    _, err = trains("--resume", "run")
    assert "warning: run has lost 4 of 6 lines of metrics" in err


# What may be changed


def test_a_rate_that_is_changed_holds_from_there(trains, stopped, pictures):
    stopped(4, *recipe(pictures), "--run-dir", "run")
    _, err = trains("--resume", "run", "--lr", 0.002)
    assert "changed: lr was 0.01, is 0.002" in err
    found = lines(Path("run"))
    assert [line["lr"] for line in found if line["kind"] == "step"] == [0.01] * 3 + [0.001] + [0.002] * 5
    assert {"kind": "resume", "step": 4, "changed": {"lr": [0.01, 0.002]}} in found
    assert generations.load(Path("run"), "newest").facts.config["lr"] == 0.002
    assert "lr = 0.002" in Path("run/config.toml").read_text()


def test_a_rate_that_is_given_again_holds_from_there(trains, stopped, pictures):
    stopped(4, *recipe(pictures), "--run-dir", "run")
    trains("--resume", "run", "--lr", 0.01)
    assert [line["lr"] for line in lines(Path("run")) if line["kind"] == "step"] == [0.01] * 3 + [0.001] + [0.01] * 5


def test_what_was_changed_once_stays_changed_and_recorded(trains, stopped, pictures):
    """Also when the process that changed it was killed before it saved anything: its line is cut with its steps."""
    stopped(4, *recipe(pictures), "--run-dir", "run")
    shutil.copytree("run", "lost")
    stopped(5, "--resume", "lost", "--momentum", 0.5, "--lr", 0.002)
    generations.path_of(Path("lost"), 5).unlink()
    for run, argv in (("run", ["--momentum", 0.5, "--lr", 0.002]), ("lost", [])):
        trains("--resume", run, *argv)
    assert_same("run", "lost")


@pytest.mark.parametrize(("key", "value"), [("batch", 3), ("weight_decay", 0.1), ("non_finite", "skip")])
def test_other_changes(trains, stopped, pictures, key, value):
    stopped(4, *recipe(pictures), "--run-dir", "run")
    trains("--resume", "run", f"--{key.replace('_', '-')}", value)
    (line,) = [line for line in lines(Path("run")) if line["kind"] == "resume"]
    assert list(line["changed"]) == [key]
    for epoch in (1, 2, 3):
        steps = [line for line in lines(Path("run")) if line["kind"] == "step" and line["epoch"] == epoch]
        assert sum(line["images"] for line in steps) == 16


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--seed", 6], f"--seed 6 cannot be: the run has 5; {LEAVE}"),
        (["--columns", 1], f"--columns 1 cannot be: the run has 2; {LEAVE}"),
        (["--net", "half"], f"--net half cannot be: the run has digits; {LEAVE}"),
        (["--variant", "tanh"], f"--variant tanh cannot be: the run has none; {LEAVE}"),
        (["--outputs", 3], f"--outputs 3 cannot be: the run has 2; {LEAVE}"),
        (["--exchange", "none"], f"--exchange none cannot be: the run has fp32; {LEAVE}"),
        (["--run-dir", "other"], "--run-dir cannot be given with --resume: the run has its own"),
        (["--config", "run/config.toml"], "--config cannot be given with --resume: the run has its own"),
    ],
    ids=str,
)
def test_what_may_not_be_changed(refnet_, stopped, pictures, argv, expected):
    stopped(4, *recipe(pictures), "--run-dir", "run")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    code, _, err = refnet_("--resume", "run", *argv)
    assert (code, err) == (2, f"refnet: {expected}\n")
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


def test_a_key_that_the_run_did_not_know_had_its_default(checkpoint_of):
    facts = checkpoint_of().facts
    known = {name: value for name, value in facts.config.items() if name not in {"variant", "augment", "images"}}
    older = dataclasses.replace(facts, config=json.loads(json.dumps(known)))
    assert resume.changes(older, configure()) == {}
    assert resume.changes(older, configure(augment=False)) == {"augment": [True, False]}
    with pytest.raises(ConfigError, match="variant="):
        resume.changes(older, configure(variant=("tanh",)))


def test_the_flag_for_changed_data_needs_a_run(refnet_):
    assert refnet_("--changed-data")[::2] == (
        2,
        "refnet: --changed-data is for a run that is resumed; give it with --resume\n",
    )


def test_two_trainers(refnet_, stopped, pictures):
    from refnet.runs.directory import RunDirectory

    stopped(4, *recipe(pictures), "--run-dir", "run")
    with RunDirectory.reopen(Path("run")):
        code, _, err = refnet_("--resume", "run")
    assert (code, err) == (2, "refnet: run is in use: another process is training there; wait for it, or stop it\n")


# Other surroundings


def test_train_on_one_backend_and_go_on_on_another(trains, stopped, pictures):
    stopped(4, *recipe(pictures), "--backend", "numpy", "--run-dir", "run")
    there = shutil.copytree("run", "there")
    _, err = trains("--resume", "run", "--backend", "numba")
    assert "bits may differ from those of a run that was never stopped: other backend" in err
    trains("--resume", there)
    on = {}
    for run in ("run", "there"):
        found = generations.load(Path(run), "newest")
        on[found.facts.backend] = found
    for name, a in on["numpy"].tensors().items():
        np.testing.assert_allclose(on["numba"].tensors()[name], a, rtol=0, atol=1e-4 * np.abs(a).max())
    (line,) = [line for line in lines(Path("run")) if line["kind"] == "resume"]
    assert line["changed"]["backend"] == ["numpy", "numba"]


def test_settings_for_the_hardware_of_another_backend_stay_behind(trains, refnet_, stopped, pictures):
    stopped(4, *recipe(pictures), "--backend", "numpy", "--run-dir", "run")
    elsewhere = 'backend = "triton"\nprecision = "tf32"\nexchange = "fp16"\n'  # as on a machine with a GPU
    text = Path("run/config.toml").read_text()
    kept = [
        line for line in text.splitlines() if line.split(" = ")[0] not in ("backend", "exchange", "devices", "graph")
    ]
    Path("run/config.toml").write_text("\n".join(kept) + f'\n{elsewhere}devices = ["cuda:0"]\ngraph = true\n')
    code, _, err = refnet_("--resume", "run", "--backend", "numba")
    message = "backend numba has no --exchange fp16; give --exchange fp32, or name a --backend that has it"
    assert (code, err.splitlines()[-1]) == (2, f"refnet: {message}")
    code, _, err = refnet_("--resume", "run", "--backend", "numba", "--exchange", "fp32", "--precision", "tf32")
    assert (code, "backend numba has no --precision tf32; leave it out" in err) == (2, True)
    trains("--resume", "run", "--backend", "numba", "--exchange", "fp32")
    assert json.loads(Path("run/result.json").read_text())["epochs"] == 3


def test_other_versions_and_threads_are_told(trains, stopped, pictures, monkeypatch):
    stopped(4, *recipe(pictures), "--threads", 1, "--run-dir", "run")
    described = session.environment.describe()
    monkeypatch.setattr(session.environment, "describe", lambda: {**described, "numpy": "9.9"})
    _, err = trains("--resume", "run", "--threads", 2)
    assert "bits may differ from those of a run that was never stopped: other threads, numpy" in err
    (line,) = [line for line in lines(Path("run")) if line["kind"] == "resume"]
    assert line["changed"] == {"threads": [1, 2], "numpy": [np.__version__, "9.9"]}
    assert json.loads(Path("run/environment.json").read_text())["numpy"] == "9.9"


# The data


def remove_one(root):
    (root / "a" / "11.png").unlink()


def rename_class(root):
    (root / "a").rename(root / "A")


def add_class(root):
    shutil.copytree(root / "a", root / "c")


@pytest.mark.parametrize("change", [remove_one, rename_class])
def test_data_that_have_changed(refnet_, trains, stopped, pictures, change):
    shutil.copytree(pictures, "data")
    stopped(4, *recipe("data"), "--run-dir", "run")
    change(Path("data"))
    code, _, err = refnet_("--resume", "run")
    assert code == 3
    assert "data has changed since step 4: its classes, images or labels are not those that" in err.splitlines()[-1]
    assert generations.load(Path("run"), "newest").facts.state.step == 4
    trains("--resume", "run", "--changed-data")
    (line,) = [line for line in lines(Path("run")) if line["kind"] == "resume"]
    assert list(line["changed"]) == ["fingerprint"]


def reorder_classes(root):
    (root / "a").rename(root / "z")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (add_class, "data has 3 classes, but the run has 2 outputs: it learned a, b"),
        (reorder_classes, "data: the class b has label 0, but the run learned it as 1: it learned a, b"),
    ],
)
def test_classes_that_do_not_fit_the_outputs(refnet_, stopped, pictures, change, expected):
    shutil.copytree(pictures, "data")
    stopped(4, *recipe("data"), "--run-dir", "run")
    change(Path("data"))
    for argv in ([], ["--changed-data"]):
        code, _, err = refnet_("--resume", "run", *argv)
        assert (code, err.splitlines()[-1]) == (
            3,
            f"refnet: {expected}; restore its classes, or start a new run without --resume",
        )


def test_a_class_more_fits_a_net_with_outputs_to_spare(trains, stopped, pictures):
    shutil.copytree(pictures, "data")
    stopped(4, *recipe("data"), "--outputs", 5, "--run-dir", "run")
    add_class(Path("data"))
    trains("--resume", "run", "--changed-data")
    facts = generations.load(Path("run"), "newest").facts
    assert (facts.classes, facts.spec.outputs) == (("a", "b", "c"), 5)


def test_the_fingerprint_is_of_what_is_learned_from():
    digits = open_dataset("digits", image_size=10, channels=1)
    same = dataclasses.replace(digits, name="other", where="elsewhere", layout="?")
    assert fingerprint(digits) == fingerprint(same)
    labels = digits.validation.labels.copy()
    labels[3] = (labels[3] + 1) % 10
    others = [
        dataclasses.replace(digits, classes=("ten", *digits.classes[1:])),
        dataclasses.replace(digits, mean=np.nextafter(digits.mean, np.float32(99))),
        dataclasses.replace(digits, validation=dataclasses.replace(digits.validation, labels=labels)),
        dataclasses.replace(digits, test=digits.validation),
    ]
    assert len({fingerprint(each) for each in (digits, *others)}) == 5


def test_a_run_may_be_given_where_a_checkpoint_is_expected(stopped, pictures):
    stopped(7, *recipe(pictures), "--run-dir", "run")
    newest, best = (generations.load(Path("run"), prefer) for prefer in ("newest", "best"))
    assert newest.facts.state.step == 7
    assert best.facts.state.step == newest.facts.state.best.step < 7
    assert checkpoint.read(generations.choose(Path("run"), "newest")).facts == newest.facts


# More of a run that has ended


def ended(trains, pictures, *argv):
    """Train until the schedule ends the run, after the second epoch: the rate is too small for any error to change."""
    plateau = ["--schedule", "plateau", "--patience", 1, "--lr-drops", 0, "--lr", 1e-9, "--epochs", 9, "--batch", 6]
    return trains("--data", pictures, *plateau, *argv, "--run-dir", "run")


def steps_and_rates(run):
    found = lines(Path(run))
    return [(line["epoch"], line["lr"]) for line in found if line["kind"] == "epoch"]


@pytest.mark.parametrize("argv", [["--lr-drops", 1], ["--patience", 2], ["--lr-drops", 2, "--patience", 3]], ids=str)
def test_a_schedule_with_other_settings_goes_on_as_if_it_had_had_them(trains, pictures, argv):
    ended(trains, pictures)
    assert steps_and_rates("run") == [(1, 1e-9), (2, 1e-9)]
    settings = ["--schedule", "plateau", "--lr", 1e-9, "--epochs", 9, "--batch", 6, "--patience", 1, "--lr-drops", 0]
    trains("--data", pictures, *settings, *argv, "--run-dir", "never")
    _, err = trains("--resume", "run", *argv)
    assert "schedule plateau had ended the run; it goes on at the learning rate" in err
    assert [line for line in lines(Path("run")) if line["kind"] != "resume"] == lines(Path("never"))
    ours, theirs = (generations.load(Path(run), "newest") for run in ("run", "never"))
    assert ours.facts.state.rate == theirs.facts.state.rate
    for name, array in ours.tensors().items():
        assert array.tobytes() == theirs.tensors()[name].tobytes(), name


@pytest.mark.parametrize("argv", [["--epochs", 20], ["--max-steps", 20]], ids=str)
def test_more_epochs_go_on_at_the_last_rate_until_the_schedule_ends_them_again(trains, pictures, argv):
    ended(trains, pictures)
    _, err = trains("--resume", "run", *argv)
    assert "schedule plateau had ended the run; it goes on at its last learning rate, 1e-09\n" in err
    assert steps_and_rates("run") == [(1, 1e-9), (2, 1e-9), (3, 1e-9)]


def advice(err):
    """Give the settings of which each should let the run go on, as a command line."""
    (line,) = [line for line in err.splitlines() if "--resume with " in line]
    each, and_all = line.partition("--resume with ")[2].removesuffix(" trains on").partition(" and ")[::2]
    return [[*choice.split(), *and_all.split()] for choice in each.replace(" or ", ", ").split(", ")]


@pytest.mark.parametrize("again", [[], ["--weight-decay", 0.001], ["--max-steps", 6], ["--epochs", 2]], ids=str)
def test_what_is_said_of_a_run_that_its_schedule_has_ended_can_be_done(trains, pictures, again):
    _, err = ended(trains, pictures)
    assert "schedule plateau ends training after epoch 2 of 9; --resume with --lr-drops 1, --patience 2 or" in err
    shutil.copytree("run", "again")
    result, said = trains("--resume", "again", *again)
    assert result["steps"] == 6
    assert "nothing is left to train: " in said
    for run, output in (("run", err), ("again", said)):
        for argv in advice(output):
            shutil.copytree(run, "copy")
            assert trains("--resume", "copy", *argv)[0]["steps"] > 6, argv
            shutil.rmtree("copy")


@pytest.mark.parametrize(
    ("argv", "again"),
    [
        ([], []),
        (["--max-steps", 9], []),
        (["--max-steps", 4], []),
        (["--max-steps", 6], []),
        ([], ["--max-steps", 3]),
        ([], ["--epochs", 1]),
        (["--max-steps", 9], ["--epochs", 2]),
    ],
    ids=str,
)
def test_what_is_said_of_a_run_that_has_its_epochs_or_steps_can_be_done(trains, pictures, argv, again):
    steps = trains(*recipe(pictures), *argv, "--run-dir", "run")[0]["steps"]
    result, err = trains("--resume", "run", *again)
    assert result["steps"] == steps
    assert "nothing is left to train: " in err
    (more,) = advice(err)
    assert trains("--resume", "run", *more)[0]["steps"] > steps


@pytest.mark.parametrize(
    ("drops", "rate", "following", "said"),
    [
        ("1", 1e-5, [1e-5, 1e-5], ""),
        ("1,2", 1e-5, [1e-6, 1e-6], "drop epoch 2 has passed, so the learning rate is lowered to 1e-06 now"),
        ("1,3", 1e-5, [1e-5, 1e-6], ""),
        ("1,2,3", 1e-5, [1e-6, 1e-7], "drop epoch 2 has passed, so the learning rate is lowered to 1e-06 now"),
        ("3", 1e-5, [1e-5, 1e-6], "the learning rate was lowered already and stays 1e-05; --lr 0.0001 raises it"),
    ],
)
def test_new_drop_epochs(trains, pictures, drops, rate, following, said):
    argv = ["--data", pictures, "--batch", 6, "--schedule", "fixed", "--drop-epochs", 1, "--lr", 1e-4]
    trains(*argv, "--epochs", 2, "--run-dir", "run")
    assert steps_and_rates("run") == [(1, 1e-4), (2, pytest.approx(rate))]
    shutil.copytree("run", "copy")
    _, err = trains("--resume", "run", "--epochs", 4, "--drop-epochs", drops)
    assert [lr for _, lr in steps_and_rates("run")[2:]] == pytest.approx(following)
    assert (said in err) if said else ("learning rate" not in err)
    if "raises it" in said:
        trains("--resume", "copy", "--epochs", 4, "--drop-epochs", drops, "--lr", 0.0001)
        assert [lr for _, lr in steps_and_rates("copy")[2:]] == pytest.approx([1e-4, 1e-5])


def test_settings_that_the_schedule_does_not_read_are_told(trains, pictures):
    argv = ["--data", pictures, "--max-steps", 1]
    told = "note: --patience 7 has no effect with --schedule fixed; it is for --schedule plateau"
    assert told in trains(*argv, "--patience", 7, "--run-dir", "a")[1]
    told = "note: --drop-epochs 2,3 has no effect with --schedule plateau; it is for --schedule fixed"
    assert told in trains(*argv, "--schedule", "plateau", "--drop-epochs", "2,3", "--run-dir", "b")[1]
    assert "no effect" not in trains(*argv, "--schedule", "plateau", "--run-dir", "c")[1]  # the recipe's drop epochs
    assert "no effect" in trains("--resume", "c", "--drop-epochs", 9, "--max-steps", 2)[1]
    assert "no effect" not in trains("--resume", "b", "--max-steps", 2)[1]  # said once


# Other images in the middle of a run


def test_an_epoch_begins_anew_with_other_images(trains, stopped, pictures):
    shutil.copytree(pictures, "data")
    stopped(2, *recipe("data"), "--run-dir", "run")  # 12 of 16 images of the first epoch are done
    for name in ("a", "b"):
        for number in range(5, 12):
            Path("data", name, f"{number}.png").unlink()
    _, err = trains("--resume", "run", "--changed-data")
    assert "changed: the images, labels or classes; epoch 1 starts again with the present ones\n" in err
    steps = [line for line in lines(Path("run")) if line["kind"] == "step"]
    assert [line["images"] for line in steps if line["epoch"] == 1] == [6, 6, 6]
    assert [sum(line["images"] for line in steps if line["epoch"] == epoch) for epoch in (2, 3)] == [6, 6]


def test_the_best_error_is_that_on_the_images_of_now(trains, pictures):
    shutil.copytree(pictures, "data")
    trains(*recipe("data"), "--epochs", 2, "--run-dir", "run")
    remove_one(Path("data"))
    trains("--resume", "run", "--changed-data", "--epochs", 3)
    assert generations.load(Path("run"), "newest").facts.state.best.epoch == 3
    shutil.copytree(pictures, "other")
    result, err = trains("--resume", "run", "--changed-data", "--data", "other")
    assert (result["epochs"], "nothing is left to train: --epochs 3 is reached" in err) == (3, True)


def test_another_number_of_images_needs_no_agreement(trains, stopped, pictures):
    stopped(2, *recipe(pictures), "--run-dir", "run")
    _, err = trains("--resume", "run", "--images", 4)
    assert "changed: images was None, is 4\n" in err
    steps = [line for line in lines(Path("run")) if line["kind"] == "step"]
    assert [line["images"] for line in steps] == [6, 6, 4, 4, 4]
