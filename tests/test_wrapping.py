"""Lines printed in a terminal that is narrower than they are."""

import os
import sys

import pytest

from refnet.terminal.progress import on
from refnet.terminal.wrapping import print_lines, wrapped

LINES = {
    "a labelled line": ("error   top-1 48.89%, top-5 12.22%", "error   top-1 48.89%, top-5\n        12.22%"),
    "a sentence": ("digits: handwritten digits, fixed split", "digits: handwritten digits,\n  fixed split"),
    "a margin": ("    8.0  a taken for b, or for c or d", "    8.0  a taken for b, or for\n      c or d"),
    "a path": ("picture " + "x/" * 30 + " is drawn", "picture " + "x/" * 30 + " is drawn"),
    "a hyphen": ("1234567890 1234567890 top-1234567890", "1234567890 1234567890\n  top-1234567890"),
    "it fits": ("x" * 30, "x" * 30),
    "nothing": ("", ""),
}
COMMAND = "continue     refnet train --resume runs/digits-20261129-001403"


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_broken_between_words(line):
    before, after = LINES[line]
    assert wrapped(before, 30) == after
    assert " ".join(after.split()) == " ".join(before.split())
    assert wrapped(before, 200) == before


def test_a_command_is_kept_in_one_piece_to_be_copied():
    assert wrapped(COMMAND, 30) == COMMAND


def say(lines):
    on(sys.stdout).say(lines[0])


@pytest.mark.parametrize("show", [say, print_lines])
def test_lines_are_wrapped_on_a_terminal_alone(monkeypatch, capsys, show):
    before, after = LINES["a labelled line"]
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "xterm")
    show([before])
    assert capsys.readouterr().out == before + "\n"
    end, descriptor = os.openpty()
    with open(descriptor, "w", encoding="utf-8") as device:  # noqa: PTH123 - it has no path
        monkeypatch.setattr("sys.stdout", device)
        show([before])
        device.flush()
        assert os.read(end, 1000).decode().replace("\r", "") == after + "\n"
    os.close(end)
