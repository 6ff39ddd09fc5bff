"""``refnet runs`` and ``refnet show``, also with damaged runs and with harmful names."""

import io
import json
import os
import re
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from refnet.api.run import Run
from refnet.cli.main import main
from refnet.config import configure, to_toml
from refnet.errors import CheckpointError
from refnet.runs import directory, generations, inventory
from refnet.terminal.spelling import setting

HOSTILE = "\x1b]0;owned\x07[red]<b>x\u202ey"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Give a folder of three runs: finished, stopped in its first epoch, and one that has not begun."""
    root = tmp_path_factory.mktemp("runs")
    for name in [name for name in os.environ if name.startswith("REFNET_")]:
        del os.environ[name]
    for name, argv in (("a-finished", ["--epochs", "1"]), ("b-stopped", ["--max-steps", "3"])):
        code = main(["train", "--json", "--backend", "numpy", "--run-dir", str(root / name), *argv])
        assert code == 0
    (root / "b-stopped/result.json").unlink()
    with (root / "b-stopped/metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 4, "epoch": 1}\n{"kind": "st')
    (root / "c-begun").mkdir()
    (root / "c-begun/config.toml").write_text(to_toml(configure(net="paper", data="/photos")))
    (root / "no-run").mkdir()
    (root / "file").touch()
    return root


@pytest.fixture
def copy(three, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(three, tmp_path / "runs"))


@pytest.fixture
def refnet_(capsys):
    def run(*argv):
        code = main([str(argument) for argument in argv])
        out, err = capsys.readouterr()
        assert all(line.isprintable() for line in (out + err).splitlines())
        return code, out, err

    return run


def test_runs(copy, refnet_):
    code, out, err = refnet_("runs")
    assert (code, err) == (0, "")
    heading, *rows = [line.split("  ") for line in out.splitlines() if line.strip() and "─" not in line]
    assert [part.strip() for part in heading if part][-1] == "best error"
    cells = [[part.strip() for part in row if part.strip()] for row in rows]
    best = generations.load(copy / "a-finished").facts.state.best.top1_error
    assert cells == [
        ["runs/a-finished", "digits", "digits", "numpy", "finished", "1/1", "41", f"{best:.2%}"],
        ["runs/b-stopped", "digits", "digits", "numpy", "stopped", "1/26", "4"],
        ["runs/c-begun", "paper", "photos", "auto", "stopped", "1/90", "0"],
    ]


def test_runs_json(copy, refnet_):
    code, out, _ = refnet_("runs", "--json", copy)
    found = json.loads(out)
    assert code == 0
    assert list(found) == [str(copy / name) for name in ("a-finished", "b-stopped", "c-begun")]
    finished = found[str(copy / "a-finished")]
    assert finished["result"]["steps"] == finished["step"] == finished["state"]["step"] == 41
    assert finished["best_error"] == finished["state"]["best"]["top1_error"]
    assert [each["step"] for each in finished["checkpoints"]] == [41]


def test_a_run_in_training(copy, refnet_):
    with directory.RunDirectory.reopen(copy / "b-stopped"):
        assert " training " in refnet_("runs")[1]
        assert "b-stopped, training" in refnet_("show", copy / "b-stopped")[1]


def test_no_runs(tmp_path, refnet_):
    assert refnet_("runs", tmp_path) == (0, f"no runs in {tmp_path}; refnet train makes one\n", "")
    assert refnet_("runs", tmp_path / "none")[0] == 0
    (tmp_path / "file").touch()
    assert refnet_("runs", tmp_path / "file")[::2] == (
        2,
        f"refnet: {tmp_path / 'file'} cannot be listed: Not a directory; give a folder of runs\n",
    )
    assert json.loads(refnet_("runs", tmp_path, "--json")[1]) == {}


def test_show_a_run(copy, refnet_):
    code, out, err = refnet_("show", "runs/a-finished")
    result = json.loads((copy / "a-finished/result.json").read_text())
    assert (code, err) == (0, "")
    assert out.startswith("run          runs/a-finished, finished\n")
    assert f"test error   {result['test_top1_error']:.2%} top-1" in out
    assert "step-000000041.safetensors: step 41, 0.8 MB, intact\n" in out
    assert "  lr = 0.015\n" in out
    assert "continue     refnet train --resume runs/b-stopped\n" in refnet_("show", "runs/b-stopped")[1]


def test_show_a_checkpoint(copy, refnet_):
    path = generations.choose(copy / "a-finished")
    code, out, err = refnet_("show", path)
    assert (code, err) == (0, "")
    assert out.startswith(f"checkpoint   {path}, 0.8 MB, intact\n")
    assert "parameters   99,210, and as many velocities\n" in out
    assert "classes      10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n" in out
    described = json.loads(refnet_("show", "--json", path)[1])
    assert described["state"]["step"] == 41
    assert described["classes"] == list("0123456789")


def test_problems_of_checkpoints_name_flags(copy, monkeypatch, refnet_):
    def refuse(_path):
        raise CheckpointError(f"it needs another {setting('backend')}")

    monkeypatch.setattr("refnet.runs.checkpoint.read_facts", refuse)
    run = inventory.inspect(copy / "a-finished")
    assert run.checkpoints[0].problem == f"it needs another {setting('backend')}"
    assert inventory.as_dict(run)["checkpoints"][0]["problem"] == "it needs another --backend"
    monkeypatch.setattr("refnet.runs.checkpoint.read", refuse)
    assert ": it needs another --backend\n" in refnet_("show", str(copy / "a-finished"))[1]


def test_show_a_run_with_a_damaged_checkpoint(copy, refnet_):
    path = generations.choose(copy / "a-finished")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, out, _ = refnet_("show", copy / "a-finished")
    assert code == 0
    assert "are damaged (their SHA-256 differs)" in out
    assert json.loads(refnet_("show", "--json", copy / "a-finished")[1])["damaged"] == [str(path)]
    assert refnet_("show", path)[0] == 4


@pytest.mark.parametrize("content", [b"", b"\xff", b"[", b"a = " + b"[" * 5000, b"net = 3\nwhen = 2012-09-30"])
def test_a_configuration_that_cannot_be_read(copy, refnet_, content):
    (copy / "c-begun/config.toml").write_bytes(content)
    code, out, _ = refnet_("runs")
    assert code == 0
    assert out.count("runs/") == 3
    assert len(json.loads(refnet_("runs", "--json")[1])) == 3
    assert refnet_("show", "runs/c-begun")[0] in (0, 2)


@pytest.mark.parametrize("name", ["metrics.jsonl", "result.json"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100_000, b"[" * 100_000, b'{"step": "x"}\n', b"7\n"])
def test_figures_that_cannot_be_read(copy, refnet_, name, content):
    (copy / "a-finished" / name).write_bytes(content)
    assert refnet_("runs")[0] == 0
    assert refnet_("show", copy / "a-finished")[0] == 0


def test_names_that_would_do_harm_are_shown_harmless(copy, refnet_):
    """A terminal's title, colours, markup and writing direction stay as they are."""
    folder = copy / HOSTILE
    (copy / "c-begun").rename(folder)
    (folder / "config.toml").write_text(to_toml(replace(configure(), net=HOSTILE, data=HOSTILE, backend=HOSTILE)))
    code, out, _ = refnet_("runs", copy)
    assert code == 0
    assert "\x1b" not in out
    assert "\u202e" not in out
    _, out, _ = refnet_("show", folder)
    assert r"net          \x1b]0;owned\x07[red]<b>x\u202ey in 2 columns" in out
    for argv in (["show", folder / "none"], ["train", "--resume", folder / "none"], ["train", "--data", HOSTILE]):
        code, _, err = refnet_(*argv)
        assert code != 0
        assert r"\x1b]0;owned\x07[red]<b>x\u202ey" in err


