"""Claims of the paper as experiments: variants that differ in one thing, the three verdicts, and the command."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from refnet import nets
from refnet.cli.main import main
from refnet.data.parallel import Reading
from refnet.network.initial import initialise
from refnet.reproduce import claims, experiment
from refnet.reproduce.claims import CHANCE_ERROR, CLAIMS, epochs_to
from refnet.reproduce.experiment import EPOCHS, Settings, config_of, net_for
from refnet.reproduce.verdict import MAX_PAIRS, T_QUANTILES, compare, explain
from refnet.terminal import signals

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")

# What may differ between the variants: keys of the configuration, and layers of which op.
FACTORS = {
    "relu-vs-tanh": ({"variant"}, {"relu"}),
    "lrn": ({"variant"}, {"lrn"}),
    "overlapping-pooling": ({"variant"}, {"maxpool"}),
    "dropout": ({"variant"}, {"dropout"}),
    "augmentation": ({"augment"}, set()),
    "two-columns-vs-one-half": ({"variant", "columns"}, {"conv2d"}),
}


@pytest.fixture
def reproduced(capsys):
    """Run the command on a few digits; give its exit code and what it wrote to the two streams."""

    def run(*argv):
        code = main(["reproduce", *map(str, argv)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


SMALL = ("--images", 96, "--epochs", 2, "--seeds", 2, "--backend", "numpy")


def both(claim, net, seed=3):
    settings = Settings(net, None, None, EPOCHS[net], 5, "auto", 1, Path("runs"), Reading())
    return [config_of(claim, variant, settings, seed) for variant in claim.variants]


def layers_of(config):
    return nets.get(config.net, config.init, config.variant).layers


# The variants


def test_every_claim_has_its_factor():
    assert set(FACTORS) == set(CLAIMS)


@pytest.mark.parametrize("net", EPOCHS)
@pytest.mark.parametrize("name", CLAIMS)
def test_arms_differ_in_one_thing(name, net):
    keys, ops = FACTORS[name]
    one, other = both(CLAIMS[name], net)
    a, b = dataclasses.asdict(one), dataclasses.asdict(other)
    assert {key for key in a if a[key] != b[key]} == keys | {"run_dir"}
    pairs = list(zip(layers_of(one), layers_of(other), strict=True))
    assert {y.op for x, y in pairs if x != y} == ops


def test_the_layers_differ_as_the_claim_says():
    def differing(name):
        pairs = zip(*map(layers_of, both(CLAIMS[name], "cifar")), strict=True)
        return [(x, y) for x, y in pairs if x != y]

    assert all((x.op, y.op) == ("tanh", "relu") for x, y in differing("relu-vs-tanh"))
    assert len(differing("relu-vs-tanh")) == 5
    assert [(x.options["alpha"], y.options["alpha"]) for x, y in differing("lrn")] == [(0, 0.01)] * 2
    sizes = [(x.options["size"], y.options["size"]) for x, y in differing("overlapping-pooling")]
    assert sizes == [(2, 3)] * 3
    assert [(x.options["drop"], y.options["drop"]) for x, y in differing("dropout")] == [(0, 0.5)]
    widths = [(y.name, y.width / x.width) for x, y in differing("two-columns-vs-one-half")]
    assert widths == [("conv1", 2), ("conv2", 2), ("conv3", 2)]


@pytest.mark.parametrize("net", EPOCHS)
@pytest.mark.parametrize("name", ["relu-vs-tanh", "lrn", "overlapping-pooling", "dropout", "augmentation"])
def test_arms_begin_with_the_same_weights(name, net):
    one, other = (
        initialise(nets.get(net, None, config.variant).plan(config.columns), config.seed)
        for config in both(CLAIMS[name], net)
    )
    assert list(one) == list(other)
    assert all(one[key].tobytes() == other[key].tobytes() for key in one)


@pytest.mark.parametrize("name", ["paper"])
def test_half_of_the_papers_net_is_its_one_gpu_net(name):
    assert nets.get(name, None, ["half"]).layers == nets.get("half").layers


# The verdict


def test_a_difference_on_the_papers_side_is_shown():
    found = compare([11.0, 12.0, 13.0, 12.5], [10.0, 11.1, 11.9, 11.6])
    assert found.verdict == "shown"
    assert found.without == pytest.approx(12.125)
    assert found.difference == pytest.approx(-0.975)
    assert found.low < found.difference < found.high < 0
    assert "on the paper's side of zero" in explain(found)


def test_a_difference_on_the_other_side_is_not_shown():
    found = compare([10.0, 11.1, 11.9, 11.6], [11.0, 12.0, 13.0, 12.5])
    assert found.verdict == "not shown"
    assert found.low > 0
    assert "on the other side" in explain(found)


def test_a_difference_as_large_as_its_spread_is_too_small_to_tell():
    found = compare([10.0, 11.0, 12.0], [9.0, 11.5, 11.0])
    assert found.verdict == "too small to tell"
    assert found.low < 0 < found.high
    assert "contains zero" in explain(found)


def test_pairs_count_and_not_their_order_alone():
    """What a seed does to both variants is no spread of the difference."""
    without, paper = [10.0, 20.0, 30.0], [9.0, 18.9, 29.1]
    assert compare(without, paper).verdict == "shown"
    assert compare(without, paper[::-1]).verdict == "too small to tell"


def test_no_difference_at_all_is_too_small_to_tell():
    assert compare([3.0, 3.0], [3.0, 3.0]).verdict == "too small to tell"


def test_one_seed_tells_nothing():
    found = compare([12.0], [1.0])
    assert found.verdict == "too small to tell"
    assert found.as_dict()["low"] is found.as_dict()["high"] is None
    assert "one seed" in explain(found)


def test_quantiles():
    assert [pytest.approx(stats.t.ppf(0.975, n), abs=5e-5) for n in range(1, MAX_PAIRS)] == list(T_QUANTILES)


def test_the_interval_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 7))
    expected = stats.ttest_rel(b, a).confidence_interval(0.95)
    found = compare(a.tolist(), b.tolist())
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], rel=1e-4)


def test_without_an_effect_one_in_twenty_is_told_wrongly():
    rng = np.random.default_rng(1)
    told = [compare(*rng.normal(size=(2, 5)).tolist()).verdict for _ in range(1500)]
    assert 1 - told.count("too small to tell") / 1500 == pytest.approx(0.05, abs=0.02)
    assert told.count("shown") == pytest.approx(told.count("not shown"), abs=40)


# What is measured


@pytest.mark.parametrize(
    ("errors", "epochs"),
    [
        ([0.25, 0.1], 1.0),
        ([0.5, 0.3, 0.2, 0.4], 2.5),
        ([0.1, 0.1], (CHANCE_ERROR - 0.25) / (CHANCE_ERROR - 0.1)),
        ([0.5, 0.4], 2.0),
    ],
)
def test_epochs_to_a_quarter(errors, epochs):
    assert epochs_to(0.25, errors) == pytest.approx(epochs)


def test_overfitting_is_test_less_training_error():
    outcome = claims.Outcome("dropout", 0, 0.01, (0.5, 0.2), (0.6, 0.55), 0.45)
    values = {measure.name: measure.of(outcome) for measure in CLAIMS["dropout"].measures}
    assert values == {"overfitting, points": pytest.approx(25), "test error, %": pytest.approx(45)}


# The command


@pytest.mark.parametrize("argv", [(), ("--list",), ("lrn", "--list")])
def test_claims_are_listed(reproduced, argv):
    code, out, _ = reproduced(*argv)
    assert code == 0
    assert all(name in out and claim.question in out for name, claim in CLAIMS.items())
    code, out, _ = reproduced(*argv, "--json")
    assert [each["claim"] for each in json.loads(out)["claims"]] == list(CLAIMS)


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_is_tried(reproduced, name):
    code, out, _ = reproduced(name, *SMALL, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["claim"] == name
    assert found["verdict"] in {"shown", "not shown", "too small to tell"}
    assert [len(variant["runs"]) for variant in found["arms"]] == [2, 2]
    for variant in found["arms"]:
        assert [run["seed"] for run in variant["runs"]] == [0, 1]
        assert all(len(run["train_top1_errors"]) == len(run["validation_top1_errors"]) == 2 for run in variant["runs"])
    for measure, row in zip(CLAIMS[name].measures, found["measures"], strict=True):
        assert row["name"] == measure.name
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["difference"] == pytest.approx(row["paper"] - row["without"])


def test_as_text_with_a_picture(reproduced):
    code, out, _ = reproduced("dropout", *SMALL, "-o", "dropout.png")
    assert code == 0
    assert out.startswith(
        "Does dropout reduce overfitting? (paper, section 4.2)\nnet digits, 96 training images, 2 epochs"
    )
    assert "\nboth: --no-augment\nwithout: --variant no-dropout\ndropout: the unchanged net\n" in out
    assert "overfitting, points" in out
    assert "with 2 seeds: the 95 % interval" in out
    with Image.open("dropout.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50


@pytest.mark.parametrize("name", CLAIMS)
def test_no_figure_is_cut(reproduced, monkeypatch, name):
    outcome = claims.Outcome("", 0, 0.01, (0.5, 0.2), (0.6, 0.55), 0.45)
    outcomes = [
        dataclasses.replace(outcome, variant=variant.name, seed=seed, test_error=0.45 + seed * place / 10)
        for place, variant in enumerate(CLAIMS[name].variants)
        for seed in (0, 1)
    ]
    monkeypatch.setattr("refnet.cli.reproduce.perform", lambda *_: iter(outcomes))
    code, out, _ = reproduced(name)
    assert code == 0
    assert "…" not in out
    assert all(measure.name in out and measure.paper in out for measure in CLAIMS[name].measures)


def test_a_vector_picture_is_the_same_again(reproduced):
    for name in ("a.svg", "b.svg"):
        assert reproduced("lrn", *SMALL, "-o", name)[0] == 0
    assert Path("a.svg").read_text().rstrip().endswith("</svg>")
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()


def test_a_run_trains_what_its_arm_says(reproduced):
    """The runs of both variants are ordinary runs, which other commands take."""
    assert reproduced("overlapping-pooling", *SMALL)[0] == 0
    folder = Path("runs/reproduce/overlapping-pooling-digits")
    assert sorted(path.name for path in folder.iterdir()) == ["2x2-seed0", "2x2-seed1", "3x3-seed0", "3x3-seed1"]
    assert 'variant = [\n    "plain-pooling",\n]' in (folder / "2x2-seed0/config.toml").read_text()
    assert main(["show", str(folder / "2x2-seed0")]) == 0
    assert main(["report", str(folder / "2x2-seed0"), "--backend", "numpy"]) == 0
    assert main(["eval", "--checkpoint", str(folder / "2x2-seed0"), "--backend", "numpy"]) == 0


def test_what_is_finished_is_not_trained_again(reproduced, monkeypatch):
    first = reproduced("lrn", *SMALL, "--json")

    def trains(*_, **__):
        raise AssertionError

    monkeypatch.setattr(experiment, "train", trains)
    assert reproduced("lrn", *SMALL, "--json")[:2] == first[:2]


@pytest.mark.parametrize("claim", ["lrn", "relu-vs-tanh"])
def test_stopped_and_continued_it_comes_out_the_same(reproduced, monkeypatch, claim):
    *_, whole = reproduced(claim, *SMALL, "--json", "--run-dir", "whole")[:2]
    code, seen = 0, []
    score = experiment.train.__globals__["Session"].score

    def stopping(self, which, most=None):
        seen.append(which)
        if len(seen) % 5 == 0:  # in every other run, now while it validates and now while it tests
            self.stop.asked = signals.signal.SIGINT
        return score(self, which, most)

    monkeypatch.setattr(experiment.train.__globals__["Session"], "score", stopping)
    codes = []
    for _ in range(40):
        code, out, err = reproduced(claim, *SMALL, "--json", "--run-dir", "parts")
        codes.append(code)
        if code == 0:
            break
        assert code == 130
        assert "runs are finished; repeat the command to resume" in err
        assert json.loads(out)["claim"] == claim
    assert codes[-1] == 0
    assert codes.count(130) >= 2
    assert out == whole


def test_of_a_run_that_is_stopped_what_is_finished_is_told(reproduced, monkeypatch):
    train, done = experiment.train, []

    def three(*argv, **named):
        if len(done) == 3:
            raise signals.Interrupted(15, "; step 0 is saved")
        done.append(train(*argv, **named))

    monkeypatch.setattr(experiment, "train", three)
    code, out, err = reproduced("dropout", *SMALL, "--json", "-o", "part.svg")
    assert code == 143
    assert "3 of 4 runs are finished" in err
    assert [len(variant["runs"]) for variant in json.loads(out)["arms"]] == [1, 1]
    assert json.loads(out)["verdict"] == "too small to tell"
    assert Path("part.svg").exists()
    shutil.rmtree("runs")
    done[:] = [None] * 3
    code, out, _ = reproduced("dropout", *SMALL, "--json", "-o", "none.svg")
    assert code == 143
    assert json.loads(out)["verdict"] is None
    assert not Path("none.svg").exists()


def test_each_arm_has_its_best_rate(reproduced, monkeypatch):
    """By a run with another seed; a rate that is far too high is out, whatever comes of it."""
    claim = dataclasses.replace(CLAIMS["relu-vs-tanh"], rates=(1e-5, 0.02, 1e9))
    monkeypatch.setattr("refnet.reproduce.claims.CLAIMS", {**CLAIMS, claim.name: claim})
    code, out, err = reproduced(claim.name, *SMALL, "--json")
    assert code == 0
    assert [run["lr"] for variant in json.loads(out)["arms"] for run in variant["runs"]] == [0.02] * 4
    assert "ReLU, learning rate 1e+09: " in err
    assert Path("runs/reproduce/relu-vs-tanh-digits/tanh-seed2-lr0.02/result.json").exists()


def test_no_rate_is_low_enough(reproduced, monkeypatch):
    claim = dataclasses.replace(CLAIMS["relu-vs-tanh"], rates=(1e9,), without=claims.Variant("ReLU too"))
    monkeypatch.setattr("refnet.reproduce.claims.CLAIMS", {claim.name: claim})
    code, _, err = reproduced(claim.name, *SMALL)
    assert code == 5
    assert "became NaN or infinite at each learning rate of 1000000000.0" in err


# What a user can get wrong


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["lnr"], 2, "CLAIM lnr is not allowed; it must be one of relu-vs-tanh, lrn, "),
        (["lnr"], 2, "did you mean lrn?"),
        (
            ["lrn", "--seeds", "0"],
            2,
            "--seeds 0 is not allowed; it must be a whole number from 1 to 30",
        ),
        (["lrn", "--seeds", "31"], 2, "--seeds 31 is not allowed"),
        (["lrn", "--epochs", "0"], 2, "--epochs 0 is not allowed"),
        (["lrn", "--images", "-1"], 2, "--images -1 is not allowed"),
        (["lrn", "--threads", "0"], 2, "--threads 0 is not allowed"),
        (["lrn", "--seeds", "many"], 2, "--seeds many is not allowed"),
        (["lrn", "--seed", "3"], 2, "--seed is not an argument of refnet reproduce; did you mean --seeds?"),
        (["lrn", "-o", "lrn.jpg"], 2, "-o lrn.jpg must end in .png or .svg"),
        (["lrn", "--backend", "numbat"], 6, "numbat"),
        (["lrn", "--data", "nowhere"], 3, "refnet data fetch cifar10 downloads the paper's small images"),
        (["lrn", "--run-dir", "/proc/nothing"], 2, "cannot be written"),
    ],
)
def test_wrong_arguments(reproduced, argv, code, says):
    found, _, err = reproduced(*argv)
    assert found == code
    assert says in err
    assert list(Path().iterdir()) == []


def test_without_matplotlib_nothing_is_trained(reproduced, monkeypatch):
    import builtins

    true = builtins.__import__

    def absent(name, *rest, **named):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return true(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    code, _, err = reproduced("lrn", *SMALL, "-o", "lrn.png")
    assert code == 2
    assert "pip install 'refnet[plots]'" in err
    assert list(Path().iterdir()) == []
    assert reproduced("lrn", *SMALL)[0] == 0


def test_runs_with_other_settings_are_not_mixed(reproduced):
    assert reproduced("lrn", *SMALL)[0] == 0
    code, _, err = reproduced("lrn", *SMALL[:2], "--epochs", 3, *SMALL[4:])
    assert code == 2
    assert "without-seed0 was trained with other settings (drop_epochs, epochs)" in err
    assert "give another --run-dir" in err


@pytest.mark.parametrize("spoil", ["result.json", "metrics.jsonl", "config.toml"])
def test_a_damaged_run_is_named(reproduced, spoil):
    assert reproduced("lrn", *SMALL)[0] == 0
    path = Path("runs/reproduce/lrn-digits/lrn-seed1") / spoil
    path.write_bytes(b"\xff")
    code, _, err = reproduced("lrn", *SMALL)
    assert code == 2
    assert str(path.parent) in err


# Which net


@pytest.mark.parametrize(("channels", "net"), [(1, "fashion"), (3, "cifar")])
def test_the_net_is_chosen_by_the_images(channels, net, tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "tree" / split / name
            folder.mkdir(parents=True)
            for number in range(12):
                Image.new("RGB", (8, 8), (number, 2 * number, 0)).save(folder / f"{number}.png")
    argv = ["--size", "32" if net == "cifar" else "28", "--channels", str(channels)]
    assert main(["data", "prepare", str(tmp_path / "tree"), str(tmp_path / "prepared"), *argv]) == 0
    assert net_for(str(tmp_path / "tree")) == "cifar"
    assert net_for(str(tmp_path / "prepared")) == net


def test_idx_files_are_gray(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    assert net_for(str(tmp_path)) == "fashion"
    assert net_for("digits") == "digits"
