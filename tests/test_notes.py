"""Notes about settings that may not act as expected, and that what they recommend works."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet import nets
from refnet.cli.main import main
from refnet.config import configure
from refnet.nets import Net
from refnet.network.plan import linear
from refnet.terminal.spelling import with_arguments, with_flags
from refnet.training.notes import notes


def noted(given=None, lr=None, number=1280, **settings):
    config = configure(**settings)
    return [with_flags(line) for line in notes(config, lr or config.lr, number, given)]


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


@pytest.mark.parametrize("settings", [{}, {"batch": 10}, {"batch": 640}, {"batch": 1, "lr": 0.01}], ids=str)
def test_other_batches_and_rates(settings):
    assert noted(**settings) == []


def test_a_resumed_run_is_told_only_of_what_was_given_with_it():
    assert noted(batch=1, given={"epochs"}) == []
    assert len(noted(batch=1, given={"batch"})) == 1
    assert noted(batch=1, given={"batch"}, lr=0.0001) == []  # the rate has been lowered


def test_a_recipe_without_a_batch_says_nothing_of_batches():
    nets.register(Net("plain", (1, 8, 8), 8, (linear("fc1", 10, sigma=0.1, bias=0, columns="one"),)))
    assert noted(net="plain", batch=1) == []


@pytest.mark.parametrize(
    ("number", "last", "batch"),
    [(33, "1 image", 33), (65, "1 image", 33), (129, "1 image", 33), (72, "8 images", 36), (1281, "1 image", 33)],
)
def test_a_last_batch_that_is_much_smaller_than_the_others(number, last, batch):
    (line,) = noted(number=number)
    reason = f"the last batch of each epoch has {last}, for which the learning rate 0.015 may be too high"
    assert line == f"note: {reason}; --batch {batch} avoids it"
    assert noted(number=number, batch=batch) == []


@pytest.mark.parametrize("number", [1, 31, 32, 41, 64, 1297, 32 * 1000 + 1])
def test_last_batches_that_are_large_or_rare(number):
    assert noted(number=number) == []


@given(st.integers(1, 5000), st.integers(1, 300))
def test_the_batch_named_for_a_small_last_one_leaves_none(number, batch):
    lines = noted(number=number, batch=batch, lr=0.001)
    assert len(lines) <= 1
    for line in lines:
        better = int(line.removesuffix(" avoids it").rpartition(" ")[2])
        assert batch < better <= number
        assert noted(number=number, batch=better, lr=0.001) == []


def test_python_reads_arguments():
    (line,) = notes(configure(batch=1), 0.015, 1280)
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
        ["--images", "33", "--epochs", "20", "--batch", "33"],  # as the note about a last batch of one recommends
    ],
    ids=str,
)
def test_data_of_one_batch_or_less(argv):
    assert main(["train", "--json", *argv, "--schedule", "fixed", "--no-augment", "--run-dir", "run"]) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    losses = [line["train_loss"] for line in lines if line["kind"] == "epoch"]
    assert losses[-1] < losses[0]
