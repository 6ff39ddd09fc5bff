"""A run's folder: its files, that runs never share one, and that an unusable one is rejected in time."""

import errno
import fcntl
import json
import os
import platform
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refnet
from refnet import config
from refnet.cli.main import main
from refnet.config import configure
from refnet.errors import ConfigError
from refnet.runs import directory, inventory
from refnet.runs.directory import RunDirectory
from refnet.runs.state import informative

FILES = [".lock", "checkpoints", "config.toml", "environment.json", "metrics.jsonl"]


@pytest.fixture(autouse=True)
def cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything():
    return sorted(str(path) for path in Path().rglob("*"))


def created(**keys):
    with RunDirectory.create(configure(**keys)) as run:
        return run.path


def refused(act, run_dir):
    before = everything()
    with pytest.raises(ConfigError) as caught:
        act(configure(run_dir=run_dir))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert run_dir in message
    assert everything() == before
    return message


# What it holds


def test_the_configuration_comes_back_without_its_directory():
    ran = configure(net="paper", data="my photos", devices=("a", "b"), lr=1e-5, max_steps=3, run_dir="here")
    path = created(**vars(ran))
    recipes = {"digits": {}, "paper": {"lr": 1.0}}
    nets = config.Nets(recipes, dict.fromkeys(recipes, ()))
    found = config.resolve(config.KEYS, {}, environ={}, file=lambda: path / "config.toml", nets=lambda: nets)
    data = str(Path("my photos").absolute())  # it can be run again from anywhere
    assert config.to_config(found.values) == configure(**{**vars(ran), "run_dir": None, "data": data})


def test_the_environment_says_what_computed():
    found = json.loads((created() / "environment.json").read_text())
    assert found["refnet"] == refnet.__version__
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert found["cores"] >= 1
    assert all(pool["num_threads"] >= 1 for pool in found["blas"])
    assert set(found) >= {"system", "processor"}