def test_a_run_with_a_hostile_name_trains(tmp_path, monkeypatch, refnet_):
    monkeypatch.chdir(tmp_path)
    code, out, _ = refnet_("train", "--max-steps", 1, "--backend", "numpy", "--run-dir", HOSTILE)
    assert code == 0
    assert r"run in \x1b]0;owned\x07[red]<b>x\u202ey" in out
    assert Path(HOSTILE, "result.json").exists()


def test_a_run_whose_name_begins_with_a_dash(copy, refnet_):
    """Every command that refnet prints, and every advice, is one that can be followed."""
    (copy / "b-stopped").rename("-x")
    assert refnet_("show", "-x")[2].startswith(
        "refnet: -x is not an argument of refnet show; a file or folder of that name is written ./-x\n"
    )
    code, out, err = refnet_("show", "./-x")
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("continue")]
    assert line.split()[1:] == ["refnet", "train", "--resume", "./-x"]
    assert refnet_(*line.split()[2:], "--json", "--max-steps", "4")[0] == 0


# Progress, time and state: train, show, runs and the report mean the same ------------------------------------------


def told_by_show(run, refnet_):
    _, out, _ = refnet_("show", run)
    lines = dict(line.split(None, 1) for line in out.splitlines() if line.startswith(("run ", "progress ", "time ")))
    epoch, epochs, step = re.fullmatch(r"epoch (\d+) of (\d+), step ([\d,]+)", lines["progress"]).groups()
    return lines["run"].rpartition(", ")[2], epoch, epochs, step, lines.get("time")


