"""refnet in a notebook: streams that are no files, and paths as text or as ``Path``."""

import asyncio
import io
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

import refnet
from refnet.cli.main import main
from refnet.data.opening import open_dataset
from refnet.evaluation.trained import open_trained
from refnet.runs import checkpoint, generations
from refnet.terminal.streams import is_terminal


class OutStream(io.TextIOBase):
    """What a notebook's kernel puts in place of stdout: no buffer, and no file of the system."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)


class Logger:
    """What a program that keeps its output puts there: an object that can only write and flush."""

    text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


class Terminal(OutStream):
    def isatty(self):
        return True


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook") / "run"
    assert main(["train", "--backend", "numpy", "--max-steps", "3", "--run-dir", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("stream", [OutStream, Logger, None], ids=["notebook", "logger", "none"])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("summary digits", 0),
        ("train --backend numpy --max-steps 2 --run-dir NEW", 0),
        ("train --backend numpy --max-steps 2 --run-dir NEW --json", 0),
        ("runs .", 0),
        ("show RUN", 0),
        ("predict IMAGE --checkpoint RUN --backend numpy", 0),
        ("predict missing.png --checkpoint RUN --backend numpy", 3),
        ("backends", 0),
        ("nonsense", 2),
    ],
)
def test_commands_print_to_whatever_is_there(monkeypatch, tmp_path, run, stream, command, code):
    Image.new("L", (10, 10)).save(tmp_path / "image.png")
    places = {"NEW": str(tmp_path / "new"), "RUN": str(run), "IMAGE": str(tmp_path / "image.png")}
    out, err = (stream and stream() for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main([places.get(word, word) for word in command.split()]) == code
    if stream:
        assert "Traceback" not in out.text + err.text
        assert (err if code else out).text


def test_a_terminal_is_told_from_other_streams():
    assert is_terminal(Terminal())
    assert not any(map(is_terminal, (OutStream(), Logger(), None, io.StringIO())))


def test_a_run_in_a_thread_and_in_an_event_loop(tmp_path):
    codes = []

    def train(name):
        codes.append(main(["train", "--backend", "numpy", "--max-steps", "2", "--run-dir", str(tmp_path / name)]))

    async def in_loop():
        train("loop")

    thread = threading.Thread(target=train, args=("thread",))
    thread.start()
    thread.join()
    asyncio.run(in_loop())
    assert codes == [0, 0]


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_are_text_or_path(run, tmp_path, kind):
    (file,) = (run / "checkpoints").glob("*.safetensors")
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(9):
            Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / "pets" / name / f"{number}.png")
    assert open_trained(kind(run), "numpy").net.name == "digits"
    assert checkpoint.read(kind(file)).facts == generations.load(kind(run)).facts
    assert refnet.load(kind(run), backend="numpy").predict(kind(tmp_path / "pets" / "cat" / "0.png"))
    dataset = open_dataset(kind(tmp_path / "pets"), image_size=32, channels=3)
    assert dataset.classes == ("cat", "dog")
    assert refnet.open_data(kind(tmp_path / "pets")).classes == ("cat", "dog")
