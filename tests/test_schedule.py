"""When the learning rate drops: the paper's rule and fixed epochs, as functions of the validation error."""

import json
from functools import partial
from itertools import pairwise
from math import inf, nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.cli.main import main
from refnet.config import configure, keys
from refnet.errors import ConfigError
from refnet.runs.state import Rate
from refnet.training import schedule
from refnet.training.schedule import after_epoch

PAPER = configure(lr=0.01, schedule="plateau", lr_factor=10.0, lr_drops=3, patience=2)
FIXED = configure(lr=0.08, schedule="fixed", lr_factor=2.0, drop_epochs=(2, 3, 7))

errors = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), max_size=40)


def rates(config, errors):
    """Give the rate of each epoch, and last that of the epoch that would follow; none follows one that finishes."""
    given_rates = [Rate(config.lr)]
    for epoch, error in enumerate(errors, start=1):
        given_rates.append(after_epoch(given_rates[-1], config, epoch, error))
        if given_rates[-1].finished:
            break
    return given_rates


def drops(config, errors):
    return [rate.drops for rate in rates(config, errors)]


# The paper's rule


def test_the_papers_three_divisions_by_ten():
    states = rates(PAPER, [0.5] * 20)
    assert [state.lr for state in states] == pytest.approx([0.01] * 3 + [1e-3] * 2 + [1e-4] * 2 + [1e-5] * 3)
    assert [state.finished for state in states] == [False] * 9 + [True]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([0.5, 0.4, 0.3, 0.2, 0.1], [0, 0, 0, 0, 0, 0]),
        ([0.5, 0.5, 0.4, 0.4, 0.3, 0.3], [0] * 7),  # one epoch without improvement is not yet two
        ([0.5, 0.5, 0.5], [0, 0, 0, 1]),  # the same error again is no improvement
        ([0.5, 0.6, 0.55], [0, 0, 0, 1]),  # better than the last, but not than the best
        ([0.5, 0.6, 0.6, 0.6, 0.6], [0, 0, 0, 1, 1, 2]),  # the wait starts anew after a drop
        ([0.5, 0.6, 0.6, 0.4, 0.6, 0.3, 0.5, 0.5], [0, 0, 0, 1, 1, 1, 1, 1, 2]),  # and after an improvement
        ([0.5, 0.6, 0.6, 0.55, 0.55], [0, 0, 0, 1, 1, 2]),  # the best of before a drop still counts
        ([0.5, nan, nan], [0, 0, 0, 1]),
    ],
)
def test_a_drop_follows_patience_epochs_without_improvement(errors, expected):
    assert drops(PAPER, errors) == expected


def test_without_drops_training_ends_at_the_first_plateau():
    config = configure(schedule="plateau", lr_drops=0, patience=1)
    assert [rate.finished for rate in rates(config, [0.5, 0.4, 0.4, 0.1])] == [False, False, False, True]


@given(errors, st.integers(0, 3), st.integers(1, 4))
def test_plateau_counts(errors, lr_drops, patience):
    config = configure(schedule="plateau", lr_drops=lr_drops, patience=patience)
    states = rates(config, errors)
    for (before, after), error in zip(pairwise(states), errors, strict=False):
        assert after.lr == pytest.approx(config.lr / 10**after.drops)
        assert after.drops in (before.drops, before.drops + 1)
        assert after.best == min(inf if before.best is None else before.best, error)
        assert 0 <= after.waited <= patience
    assert states[-1].drops <= lr_drops
    improvements = sum(error < min(errors[:at], default=inf) for at, error in enumerate(errors))
    assert len(states) - 1 <= improvements * patience + (lr_drops + 1) * patience
    if states[-1].finished:
        assert states[-1].drops == lr_drops


# Fixed epochs


def test_fixed_epochs_are_counted_from_one_and_act_at_their_end():
    states = rates(FIXED, [0.5] * 8)
    assert [rate.lr for rate in states] == [0.08, 0.08, 0.04, 0.02, 0.02, 0.02, 0.02, 0.01, 0.01]


