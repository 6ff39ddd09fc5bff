"""The command line: what is printed where, the exit codes, and one line for every mistake."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import refnet
from refnet.backend import loading as registry
from refnet.cli.commands import COMMANDS
from refnet.cli.main import main
from refnet.cli.parser import EXIT_CODES, sentence
from refnet.config import configure
from refnet.errors import DataError, RefnetError
from refnet.evaluation import protocol
from refnet.nets import NETS
from refnet.pictures import plot
from refnet.reproduce import verdict
from refnet.runs.metrics import Metrics

ERRORS = {2: "usage", 3: "data", 4: "checkpoint", 5: "numeric", 6: "backend"}
CODES = {0: "done", **ERRORS, 129: "interrupted", 130: "interrupted", 143: "interrupted"}


pytestmark = pytest.mark.usefixtures("one_thread", "cwd")


@pytest.fixture
def refnet_(capfd):
    """Run the command line here; give its exit code and what it wrote to the two streams."""

    def run(*argv):
        try:
            code = main([str(argument) for argument in argv])
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def fails(refnet_):
    """Run what must fail; hold it to one or more short lines on stderr, and to leaving nothing behind."""

    def run(*argv, lines=1):
        before = sorted(Path().rglob("*"))
        code, out, err = refnet_(*argv)
        assert out == ""
        assert len(err.splitlines()) == lines
        assert all(line.startswith("refnet: ") and line.isprintable() for line in err.splitlines())
        assert sorted(Path().rglob("*")) == before
        return code, err

    return run


def raising(error):
    def raise_it(*_, **__):
        raise error

    return raise_it


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REFNET_", "PYTHONUNBUFFERED"))}
    return {**kept, "OPENBLAS_NUM_THREADS": "1", **more}


def process(*argv, stdout=subprocess.PIPE, python=("-m", "refnet")):
    argv = [sys.executable, *python, *argv]
    return subprocess.Popen(argv, env=environment(), stdout=stdout, stderr=subprocess.PIPE, text=True)


def strict_json(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(refnet_, command):
    code, out, err = refnet_(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: refnet {command} ")
    assert sentence(COMMANDS[command].purpose) in " ".join(out.split())
    assert EXIT_CODES in out


@pytest.mark.parametrize("command", [*COMMANDS, *(f"data {name}" for name in COMMANDS["data"].commands)])
def test_help_fits_a_terminal_of_80_columns(refnet_, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = refnet_(*command.split(), "--help")
    assert [line for line in out.splitlines() if len(line) > 80] == []
    assert not re.search(r"\w-\n", out)  # no flag or name is broken


def test_help_shows_that_a_flag_needs_its_value(refnet_):
    for command in COMMANDS:
        assert not re.search(r"--[\w-]+ \[", refnet_(command, "--help")[1])


def test_help_shows_what_each_net_takes_by_default(refnet_, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = refnet_("train", "--help")
    helps = " ".join(out.split())
    for name in NETS:
        assert f"{configure(name).epochs} for " in helps
    assert (
        "passes over the training images, at least 1 (default: 26 for digits; 90 for paper, half; 20 for cifar" in helps
    )
    assert "momentum, at least 0 and below 1 (default: 0.9)" in helps
    assert "(default: fixed for digits, cifar, fashion; plateau for paper, half)" in helps
    for name in configure("digits").__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in helps


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["eval", "--help"], ["data", "prepare", "--help"]])
def test_help_does_not_import_what_a_command_runs(argv):
    code = (
        f"import sys; from refnet.cli.main import main; main({argv}); "
        "sys.exit(bool({'numpy', 'rich', 'numba', 'refnet.cli.eval', 'refnet.cli.train'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=True)


def test_help_lists_commands_and_exit_codes(refnet_):
    code, out, err = refnet_("--help")
    assert (code, err) == (0, "")
    for command in COMMANDS:
        assert f"\n    {command}" in out
    for number, word in CODES.items():
        assert f"\n  {number:>3}  {word}" in out


def test_every_error_has_a_documented_exit_code():
    assert {error.exit_code for error in RefnetError.__subclasses__()} == set(ERRORS)
    for error in RefnetError.__subclasses__():
        assert f"exit code {error.exit_code})" in error.__doc__


def test_version(refnet_):
    assert refnet_("--version") == (0, f"refnet {refnet.__version__}\n", "")


def test_python_m_refnet_is_refnet():
    ran = subprocess.run(
        [sys.executable, "-m", "refnet", "--version"], env=environment(), capture_output=True, text=True, check=True
    )
    assert (ran.stdout, ran.stderr) == (f"refnet {refnet.__version__}\n", "")


# Other commands


def test_backends(refnet_):
    code, out, err = refnet_("backends")
    assert (code, err) == (0, "")
    assert "numpy      installed\n" in out
    assert "loopback" not in out


def test_backends_checked(refnet_, monkeypatch):
    def absent():
        raise ImportError("no such library")

    installed = registry._entry_points()
    points = {name: installed[name] for name in ("numba", "numpy")} | {"lame": SimpleNamespace(load=absent, dist=None)}
    monkeypatch.setattr(registry, "_entry_points", lambda: points)
    code, out, err = refnet_("backends", "--check")
    assert (code, err) == (0, "")
    assert out == "lame       backend lame cannot run here: no such library\nnumba      ready\nnumpy      ready\n"
    assert "lame       installed\n" in refnet_("backends")[1]


def test_backends_json(refnet_):
    code, out, err = refnet_("backends", "--json")
    assert (code, err) == (0, "")
    assert strict_json(out)["numpy"] is None


# Usage


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["train", "--batchsize", "3"], "--batchsize is not an argument of refnet train; did you mean --batch?"),
        (
            ["train", "--flip", "false"],
            "false is not an argument of refnet train; a switch takes no value: write --NAME or --no-NAME",
        ),
        (["train", "--no-augmnt"], "--no-augmnt is not an argument of refnet train; did you mean --no-augment?"),
        (["train", "--jsn"], "--jsn is not an argument of refnet train; did you mean --json?"),
        (["train", "--xyzzy=1"], "--xyzzy is not an argument of refnet train; see refnet train --help"),
        (["train", "--epoch", "3"], "--epoch is not an argument of refnet train; did you mean --epochs?"),
        (["train", "digits"], "digits is not an argument of refnet train; see refnet train --help"),
        (["train", "--lr", "1", "2"], "2 is not an argument of refnet train; see refnet train --help"),
        (["summary", "digits", "paper"], "paper is not an argument of refnet summary; see refnet summary --help"),
        (
            ["summary", "pape"],
            "NET pape is not allowed; it must be one of digits, paper, half, cifar, fashion; did you mean paper?",
        ),
        (["summary", "--batch", "0"], "--batch 0 is not allowed; it must be a whole number of at least 1"),
        (["backends", "--jason"], "--jason is not an argument of refnet backends; did you mean --json?"),
    ],
)
def test_an_argument_that_is_not_known(fails, argv, expected):
    assert fails(*argv) == (2, f"refnet: {expected}\n")


def test_every_unknown_argument_is_reported(fails):
    code, err = fails("train", "--foo", "1", "--lrr", "2", "extra", lines=3)
    assert code == 2
    assert [line.split()[1] for line in err.splitlines()] == ["--foo", "--lrr", "extra"]


def test_everything_that_is_missing_is_reported_with_everything_that_is_wrong(fails):
    code, err = fails("eval", "--batch", "--crops", "all", "--checkpoint", "--jsonn", lines=4)
    assert code == 2
    assert err.splitlines() == [
        "refnet: --jsonn is not an argument of refnet eval; did you mean --json?",
        "refnet: --checkpoint needs a value, paths of runs or .safetensors files; see refnet eval --help",
        "refnet: --batch needs a value, a whole number of at least 1; see refnet eval --help",
        "refnet: --crops all is not allowed; it must be one of centre, ten, both",
    ]
    code, err = fails("predict", "--crops", "all", lines=2)
    assert "refnet: refnet predict needs IMAGE and --checkpoint RUN|FILE; see refnet predict --help" in err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], ["the following arguments are required: COMMAND", "see refnet --help"]),
        (["--json"], ["COMMAND", "see refnet --help"]),
        (["trian"], ["trian is not a command of refnet; did you mean train?"]),
        (["hlep"], ["hlep is not a command of refnet; refnet --help lists them"]),
        (["data", "fetsch"], ["fetsch is not a command of refnet data; did you mean fetch?"]),
        (["train", "--lr"], ["--lr needs a value, a number above 0", "see refnet train --help"]),
        (["train", "--json=1"], ["--json", "'1'", "see refnet train --help"]),
        (["summary", "--columns", "two"], ["--columns two is not allowed; it must be a whole number from 1 to 2"]),
    ],
    ids=str,
)
def test_usage_errors(fails, argv, expected):
    code, err = fails(*argv)
    assert code == 2
    for part in expected:
        assert part in err


def test_an_argument_with_a_line_break(fails):
    assert fails("train", "--fo\no=1")[0] == 2


# Configuration


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--batch", "0"], ["--batch 0 is not allowed", "a whole number of at least 1"]),
        (["--batch", "1.5"], ["--batch 1.5 is not allowed"]),
        (["--lr", "-1"], ["--lr -1 is not allowed", "a number above 0"]),
        (["--lr=-1e-3"], ["--lr -1e-3 is not allowed", "a number above 0"]),
        (["--lr", "0"], ["--lr 0 is not allowed"]),
        (["--lr", "nan"], ["--lr nan is not allowed", "a number above 0"]),
        (["--lr", "inf"], ["--lr inf is not allowed"]),
        (["--lr", ""], ["--lr '' is not allowed"]),
        (["--momentum", "1"], ["--momentum 1 is not allowed"]),
        (["--weight-decay", "nan"], ["--weight-decay nan is not allowed"]),
        (["--seed", "-1"], ["--seed -1 is not allowed"]),
        (["--epochs", "0"], ["--epochs 0 is not allowed"]),
        (["--max-steps", "0"], ["--max-steps 0 is not allowed"]),
        (["--columns", "3"], ["--columns 3 is not allowed", "from 1 to 2"]),
        (["--schedule", "Fixed"], ["--schedule Fixed is not allowed", "plateau, fixed"]),
        (["--drop-epochs", "2,1"], ["--drop-epochs 2,1 is not allowed"]),
        (["--net", "ppaer"], ["--net ppaer is not allowed", "digits, paper, half, cifar, fashion"]),
        (["--net", "paper", "--init", "xavier"], ["--init xavier is not allowed", "code2012, paper"]),
        (["--data", ""], ["--data '' is not allowed"]),
        (["--run-dir", ""], ["--run-dir '' is not allowed"]),
        (["--config", "none.toml"], ["none.toml", "No such file", "name a TOML file"]),
        (["--config", "."], ["Is a directory", "name a TOML file"]),
    ],
    ids=" ".join,
)
def test_a_setting_that_is_not_allowed(fails, argv, expected):
    code, err = fails("train", *argv)
    assert code == 2
    for part in expected:
        assert part in err


@pytest.mark.parametrize(
    ("data", "code", "expected"),
    [([], 2, "net paper has no data of its own"), (["--data", "none"], 3, "none does not")],
)
def test_data_is_looked_for_before_the_long_work(fails, monkeypatch, data, code, expected):
    monkeypatch.setattr("refnet.training.session.begin", raising(AssertionError("too early")))
    found, err = fails("train", "--net", "paper", *data)
    assert found == code
    assert expected in err


def test_a_negative_number_with_an_exponent(fails):
    code, err = fails("train", "--lr", "-1e-3")
    assert code == 2
    assert "--lr -1e-3 is not allowed; it must be a number above 0" in err


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("bacth = 3", "config.toml: bacth is not a setting; did you mean batch?"),
        ("lr = 'fast'", 'config.toml: lr = "fast" is not allowed; it must be a number above 0'),
        ("lr = nan", "config.toml: lr = nan is not allowed; it must be a number above 0"),
        ("[train]\nlr = 1", "config.toml: train is a table, not a key; write the keys at the top of the file"),
        ("lr = ", "config.toml: not TOML: Invalid value (at line 1, column 6"),
    ],
)
def test_a_mistake_in_the_file(fails, toml, expected):
    Path("config.toml").write_text(toml)
    code, err = fails("train", "--config", "config.toml")
    assert code == 2
    assert expected in err


def test_a_mistake_in_the_environment(fails, monkeypatch):
    monkeypatch.setenv("REFNET_LRR", "1")
    code, err = fails("train")
    assert code == 2
    assert "REFNET_LRR is not a setting; did you mean REFNET_LR?" in err


# For each command with a key of a training run: how it is called, and a variable with a value that is not allowed.
WITH_VARIABLES = [
    (name, setting.name)
    for name, command in COMMANDS.items()
    for setting in command.settings
    if setting.variable and not setting.by_net | (name == "train")
] + [
    ("eval", "threads"),
    ("predict", "backend"),
    ("similar", "read_threads"),
    ("tune", "precision"),
    ("plot", "backend"),
]
REQUIRED = {
    "eval": ["--checkpoint", "none"],
    "predict": ["--checkpoint", "none", "image.png"],
    "features": ["--checkpoint", "none"],
    "similar": ["--checkpoint", "none", "image.png"],
    "plot": ["kernels", "none"],
}


@pytest.mark.parametrize(("command", "name"), WITH_VARIABLES)
def test_a_variable_is_read_by_every_command_that_has_the_flag(fails, monkeypatch, command, name):
    monkeypatch.setenv(f"REFNET_{name.upper()}", "")
    code, err = fails(command, *REQUIRED.get(command, []))
    assert code == 2
    assert err.startswith(f"refnet: REFNET_{name.upper()}='' is not allowed; it must be ")


def test_a_flag_goes_before_the_variable_in_every_command(refnet_, monkeypatch):
    monkeypatch.setenv("REFNET_BATCH", "7")
    assert strict_json(refnet_("summary", "digits", "--json")[1])["batch"] == 7
    assert strict_json(refnet_("summary", "digits", "--json", "--batch", "9")[1])["batch"] == 9


@pytest.mark.parametrize("command", [["runs"], ["backends"], ["doctor"], ["summary"], ["reproduce", "--list"]], ids=str)
def test_a_variable_that_is_no_setting_is_refused_by_every_command(fails, monkeypatch, command):
    monkeypatch.setenv("REFNET_EPOCS", "3")
    assert fails(*command) == (2, "refnet: REFNET_EPOCS is not a setting; did you mean REFNET_EPOCHS?\n")


def test_a_variable_of_other_commands_is_nobodys_business(refnet_, monkeypatch):
    monkeypatch.setenv("REFNET_LR", "not a number")
    assert refnet_("runs")[0] == 0


def test_columns_are_those_of_the_net_in_every_command(refnet_):
    assert strict_json(refnet_("summary", "half", "--json")[1])["columns"] == 1
    assert strict_json(refnet_("summary", "digits", "--json")[1])["columns"] == 2
    assert strict_json(refnet_("summary", "digits", "--json", "--columns", "1")[1])["columns"] == 1


def test_all_mistakes_of_any_command_are_told_at_once(fails, monkeypatch):
    monkeypatch.setenv("REFNET_THREADS", "0")
    code, err = fails("predict", "--checkpoint", "x", "--crops", "nine", "--devises", "cpu", "a.png", lines=3)
    assert code == 2
    assert [line.split()[1] for line in err.splitlines()] == ["--devises", "REFNET_THREADS=0", "--crops"]


def test_all_mistakes_are_told_at_once(fails, monkeypatch):
    monkeypatch.setenv("REFNET_SEED", "x")
    Path("config.toml").write_text("bacth = 3")
    code, err = fails("train", "--json", "--config", "config.toml", "--lr", "nan", lines=3)
    assert code == 2
    assert [line.split()[1] for line in err.splitlines()] == ["config.toml:", "REFNET_SEED=x", "--lr"]


# Backends


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--backend", "nunpy"], ["backend nunpy is not known", "numpy", "did you mean numpy?"]),
        (["--backend", "cudnn"], ["backend cudnn is not known", "numpy", "install the package that provides it"]),
        (
            ["--backend", "numpy", "--devices", "cuda:0"],
            ["backend numpy runs only on the CPU, not on cuda:0", "leave --devices out"],
        ),
        (["--devices", "cpu,cuda:1"], ["backend numba runs only on the CPU, not on cuda:1", "leave --devices out"]),
    ],
    ids=" ".join,
)
def test_a_backend_that_cannot_be_had(fails, argv, expected):
    code, err = fails("train", *argv)
    assert code == 6
    for part in expected:
        assert part in err


# The run's directory


def test_a_run_directory_that_is_in_use(fails):
    Path("old").mkdir()
    Path("old/config.toml").write_text("lr = 1")
    code, err = fails("train", "--run-dir", "old")
    assert (code, err) == (
        2,
        "refnet: --run-dir old is not empty; choose a new directory, so that no run is overwritten\n",
    )


@pytest.mark.parametrize("name", ["file", "file/deeper", "/dev/null/run", "/proc/self/run", "x" * 300])
def test_a_run_directory_that_cannot_be_made(fails, name):
    Path("file").touch()
    code, err = fails("train", "--run-dir", name)
    assert code == 2
    assert f"--run-dir {name} " in err
    assert "choose another directory" in err


def test_a_file_called_runs(fails):
    Path("runs").touch()
    code, err = fails("train")
    assert code == 2
    assert "runs is not a directory; choose another directory" in err


# What nobody asked for


def test_out_of_memory(refnet_, monkeypatch):
    monkeypatch.setattr("refnet.training.step.TrainingStep.take", raising(MemoryError("Unable to allocate 3 TiB")))
    code, _, err = refnet_("train", "--json", "--batch", "99999999")
    assert code == 2
    assert err.splitlines()[-1] == "refnet: out of memory (Unable to allocate 3 TiB); a smaller --batch needs less"


def test_an_interrupt_keeps_the_metrics(refnet_, monkeypatch):
    """Python's own, as it comes where no handler of a run can be set."""
    log = Metrics.log

    def log_and_interrupt(self, kind, **figures):
        log(self, kind, **figures)
        if figures["step"] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Metrics, "log", log_and_interrupt)
    code, out, err = refnet_("train", "--json", "--run-dir", "a run")
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "refnet: interrupted; resume with: refnet train --resume 'a run'"
    assert [strict_json(line)["step"] for line in Path("a run/metrics.jsonl").read_text().splitlines()] == [1, 2, 3]
    assert not Path("a run/result.json").exists()