def told_by_runs(run, refnet_):
    _, out, _ = refnet_("runs", run.parent)
    (row,) = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if line.split()[:1] == [str(run)]]
    _, _, _, _, state, progress, step, *_ = row
    return state, *progress.split("/"), step


def told_by_report(run, refnet_):
    refnet_("report", run, "-o", run.parent / "page.html", "--backend", "numpy")
    page = (run.parent / "page.html").read_text()
    tiles = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    state = re.search(r" · (training|finished|stopped)</p>", page)[1]
    return state, *tiles["epochs"].split(" of "), tiles["steps"], tiles.get("time")


def told_by_python(run):
    figures = Run(run, None, None)._figures()
    return figures["state"], *figures["epochs"].split(" of "), figures["steps"], figures.get("time")


def told_by_train(out, epochs):
    time, steps, epoch = re.search(r"time +(.+) for ([\d,]+) steps? in (\d+) epochs?", out).groups()
    return "finished", epoch, str(epochs), steps, time


QUICK = ("--backend", "numpy", "--images", "64", "--batch", "32", "--checkpoint-steps", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Give the folder of a run, and what train printed, for runs that ended in every way."""
    root = tmp_path_factory.mktemp("ended")

    def run(*argv):
        told = io.StringIO()
        with redirect_stdout(told):
            code = main(["train", *map(str, argv)])
        return code, told.getvalue()

    ways = {
        "finished": ("--epochs", 2),
        "cut short": ("--epochs", 2, "--max-steps", 3),
        "failed": ("--epochs", 2, "--lr", "1e30"),
        "resumed": ("--epochs", 3, "--max-steps", 3),
    }
    told = {}
    for way, argv in ways.items():
        path = root / way.replace(" ", "-")
        told[way] = path, *run(*QUICK, "--run-dir", path, *argv)
    killed = root / "killed"
    shutil.copytree(told["cut short"][0], killed)
    (killed / "result.json").unlink()
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 4, "epoch": 2}\n')
    told["killed"] = killed, 0, ""
    path = told["resumed"][0]
    code, out = run("--resume", path, "--max-steps", 5)
    told["resumed"] = path, code, out
    return told


@pytest.mark.parametrize(
    ("way", "state"),
    [
        ("finished", ("finished", "2", "2", "4")),
        ("cut short", ("finished", "2", "2", "3")),
        ("resumed", ("finished", "3", "3", "5")),
        ("failed", ("stopped", "1", "2", "1")),
        ("killed", ("stopped", "2", "2", "4")),
    ],
)
def test_everyone_tells_the_same_of_a_run(trained, refnet_, way, state):
    run, code, out = trained[way]
    assert code == (5 if way == "failed" else 0)
    shown = told_by_show(run, refnet_)
    assert shown[:4] == told_by_runs(run, refnet_) == state
    assert shown == told_by_report(run, refnet_)
    if out and code == 0:
        assert shown == told_by_train(out, state[2])
    assert shown == told_by_python(run)
    assert shown[4].endswith(" s")
