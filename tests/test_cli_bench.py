"""The command ``refnet bench``, on a small network."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from refnet.bench import machine
from refnet.bench.machine import Peak
from refnet.cli.main import main

FIGURES = {"minimum", "median"}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _quick_peak(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "measure", lambda _: Peak(1e11, 1e10, "NumPy"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench(capfd):
    """Run the command; give its exit code and what it wrote to the two streams."""

    def run(*argv):
        code = main(["bench", "--net", "digits", "--rounds", "1", *argv])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def measured(bench):
    """Run the command with ``--json``; give the object."""

    def run(*argv):
        code, out, err = bench("--json", *argv)
        assert code == 0, err
        return json.loads(out)

    return run


def save(found, **changes):
    Path("old.json").write_text(json.dumps(found | changes))


# What it prints


def test_layers(measured):
    found = measured("--ops", "--batch", "4", "--contenders", "numba,numpy,torch-eager")
    assert (found["net"], found["columns"]) == ("digits", 2)
    assert found["steps"] == []
    directions = {(row["layer"], row["direction"]): row for row in found["ops"]}
    conv = directions["conv2", "weight gradient"]
    assert conv["op"] == "conv2d_relu"
    assert set(conv["contenders"]) == {"numba", "numpy", "torch-eager"}
    for timing in conv["contenders"].values():
        assert set(timing) == FIGURES | {"gflops_per_s", "gbytes_per_s", "share_of_peak"}
    faster = conv["contenders"]["numpy"]["minimum"] / conv["contenders"]["numba"]["minimum"]
    assert conv["times_numpy"]["numba"] == pytest.approx(faster)
    assert {"loss", "update", "norm1", "pool1", "fc6", "drop5"} <= {row["layer"] for row in found["ops"]}


def test_layers_as_they_are_written(measured):
    found = measured("--ops", "--unfused", "--batch", "4", "--contenders", "numpy")
    assert {"conv2d", "relu", "linear"} <= {row["op"] for row in found["ops"]}
    assert "conv2d_relu" not in {row["op"] for row in found["ops"]}


def test_the_whole_network(measured):
    found = measured("--step", "--batch", "4", "--contenders", "numba,numpy")
    assert found["ops"] == []
    assert set(found["images_per_second"]) == {"numba", "numpy"}
    for entry in found["steps"]:
        rates = found["images_per_second"][entry["contender"]]
        for what in ("training", "forward"):
            assert entry[what]["images_per_second"] == rates[what] == pytest.approx(4 / entry[what]["minimum"])
        assert entry["peak_bytes"] > 10e6
    assert found["times_best_torch"] == {}
    assert found["fingerprint"]["threads"] == [1]  # the net's recipe


def test_both_as_text(bench):
    code, out, _ = bench("--batch", "4", "--contenders", "numpy")
    assert code == 0
    assert "peak: 100 GFLOP/s" in out
    assert "digits, column 0, batch 4, threads 1" in out
    assert "digits, 2 columns, whole network" in out


def test_how_it_scales(bench):
    code, out, _ = bench("--step", "--batch", "2,4", "--threads", "1,2", "--contenders", "numpy")
    assert code == 0
    assert "numpy: a training step of 2 is " in out
    assert "milliseconds of training per image, by batch, with 2 threads: 2: " in out


def test_torch_takes_part_where_it_is_installed(measured, monkeypatch):
    """Of the default contenders the layers show the one that has layers."""
    found = measured("--ops", "--batch", "4", "--backends", "numpy")
    assert set(found["ops"][0]["contenders"]) == {"numpy", "torch-eager"}
    monkeypatch.setattr(machine, "has_torch", lambda: False)
    found = measured("--ops", "--batch", "4", "--backends", "numpy")
    assert set(found["ops"][0]["contenders"]) == {"numpy"}


def test_a_note_where_the_environment_throttles(bench, monkeypatch):
    argv = ("--ops", "--batch", "4", "--contenders", "numpy")
    assert "note:" not in bench(*argv)[1]
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    _, out, _ = bench(*argv)
    assert out.startswith("note: OPENBLAS_CORETYPE=Nehalem: OpenBLAS uses kernels written for that processor")
    _, out, err = bench(*argv, "--json")
    assert err.startswith("note: OPENBLAS_CORETYPE=Nehalem")
    assert json.loads(out)["fingerprint"]["variables"]["OPENBLAS_CORETYPE"] == "Nehalem"


# A saved table


def test_against_a_saved_table(bench, measured):
    argv = ("--ops", "--batch", "4", "--contenders", "numpy")
    save(measured(*argv))
    changes = measured(*argv, "--against", "old.json")["against"]
    assert {"conv1 forward, numpy, batch 4, threads 1"} <= {change["what"] for change in changes}
    code, out, _ = bench(*argv, "--against", "old.json")
    assert code == 0
    assert "compared with the saved table" in out


def test_a_saved_table_from_elsewhere_is_refused_before_the_long_work(bench, measured, monkeypatch):
    argv = ("--ops", "--batch", "4", "--contenders", "numpy")
    found = measured(*argv)
    save(found, fingerprint=found["fingerprint"] | {"processor": "Z80", "numpy": "0.1"})
    monkeypatch.setattr("refnet.cli.bench.time_ops", None)
    code, out, err = bench(*argv, "--against", "old.json")
    assert (code, out) == (2, "")
    assert "processor was 'Z80' and is " in err
    assert "numpy was '0.1' and is " in err
    assert len(err.splitlines()) == 1


def test_a_saved_table_of_other_rows(bench, measured):
    save(measured("--ops", "--batch", "4", "--contenders", "numpy"))
    code, _, err = bench("--ops", "--batch", "2", "--contenders", "numpy", "--against", "old.json")
    assert code == 2
    assert "the saved table has no row of this run" in err


# Mistakes


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--batch", "0"], 2, "--batch 0 is not allowed; it must be whole numbers of at least 1"),
        (["--batch", "1,two"], 2, "--batch 1,two is not allowed"),
        (["--batch", "1,,2"], 2, "--batch 1,,2 is not allowed"),
        (["--threads", "-1"], 2, "--threads -1 is not allowed"),
        (["--threads", ""], 2, "--threads '' is not allowed"),
        (["--threads", "1" * 30], 2, "is not allowed"),
        (["--rounds", "0"], 2, "--rounds 0 is not allowed"),
        (["--columns", "3"], 2, "--columns 3 is not allowed"),
        (["--net", "digit"], 2, "did you mean digits?"),
        (["--ops", "--batch", "1,2"], 2, "add --step"),
        (["--threads", "1,2"], 2, "add --step"),
        (["--backends", "numpy", "--contenders", "numpy"], 2, "--backends cannot be given with --contenders"),
        (["--contenders", "nunpy"], 6, "backend nunpy is not known"),
        (["--backends", "nunpy"], 6, "did you mean numpy?"),
        (["--contenders", "numba", "--threads", "999"], 2, "--threads 999 is more than backend numba has here"),
        (["--against", "none.json"], 2, "--against none.json cannot be read: No such file"),
        (["--against", "."], 2, "cannot be read: Is a directory"),
    ],
    ids=str,
)
def test_a_mistake_in_one_line(bench, argv, code, message):
    found, out, err = bench(*argv)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_file_that_is_no_table(bench):
    Path("old.json").write_text("speed = 3")
    code, _, err = bench("--against", "old.json")
    assert code == 2
    assert err == "refnet: --against old.json is not JSON; save one with refnet bench --json > FILE\n"


def test_torch_is_asked_for_and_not_there(bench, monkeypatch):
    monkeypatch.setattr(machine, "has_torch", lambda: False)
    code, _, err = bench("--step", "--contenders", "torch-compiled")
    assert code == 6
    assert err == "refnet: torch-compiled needs PyTorch, which is not installed here; pip install torch\n"


def test_ctrl_c_ends_every_process(tmp_path):
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from refnet.cli.main import main; "
        "sys.exit(main())"
    )
    argv = ["bench", "--step", "--net", "digits", "--batch", "4", "--rounds", "100000", "--contenders", "numpy"]
    run = subprocess.Popen(
        [sys.executable, "-c", program, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, to which Ctrl-C goes as a whole
        cwd=tmp_path,
    )
    end = time.monotonic() + 60
    while not (children := children_of(run.pid)):
        assert time.monotonic() < end
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert err == "refnet: interrupted\n"
    assert "Traceback" not in out
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def children_of(pid):
    """List the processes that a process has started, from any of its threads."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        found += file.read_text().split()
    return found
