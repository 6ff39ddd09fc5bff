"""A run of refnet 0.1.0 can still be read, evaluated, resumed and repeated."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from networks import assert_losses_agree, convolves_backwards, multiplies_backwards

from refnet import ops
from refnet.backend.reference import NumpyBackend
from refnet.cli.main import main
from refnet.nets import NetSpec
from refnet.runs import generations
from refnet.training import session

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")

EARLIER = Path(__file__).parent / "data" / "run-of-0.1"
STEPS = 82


@pytest.fixture
def run():
    """The run in a folder of its own, since reading may and continuing must write to it."""
    shutil.copytree(EARLIER, "run")
    return Path("run")


def result(run):
    return json.loads((run / "result.json").read_text())


def losses(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return np.array([line["loss"] for line in lines if line["kind"] == "step"])


def test_it_is_read(run, capsys):
    facts = generations.load(run).facts
    assert facts.spec == NetSpec("digits", None, (), 2, "fp32", None)
    assert (facts.state.step, facts.state.epoch, facts.environment["refnet"]) == (STEPS, 3, "0.1.0")
    assert main(["show", str(run)]) == 0
    out = capsys.readouterr().out
    assert "net digits in 2 columns" in out.replace("          ", " ")
    assert "16.39% top-1" in out


def test_it_has_the_recorded_test_error(run, capsys):
    assert main(["eval", "--checkpoint", str(run), "--backend", "numpy", "--crops", "centre", "--json"]) == 0
    found, recorded = json.loads(capsys.readouterr().out), result(run)
    for kind in ("top1_error", "top5_error"):
        wrong = found["images"] * np.array([found[kind]["centre"], recorded[f"test_{kind}"]])
        assert wrong[0].round(6) == wrong[1].round(6), kind


def test_it_is_continued(run):
    before = generations.load(run, "newest")
    assert main(["train", "--resume", str(run), "--max-steps", str(STEPS + 3), "--json"]) == 0
    after = generations.load(run, "newest")
    assert after.facts.state.step == STEPS + 3
    assert after.facts.spec == before.facts.spec
    assert len(losses(run)) == STEPS + 3
    assert losses(run)[:STEPS].tolist() == losses(EARLIER).tolist()
    assert all(not np.array_equal(before.params[name], after.params[name]) for name in before.params)


class OtherOrder(NumpyBackend):
    """NumPy, with every sum over channels or features of the forward pass taken from the last to the first."""

    conv2d_relu, linear_relu = convolves_backwards(ops.conv2d_relu), multiplies_backwards(ops.linear_relu)
    linear = multiplies_backwards(ops.linear)


def trained(name, *argv):
    argv = ["train", "--backend", "numpy", "--max-steps", str(STEPS), "--run-dir", name, "--json", *argv]
    assert main(argv) == 0
    return Path(name)


def assert_params_agree(params, reference, other_order):
    """|dp| <= 4 times the divergence of two NumPy runs that only differ in the order of their sums.

    The largest of each parameter counts.
    """
    for name, expected in reference.items():
        off, divergence = (np.abs(each[name] - expected).max() for each in (params, other_order))
        assert off <= 4 * divergence, f"{name}: off by {off:.3g}, allowed {4 * divergence:.3g}"


def test_training_anew_gives_the_same_run(run, monkeypatch):
    """Matrix products of another processor or release of NumPy sum in another order, so a bound is needed.

    It is as large as that of the backends: 4 times what another order of the same sums makes on this machine. Where the
    products are those of the recorded run, nothing differs.
    """
    fresh = trained("fresh")
    with monkeypatch.context() as patch:
        patch.setattr(session, "load", lambda *_, columns, **__: OtherOrder(columns))
        other = trained("other")
    assert_losses_agree(losses(run), losses(fresh), losses(other))
    saved, anew, turned = (generations.load(each, "newest").params for each in (run, fresh, other))
    assert all(np.abs(turned[name] - anew[name]).max() > 0 for name in anew)
    assert_params_agree(saved, anew, turned)

    # The comparisons see a learning rate that is a tenth larger.
    changed = trained("changed", "--lr", "0.0165")
    with pytest.raises(AssertionError, match="off by"):
        assert_params_agree(generations.load(changed, "newest").params, anew, turned)
    with pytest.raises(AssertionError, match="off by"):
        assert_losses_agree(losses(changed), losses(fresh), losses(other))
