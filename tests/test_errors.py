"""Messages in two spellings, and suggestions."""

import ast
import pickle
import re
from pathlib import Path

import pytest

from refnet import nets
from refnet.backend.loading import load
from refnet.cli.main import main
from refnet.config import configure
from refnet.errors import CheckpointError, ConfigError, DeviceMemoryError, NumericError, RefnetError
from refnet.runs.directory import RunDirectory
from refnet.terminal.spelling import setting, with_arguments, with_flags
from refnet.terminal.suggestion import did_you_mean, nearest


@pytest.mark.parametrize(
    ("written", "argument", "flag"),
    [
        (setting("batch", 16), "batch=16", "--batch 16"),
        (setting("lr_factor"), "lr_factor", "--lr-factor"),
        (setting("devices", ("cuda:0", "cpu")), "devices=('cuda:0', 'cpu')", "--devices cuda:0,cpu"),
        (setting("graph", True), "graph=True", "--graph"),
        (setting("augment", False), "augment=False", "--no-augment"),
        (setting("data", "my photos"), "data='my photos'", "--data 'my photos'"),
        (setting("run_dir", Path("a b")), "run_dir='a b'", "--run-dir 'a b'"),
        (setting("data", "a\nb\x1d\x1e\x1f"), r"data='a\nb\x1d\x1e\x1f'", r"--data 'a\nb\x1d\x1e\x1f'"),
        (setting("init", None), "init=None", "--init None"),
    ],
)
def test_a_setting_has_two_spellings(written, argument, flag):
    message = f"{written} is wrong; try {written}, not 50 % of it"
    assert with_arguments(message) == f"{argument} is wrong; try {argument}, not 50 % of it"
    assert with_flags(message) == f"{flag} is wrong; try {flag}, not 50 % of it"


def test_an_error_names_arguments_and_keeps_both_spellings_when_it_is_wrapped():
    error = ConfigError(f"{setting('batch', 3)} does not fit")
    assert str(error) == f"{error}" == "batch=3 does not fit"
    wrapped = CheckpointError(f"in a.safetensors: {error.message}")
    assert str(wrapped) == "in a.safetensors: batch=3 does not fit"
    assert with_flags(wrapped.message) == "in a.safetensors: --batch 3 does not fit"


def test_the_same_mistake_names_an_argument_in_python_and_a_flag_in_the_command(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("used").mkdir()
    Path("used/file").touch()
    with pytest.raises(ConfigError) as caught:
        RunDirectory.check(configure(run_dir="used"))
    assert str(caught.value).startswith("run_dir='used' is not empty; ")
    assert main(["train", "--run-dir", "used"]) == 2
    assert capfd.readouterr().err.startswith("refnet: --run-dir used is not empty; ")


def test_a_backend_names_the_option_that_it_does_not_have_by_argument():
    with pytest.raises(ConfigError) as caught:
        load("numpy", precision="tf32")
    assert str(caught.value) == "backend numpy has no precision='tf32'; leave it out, or name a backend that has it"
    assert "has no --precision tf32; leave it out, or name a --backend that" in with_flags(caught.value.message)


FLAG = re.compile(r"(?<![\w-])--[a-z]")
# Command lines to type, stylesheets, and programs of their own.
NOT_MESSAGES = re.compile(
    r"refnet \w+ (?:\w+ )?--|--query-gpu|--format=csv|\(--no-(?:augment|flip): |\(at --drop-epochs|style|var\(--|--no-$"
)


def test_no_message_outside_the_command_line_names_a_flag():
    """A flag in a message would be wrong for a Python caller; `setting` has both spellings."""
    root = Path(nets.__file__).parents[1]
    sources = [path for path in root.rglob("*.py") if not {"cli", "testing"} & set(path.parts)]
    assert len(sources) > 80
    named = [
        f"{path.name}: {node.value}"
        for path in sources
        for node in strings(ast.parse(path.read_text()))
        if FLAG.search(node.value) and not NOT_MESSAGES.search(node.value)
    ]
    assert named == []


def strings(tree):
    """Give the texts of a module that are no docstrings."""
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(node.body[0].value) for node in documented if ast.get_docstring(node, clean=False) is not None}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def test_a_number_that_is_not_finite_has_a_remedy_in_both_spellings():
    error = NumericError(f"a lower {setting('lr')} than 0.1")
    assert (str(error), with_flags(error.message)) == ("a lower lr than 0.1", "a lower --lr than 0.1")


@pytest.mark.parametrize(
    ("word", "choices", "expected"),
    [
        ("ppaer", ["digits", "paper"], "paper"),
        ("--batchsize", ["--batch", "--json"], "--batch"),
        ("learning_rate", ["lr", "lr_factor"], "lr"),
        ("--learning-rate", ["--lr", "--lr-factor"], "--lr"),
        ("LR-Factor", ["lr", "lr_factor"], "lr_factor"),
        ("wd", ["lr", "weight_decay"], "weight_decay"),
        ("wd", ["lr"], None),
        ("xyzzy", ["digits", "paper"], None),
        ("", ["digits"], None),
    ],
)
def test_the_nearest_choice(word, choices, expected):
    assert nearest(word, choices) == expected
    assert did_you_mean(word, choices) == (f"; did you mean {expected}?" if expected else "")
    assert did_you_mean(word, choices, "see x") == (f"; did you mean {expected}?" if expected else "; see x")


def every_error(base=RefnetError):
    for error in base.__subclasses__():
        yield error
        yield from every_error(error)


@pytest.mark.parametrize("error", sorted(every_error(), key=str), ids=lambda error: error.__name__)
def test_an_error_can_be_sent_from_a_worker_process(error):
    """A pool whose worker raises an error that cannot be unpickled waits for ever."""
    if issubclass(error, DeviceMemoryError):
        raised = error("cuda:0", 10**9, "a remedy", 10**8)
    else:
        raised = error(f"a lower {setting('lr')} than 0.1")
    sent = pickle.loads(pickle.dumps(raised))  # noqa: S301
    assert (type(sent), sent.message, vars(sent)) == (error, raised.message, vars(raised))
