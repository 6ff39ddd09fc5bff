"""Notes about settings that may not act as expected, and that what they recommend works."""

import json
from pathlib import Path

import pytest

from refnet import nets
from refnet.cli.main import main
from refnet.config import configure
from refnet.nets import Net
from refnet.network.plan import linear
from refnet.terminal.spelling import with_arguments, with_flags
from refnet.training.notes import notes


def noted(given=None, lr=None, **settings):
    config = configure(**settings)
    return [with_flags(line) for line in notes(config, lr or config.lr, given)]


@pytest.mark.parametrize(
    ("settings", "rate", "batch", "lower"),
    [
        ({"batch": 1}, "0.015", 32, "0.00047"),
        ({"batch": 8}, "0.015", 32, "0.0037"),
        ({"batch": 8, "lr": 0.1}, "0.1", 32, "0.0037"),
        ({"net": "cifar", "batch": 32}, "0.01", 128, "0.0025"),
        ({"net": "paper", "batch": 1}, "0.01", 128, "7.8e-05"),
    ],
)
def test_a_small_batch_at_the_recipes_rate(settings, rate, batch, lower):
    (line,) = noted(**settings)
    reason = f"a learning rate of {rate} suits batches of {batch} images, and may be too high for"
    assert line == f"note: {reason} --batch {settings['batch']}; --lr {lower} is in proportion"
    assert noted(**settings | {"lr": float(lower)}) == []


@pytest.mark.parametrize("settings", [{}, {"batch": 9}, {"batch": 1000}, {"batch": 1, "lr": 0.01}], ids=str)
def test_other_batches_and_rates(settings):
    assert noted(**settings) == []


def test_a_resumed_run_is_told_only_of_what_was_given_with_it():
    assert noted(batch=1, given={"epochs"}) == []
    assert len(noted(batch=1, given={"batch"})) == 1
    assert noted(batch=1, given={"batch"}, lr=0.0001) == []  # the rate has been lowered


def test_a_recipe_without_a_batch_says_nothing_of_batches():
    nets.register(Net("plain", (1, 8, 8), 8, (linear("fc1", 10, sigma=0.1, bias=0, columns="one"),)))
    assert noted(net="plain", batch=1) == []


def test_python_reads_arguments():
    (line,) = notes(configure(batch=1), 0.015)
    assert with_arguments(line).endswith("may be too high for batch=1; lr=0.00047 is in proportion")


@pytest.mark.usefixtures("one_thread", "cwd")
def test_batches_of_one_diverge_or_fail_at_the_recipes_rate_and_learn_at_the_one_named(capsys):
    argv = ["train", "--json", "--batch", "1", "--epochs", "1"]
    assert main([*argv, "--run-dir", "high"]) == 0
    out, err = capsys.readouterr()
    assert "--lr 0.00047 is in proportion\n" in err
    high = json.loads(out)["test_top1_error"]
    assert main([*argv, "--run-dir", "low", "--lr", "0.00047"]) == 0
    out, err = capsys.readouterr()
    assert "in proportion" not in err
    assert json.loads(out)["test_top1_error"] < 0.5 < high
    assert json.loads(Path("low/result.json").read_text())["epochs"] == 1


@pytest.mark.usefixtures("one_thread", "cwd")
@pytest.mark.parametrize(
    "argv",
    [
        ["--images", "1", "--epochs", "20"],
        ["--images", "5", "--epochs", "20"],
        ["--images", "33", "--epochs", "20"],  # a last batch of one
    ],
    ids=str,
)
def test_data_smaller_than_a_batch_and_a_last_batch_of_one(argv):
    assert main(["train", "--json", *argv, "--schedule", "fixed", "--no-augment", "--run-dir", "run"]) == 0
    losses = [line["train_loss"] for line in map(json.loads, Path("run/metrics.jsonl").open()) if "train_loss" in line]
    assert losses[-1] < losses[0]
