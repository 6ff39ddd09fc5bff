"""A run's metrics: written at once, and none lost or doubled when the disk is full."""

import json
import os
from pathlib import Path

import pytest

from refnet.runs.metrics import Metrics, truncate


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_a_line_is_in_the_file_at_once(path):
    with Metrics(path) as metrics:
        for step in (1, 2, 3):
            metrics.log("step", step=step, loss=0.5)
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            assert lines == [{"kind": "step", "step": done, "loss": 0.5} for done in range(1, step + 1)]
            assert metrics.lines == step


def test_lines_are_added_to_what_is_there(path):
    for step in (1, 2):
        with Metrics(path) as metrics:
            metrics.log("step", step=step)
    assert steps(path) == [1, 2]


def test_a_full_disk_costs_no_line(path):
    """The file is exchanged for a device that is full, and back."""
    metrics = Metrics(path)
    metrics.log("step", step=1)
    kept, full = os.dup(metrics._file), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, metrics._file)
    metrics.log("step", step=2)
    with pytest.raises(OSError, match="No space left"):
        metrics.sync()
    metrics.log("step", step=3)
    assert steps(path) == [1]
    os.dup2(kept, metrics._file)
    metrics.log("step", step=4)
    assert steps(path) == [1, 2, 3, 4]
    metrics.close()
    os.close(kept)
    os.close(full)


def test_a_write_that_takes_only_a_part_is_gone_on_with(path, monkeypatch):
    write = os.write
    monkeypatch.setattr("refnet.runs.metrics.os.write", lambda file, content: write(file, content[:5]))
    with Metrics(path) as metrics:
        metrics.log("step", step=1)
        metrics.log("step", step=2)
    assert steps(path) == [1, 2]


@pytest.mark.parametrize(("lines", "kept"), [(0, []), (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (9, [1, 2, 3])])
def test_cutting(path, lines, kept):
    path.write_text("".join(f'{{"step": {step}}}\n' for step in (1, 2, 3)) + '{"step": 4')
    assert truncate(path, lines) == len(kept)
    assert steps(path) == kept


def test_cutting_a_file_that_is_gone(tmp_path):
    assert truncate(Path(tmp_path / "new"), 3) == 0