def test_the_end_is_written_when_it_is_known():
    with RunDirectory.create(configure()) as run:
        run.metrics.log("step", step=1)
        assert not (run.path / "result.json").exists()
        run.finish({"steps": 1})
    assert json.loads((run.path / "result.json").read_text()) == {"steps": 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_never_written(value):
    with RunDirectory.create(configure()) as run:
        with pytest.raises(ValueError, match="JSON"):
            run.metrics.log("step", loss=value)
        with pytest.raises(ValueError, match="JSON"):
            run.finish({"test_loss": value})
        assert (run.path / "metrics.jsonl").read_text() == ""


# Its name


def test_a_run_gets_a_fresh_folder_by_net_and_time():
    assert created(net="half").match("runs/half-[0-9]*-[0-9]*")


def test_runs_in_the_same_second_do_not_meet(monkeypatch):
    monkeypatch.setattr("refnet.runs.directory.time.strftime", lambda _: "20120930-120000")
    paths = [str(created()) for _ in range(11)]
    base = "runs/digits-20120930-120000"
    assert paths == [base, *(f"{base}-{i}" for i in range(2, 12))]


def test_runs_at_the_same_instant_do_not_meet(monkeypatch):
    make = Path.mkdir

    def late(self, *args, **kwargs):
        if self.parent.name == "runs" and not self.exists():
            monkeypatch.setattr(Path, "mkdir", make)
            make(self, parents=True)
            (self / "config.toml").touch()  # the other run was faster
        make(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", late)
    monkeypatch.setattr("refnet.runs.directory.time.strftime", lambda _: "20120930-120000")
    assert str(created()) == "runs/digits-20120930-120000-2"


@pytest.mark.parametrize("name", ["new", "a/b/c", "with spaces", "ünï-雪", "-leading", "[red]:smile:"])
def test_a_named_directory_is_made_with_its_parents(name):
    RunDirectory.check(configure(run_dir=name))
    assert everything() == []
    assert created(run_dir=name) == Path(name)
    assert sorted(file.name for file in Path(name).iterdir()) == FILES


def test_an_empty_directory_will_do():
    Path("empty").mkdir()
    RunDirectory.check(configure(run_dir="empty"))
    assert created(run_dir="empty") == Path("empty")


# What is refused

BOTH = pytest.mark.parametrize("act", [RunDirectory.check, RunDirectory.create], ids=["check", "create"])


@BOTH
def test_a_directory_that_holds_something(act):
    Path("old").mkdir()
    Path("old/.hidden").touch()
    message = refused(act, "old")
    assert message == "run_dir='old' is not empty; choose a new directory, so that no run is overwritten"


@BOTH
@pytest.mark.parametrize("name", ["file", "file/run", "file/a/b"])
def test_a_file_in_the_way(act, name):
    Path("file").write_text("keep me")
    Path("file").chmod(0o755)
    assert "choose another directory" in refused(act, name)
    assert Path("file").read_text() == "keep me"


@BOTH
def test_a_link_that_leads_nowhere(act):
    Path("link").symlink_to("nowhere")
    assert "choose another directory" in refused(act, "link")


@BOTH
@pytest.mark.parametrize("name", ["/dev/null", "/dev/null/run", "/proc/self/run"])
def test_where_nobody_can_write(act, name):
    assert "choose another directory" in refused(act, name)


@BOTH
def test_a_name_that_is_too_long(act):
    assert "File name too long; choose another directory" in refused(act, "x" * 300)


def test_a_file_in_the_place_of_runs():
    Path("runs").touch()
    with pytest.raises(ConfigError, match=r"runs is not a directory; choose another directory"):
        RunDirectory.check(configure())


def test_a_folder_without_permission(monkeypatch):
    """Root may write anywhere, so that the answer of the system is replaced."""
    Path("locked").mkdir()
    monkeypatch.setattr(directory.os, "access", lambda path, _: Path(path).name != "locked")
    assert "locked cannot be written to; choose another directory" in refused(RunDirectory.check, "locked/run")


@pytest.mark.parametrize("call", ["mkdir", "fsync"])
def test_a_full_disk_is_told(monkeypatch, call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    Path("new").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(directory.os, call, full)
        with pytest.raises(ConfigError, match="run_dir='new' cannot be written: No space left on device"):
            RunDirectory.create(configure(run_dir="new"))
    assert not Path("new").exists()


def test_a_full_disk_costs_no_other_run(monkeypatch):
    """An earlier run may have been told --run-dir runs."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    old = created(run_dir="runs")
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        RunDirectory.create(configure())
    assert sorted(file.name for file in old.iterdir()) == FILES


def test_a_folder_that_cannot_be_listed_keeps_its_files(monkeypatch):
    """Root may list anything, so that the answer of the system is replaced."""

    def denied(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    old = created(run_dir="old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", denied)
        with pytest.raises(ConfigError, match="Permission denied; choose another directory"):
            RunDirectory.create(configure(run_dir="old"))
    assert sorted(file.name for file in old.iterdir()) == FILES


# One process at a time


def test_two_trainers_do_not_meet():
    with RunDirectory.create(configure()) as run:
        assert directory.is_training(run.path)
        with pytest.raises(ConfigError, match="is in use: another process is training there; wait for it, or stop it"):
            RunDirectory.reopen(run.path)
    assert not directory.is_training(run.path)
    with RunDirectory.reopen(run.path):
        assert directory.is_training(run.path)


def test_a_glance_does_not_keep_a_trainer_out():
    path = created()
    with (path / ".lock").open("rb") as glance:
        fcntl.flock(glance, fcntl.LOCK_SH)
        threading.Timer(0.03, fcntl.flock, (glance, fcntl.LOCK_UN)).start()
        with RunDirectory.reopen(path):
            pass
        time.sleep(0.05)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(monkeypatch, capsys, number):
    def flock(_file, _operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert main(["train", "--max-steps", "2", "--backend", "numpy", "--run-dir", "r"]) == 0
    assert capsys.readouterr().out.count("the file system of r has no file locks") == 1
    assert directory.is_training(Path("r")) is None
    assert inventory.inspect(Path("r")).status == "finished"
    (Path("r") / directory.RESULT).unlink()
    assert inventory.inspect(Path("r")).status == "unknown"
    assert main(["show", "r"]) == 0
    assert "continue     refnet train --resume r (unless a process trains it" in capsys.readouterr().out
    with RunDirectory.reopen(Path("r")) as run:
        assert not run.locked


def test_a_lock_that_fails_otherwise_is_an_error(monkeypatch):
    def flock(_file, _operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ConfigError, match="cannot be written: Input/output error"):
        created()


# Taken up again


def test_what_is_no_run():
    Path("empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(ConfigError, match=rf"{name} is not a run folder \(no config.toml\); refnet runs"):
            RunDirectory.reopen(Path(name))
    assert everything() == ["empty"]


def test_orphans_go_when_a_run_is_taken_up():
    path = created()
    orphans = [path / ".config.toml.77.tmp", path / "checkpoints" / ".step-000000007.safetensors.77.tmp"]
    others = [path / "notes.tmp", path / "checkpoints" / "step-000000007.safetensors.damaged"]
    for file in (*orphans, *others):
        file.touch()
    with RunDirectory.reopen(path):
        assert not any(file.exists() for file in orphans)
    assert all(file.exists() for file in others)


def test_a_run_that_cannot_be_written_is_told(monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = created()
    with monkeypatch.context() as patch:
        patch.setattr(directory, "_locked", denied)
        with pytest.raises(ConfigError, match="cannot be written: Permission denied; fix that, or copy the run"):
            RunDirectory.reopen(path)
    with RunDirectory.reopen(path) as run:
        monkeypatch.setattr(directory, "truncate", denied)
        with pytest.raises(ConfigError, match="cannot be written: Permission denied; fix that, or copy the run"):
            run.rewind(configure(), 0)


def test_going_back_forgets_the_end_and_later_figures():
    path = created()
    with RunDirectory.reopen(path) as run:
        for step in range(5):
            run.metrics.log("step", step=step)
        run.finish({})
    with RunDirectory.reopen(path) as run:
        assert run.rewind(configure(lr=0.5), 3) == 3
        run.metrics.log("step", step="new")
        assert run.metrics.lines == 4
    assert [json.loads(line)["step"] for line in (path / "metrics.jsonl").read_text().splitlines()] == [0, 1, 2, "new"]
    assert not (path / "result.json").exists()
    assert "lr = 0.5" in (path / "config.toml").read_text()


@pytest.mark.usefixtures("cwd")
def test_the_top_five_of_five_classes_is_printed_nowhere(capsys):
    """With five outputs or fewer it is 0 whatever the network computes; JSON still has it."""
    assert informative(0.5, 0.0, 5) == {"top-1": 0.5}
    assert informative(0.5, 0.25, 6) == {"top-1": 0.5, "top-5": 0.25}
    assert informative(0.5, 0.25, None) == {"top-1": 0.5, "top-5": 0.25}
    for name in ("cat", "dog"):
        (Path("d") / name).mkdir(parents=True)
        for number in range(5):
            pixels = np.full((8, 8), 20 * number + (name == "dog"), np.uint8)
            Image.fromarray(pixels).save(Path("d") / name / f"{number}.png")
    few = ["--data", "d", "--backend", "numpy", "--batch", "2", "--epochs", "1"]
    assert main(["train", *few, "--run-dir", "r"]) == 0
    assert main(["show", "r"]) == main(["eval", "--checkpoint", "r", "--backend", "numpy"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("top-1") >= 5
    assert "top-5" not in printed
    assert main(["train", *few, "--run-dir", "r2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test_top5_error"] == 0