@given(errors)
def test_fixed_epochs_ignore_the_error_and_never_finish(errors):
    states = rates(FIXED, errors)
    assert [rate.lr for rate in states] == [rate.lr for rate in rates(FIXED, [0.9] * len(errors))]
    assert not any(rate.finished for rate in states)


def test_no_fixed_epochs_is_a_constant_rate():
    assert {rate.lr for rate in rates(configure(schedule="fixed", lr=0.01, drop_epochs=()), [0.5] * 9)} == {0.01}


# Schedules of one file and one line, or of another package

# The whole file of a schedule.
HALVING = """
from dataclasses import replace


def halving(rate, config, epoch, error):
    return replace(rate, lr=rate.lr / 2, drops=rate.drops + 1, finished=epoch == 3)


def broken(rate, config, epoch, error):
    return replace(rate, lr=-rate.lr)


nothing = 7
"""


@pytest.fixture
def package(installed):
    """A function that registers entry points for schedules of the module ``halvingpackage``."""
    return partial(installed, "halvingpackage", HALVING, "refnet.schedules")


def trained_rates(*argv):
    argv = ["train", "--json", "--epochs", "5", "--lr", "0.01", "--images", "64", "--run-dir", "run", *argv]
    assert main(argv) == 0
    return epoch_rates()


def epoch_rates():
    lines = map(json.loads, Path("run/metrics.jsonl").read_text().splitlines())
    return [line["lr"] for line in lines if line["kind"] == "epoch"]


@pytest.mark.usefixtures("cwd", "one_thread")
def test_a_schedule_of_one_file_and_one_line(package, monkeypatch):
    package()
    monkeypatch.setattr(keys, "SCHEDULES", {**keys.SCHEDULES, "halving": "halvingpackage:halving"})
    monkeypatch.setattr(schedule, "SCHEDULES", keys.SCHEDULES)
    assert trained_rates("--schedule", "halving") == [0.01, 0.005, 0.0025]


@pytest.mark.usefixtures("cwd", "one_thread")
def test_a_schedule_of_another_package(package):
    package(halving="halvingpackage:halving")
    assert trained_rates("--schedule", "halving", "--max-steps", "3") == [0.01, 0.005]
    argv = ["train", "--json", "--resume", "run", "--max-steps", "99"]
    assert main(argv) == 0
    assert epoch_rates()[-1] == 0.0025
    assert rates(configure(schedule="halving", lr=1), [0.5] * 9)[-1].finished


def test_a_package_cannot_replace_a_schedule_of_refnet(package):
    package(fixed="halvingpackage:halving")
    assert schedule.get("fixed") is schedule.fixed


@pytest.mark.usefixtures("cwd")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("halvingpackage:absent", "schedule mine (halvingpackage:absent) cannot be loaded"),
        ("nopackage:mine", "schedule mine (nopackage:mine) cannot be loaded (No module named 'nopackage')"),
        ("halvingpackage:nothing", "schedule mine (halvingpackage:nothing) is not a function"),
    ],
)
def test_a_broken_package_is_reported_before_anything_is_written(package, capsys, target, message):
    package(mine=target)
    assert main(["train", "--schedule", "mine", "--run-dir", "run"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.usefixtures("cwd", "one_thread")
def test_a_schedule_that_returns_no_rate(package, capsys):
    package(mine="halvingpackage:broken")
    assert main(["train", "--schedule", "mine", "--max-steps", "60"]) == 2
    assert "schedule mine must return a Rate with a finite lr above 0, it returned Rate(lr=-0.015" in (
        capsys.readouterr().err
    )


def test_a_schedule_that_is_not_known(capsys):
    with pytest.raises(ConfigError, match="schedule plato is not known; there are plateau, fixed; did you"):
        schedule.get("plato")
    assert main(["train", "--schedule", "plato"]) == 2
    assert "--schedule plato is not allowed; it must be one of plateau, fixed" in capsys.readouterr().err