def test_an_interrupt_while_starting(refnet_, monkeypatch):
    monkeypatch.setattr("refnet.cli.main.import_module", raising(KeyboardInterrupt()))
    try:
        assert refnet_("train") == (130, "", "refnet: interrupted\n")
    except KeyboardInterrupt:  # it would end pytest
        pytest.fail("the interrupt came through")


def test_a_disk_that_fills_up(refnet_, monkeypatch):
    monkeypatch.setattr("refnet.runs.metrics.os.write", raising(OSError(28, "No space left on device")))
    code, _, err = refnet_("train", "--json", "--run-dir", "run", "--max-steps", "2")
    assert code == 4
    assert "No space left on device" in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("refnet: ")


def test_a_terminal_without_unicode():
    argv = [sys.executable, "-m", "refnet", "train", "--max-steps", "1", "--run-dir", "ünï"]
    ran = subprocess.run(argv, env=environment(PYTHONIOENCODING="ascii"), capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr
    assert ran.returncode == 0


def test_an_error_of_two_lines_is_two_lines(refnet_, monkeypatch):
    monkeypatch.setattr("refnet.cli.backends.run", raising(DataError("one\ntwo")))
    assert refnet_("backends") == (3, "", "refnet: one\nrefnet: two\n")


# Pipes


@pytest.mark.parametrize(
    "argv",
    [
        ["summary"],
        ["summary", "--json"],
        ["train", "--max-steps", "1"],
        ["train", "--max-steps", "1", "--json"],
        ["backends"],
        ["--help"],
    ],
    ids=" ".join,
)
def test_a_reader_that_has_gone(argv):
    reading, writing = os.pipe()
    os.close(reading)
    run = process(*argv, stdout=writing)
    os.close(writing)
    _, err = run.communicate(timeout=60)
    assert "Traceback" not in err
    assert "Exception" not in err
    assert run.returncode != 120  # Python's own for output that could not be flushed


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("a sentence\nand another"), "output cannot be used: a sentence"),
        (OSError(5, "Input/output error", "a.json"), "a.json cannot be used: Input/output error"),
        (
            FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"),
            "No usable temporary directory found in ['/tmp']; set TMPDIR to a folder that can be written to",
        ),
    ],
    ids=["a text alone", "with a file", "no temporary folder"],
)
def test_errors_of_the_system_in_one_line(monkeypatch, capsys, error, message):
    def run(_):
        raise error

    monkeypatch.setattr("refnet.cli.backends.run", run)
    assert main(["backends"]) == 2
    assert capsys.readouterr().err == f"refnet: {message}\n"


@pytest.mark.parametrize("argv", [["backends"], ["--help"], ["train", "--max-steps", "1"]], ids=" ".join)
def test_a_device_that_is_full(argv):
    with Path("/dev/full").open("w") as full:
        run = process(*argv, stdout=full)
    _, err = run.communicate(timeout=60)
    assert err == "refnet: output cannot be used: No space left on device\n"
    assert run.returncode == 2


def test_a_reader_that_goes_after_one_line():
    run = process("summary")
    assert "paper" in run.stdout.readline()
    run.stdout.close()
    assert run.stderr.read() == ""
    run.stderr.close()
    run.wait(timeout=60)


def test_the_choices_of_flags_are_those_that_the_commands_know():
    kinds, crops, seeds = (
        COMMANDS[c].by_name[n].allowed for c, n in [("plot", "kind"), ("eval", "crops"), ("reproduce", "seeds")]
    )
    assert tuple(kinds.choices()) == plot.KINDS
    assert tuple(crops.choices()) == (*protocol.PROTOCOLS, "both")
    assert seeds.holds(verdict.MAX_PAIRS)
    assert not seeds.holds(verdict.MAX_PAIRS + 1)
