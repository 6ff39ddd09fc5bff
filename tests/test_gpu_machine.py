"""The program for a bare machine with a GPU: its commands exist, and a part that fails does not stop the others."""

import os
import sys
from argparse import Namespace
from itertools import chain

import pytest
import scripts

from refnet.cli.parser import parse


@pytest.fixture(scope="module")
def machine():
    return scripts.load("benchmarks/gpu_machine.py")


def options(device="cuda:0", *, tuned=False, only=""):
    return Namespace(device=device, tuned=tuned, only=only)


def commands(machine):
    every = [options(), options("cpu"), options(tuned=True)]
    return [part.command for part in chain.from_iterable(chain.from_iterable(map(machine.stages, every)))]


def test_its_commands_of_refnet_exist(machine):
    ours = [command[4:] for command in commands(machine) if command[2:4] == ["-m", "refnet"]]
    assert {argv[0] for argv in ours} == {"compare", "tune"}
    for argv in ours:
        assert parse(argv)[3] == []


def test_its_other_programs_exist(machine):
    places = {word for command in commands(machine) for word in command if word.endswith(".py")}
    assert {"benchmarks/gpu_step.py", "benchmarks/gpu_checks.py", "tests/card.py"} <= places
    assert all((scripts.ROOT / place).is_file() for place in places)
    checks = scripts.load("benchmarks/gpu_checks.py").CHECKS
    named = [command[command.index("benchmarks/gpu_checks.py") + 1] for command in commands(machine)
             if "benchmarks/gpu_checks.py" in command]  # fmt: skip
    assert set(named) == set(checks)


def test_parts_have_names_of_their_own_and_fit_ten_minutes(machine):
    for choice in (options(), options("cpu"), options(tuned=True)):
        stages = machine.stages(choice)
        names = [part.name for stage in stages for part in stage]
        assert len(set(names)) == len(names)
        assert sum(max(part.limit for part in stage) for stage in stages) < 680


def test_no_part_stops_the_others(machine, monkeypatch, tmp_path, capsys):
    script = [sys.executable, "-c"]
    stages = [
        [
            machine.Part("good", 20, [*script, "print(1); print('the last line')"]),
            machine.Part("bad", 20, [*script, "print('why'); raise SystemExit(3)"]),
        ],
        [machine.Part("endless", 1, [*script, "print('began', flush=True); import time; time.sleep(60)"])],
        [machine.Part("missing", 1, ["no-such-program"])],
        [machine.Part("after", 20, [*script, "print('still here')"])],
    ]
    monkeypatch.setattr(machine, "stages", lambda _: stages)
    monkeypatch.setattr(machine, "environment", lambda *_: dict(os.environ))
    monkeypatch.setenv("OUT", str(tmp_path))
    assert machine.run(options()) == 3
    printed = capsys.readouterr().out
    assert "== good: passed\nthe last line\n" in printed
    assert "== bad: exit code 3\nwhy\n" in printed
    assert "== endless: stopped after 1 s\nbegan\n" in printed
    assert "== missing: cannot start (No such file or directory)" in printed
    assert "== after: passed\nstill here\n" in printed
    assert printed.endswith("2 of 5 parts passed; not: bad, endless, missing\n")
    assert (tmp_path / "good.txt").read_text() == "1\nthe last line\n"


def test_without_wheels_it_says_how_to_make_them(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CARRY", tmp_path)
    with pytest.raises(SystemExit, match=r"gpu_machine\.py pack"):
        machine.environment(options(), tmp_path)
