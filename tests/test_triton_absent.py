"""The messages of the Triton backend where it cannot run. Needs only torch."""

import ast
import sys
from pathlib import Path

import pytest
import refnet_triton
import torch
from refnet_triton import _devices

from refnet import backend as backends
from refnet import nets
from refnet.cli.main import main
from refnet.errors import BackendUnavailableError, ConfigError, DeviceMemoryError
from refnet.training.memory import batch_that_fits
from refnet.training.step import TrainingStep


@pytest.fixture(autouse=True)
def triton_is_as_it_would_be(monkeypatch):
    """No Triton is imported: whether it is for GPUs is not what is tested here."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(_devices, "_load_triton", lambda **_: None)


def test_no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendUnavailableError, match=r"needs torch, .*pip install 'refnet\[triton\]'"):
        backends.load("triton")


def test_no_triton(monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setitem(sys.modules, "triton.language", None)
    monkeypatch.setitem(sys.modules, "triton.language.standard", None)
    with pytest.raises(BackendUnavailableError, match=r"needs triton, .*pip install 'refnet\[triton\]'"):
        backends.load("triton", devices=["cpu"])


def test_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailableError, match=r"finds no GPU here; devices=.*backend='auto'"):
        backends.load("triton")


@pytest.mark.parametrize("name", ["gpu0", "cuda:x", "mps", "cuda:-1", "CUDA:0", "meta"])
def test_a_device_that_is_none(name):
    with pytest.raises(BackendUnavailableError, match=f"has no device {name}; name cuda:0"):
        backends.load("triton", devices=[name])


def test_too_few_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BackendUnavailableError, match="cuda:1, but the last one here is cuda:0; one device can hold"):
        backends.load("triton", columns=2, devices=["cuda:0", "cuda:1"])


def test_two_kinds_of_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BackendUnavailableError, match="not on both"):
        backends.load("triton", columns=2, devices=["cuda:0", "cpu"])


def test_every_masked_load_says_what_it_reads_where_it_may_not():
    """Without it a GPU reads anything there, and the interpreter, which reads 0, would not show it."""
    loads = [
        (path.name, node.lineno, {word.arg for word in node.keywords})
        for path in Path(refnet_triton.__path__[0]).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "tl.load"
    ]
    masked = [load for load in loads if "mask" in load[2]]
    assert len(masked) > 30
    assert [load for load in masked if "other" not in load[2]] == []


def test_loading_is_all_that_needs_torch():
    assert "torch" not in vars(refnet_triton)


@pytest.mark.parametrize(
    ("name", "option", "said"),
    [
        ("numpy", {"precision": "tf32"}, "backend numpy has no precision='tf32'"),
        ("numba", {"exchange": "fp16"}, "backend numba has no exchange='fp16'"),
        ("auto", {"graph": True}, "backend numba has no graph=True;"),
    ],
)
def test_options_of_another_backend(name, option, said):
    with pytest.raises(ConfigError, match=said):
        backends.load(name, **option)


def test_options_that_were_not_given():
    assert backends.load("numpy", precision=None, graph=None).name == "numpy"


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--backend", "triton"], 6, "finds no GPU here"),
        (["--backend", "numpy", "--precision", "tf32"], 2, "has no --precision tf32"),
        (["--precision", "double"], 2, "must be one of ieee, tf32x3, tf32"),
        (["--graph", "--checked"], 2, "use one of the two"),
    ],
)
def test_the_command_ends_with_one_line(capsys, monkeypatch, tmp_path, flags, code, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["train", *flags]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ([], 6, "finds no GPU here"),
        (["--backend", "numba"], 2, "backend numba has nothing to tune"),
        (["--batch", "0"], 2, "--batch 0 is not allowed"),
        (["--net", "digit"], 2, "did you mean digits"),
    ],
)
def test_tune_ends_with_one_line(capsys, monkeypatch, flags, code, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["tune", *flags]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_out_of_memory_names_a_batch_that_fits(capsys, monkeypatch, tmp_path):
    def refuse(*_):
        raise DeviceMemoryError("cuda:0", 10**9)

    monkeypatch.setattr(TrainingStep, "take", refuse)
    assert main(["train", "--backend", "numpy", "--batch", "1000", "--run-dir", str(tmp_path / "run")]) == 6
    assert "cuda:0 is out of memory (1.0 GB); --batch 500 would fit" in capsys.readouterr().err


def test_the_batch_that_fits_grows_with_the_memory():
    plan = nets.get("paper").plan(2)
    fits = [batch_that_fits(plan, room * 10**9, 4096, devices=1) for room in (0, 4, 16, 80)]
    assert fits[0] == 0
    assert fits == sorted(set(fits))
    assert batch_that_fits(plan, 4 * 10**9, 4096, devices=2) > fits[1]
    assert batch_that_fits(plan, None, 4096, devices=1) < 4096
    assert batch_that_fits(plan, 10**15, 4096, devices=1) == 4096 // 2
