"""The command ``refnet compare``: it finds a backend that is wrong anywhere, and its exit code shows it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from refnet.backend import loading as registry
from refnet.backend.reference import NumpyBackend
from refnet.cli import compare as command
from refnet.cli.main import main
from refnet.ops import chapter, conv2d_relu, dropout, lrn, sgd, softmax_xent
from refnet.testing import compare
from refnet.testing.cases import CASES, case_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def compared(capfd):
    """Run the command on few draws; give its exit code and what it wrote to the two streams."""

    def run(*argv):
        code = main(["compare", "--examples", "1", "--batch", "2", *argv])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def mutated(monkeypatch):
    """Register the reference as backend "mutant", with one function replaced."""

    def register(op, function, mutant):
        functions = {name: getattr(chapter(op), name) for name in chapter(op).INTERFACE} | {function: mutant}

        class Mutant(NumpyBackend):
            name = "mutant"

        setattr(Mutant, op, SimpleNamespace(**functions))
        installed = registry._entry_points()
        point = SimpleNamespace(load=lambda: Mutant)
        monkeypatch.setattr(registry, "_entry_points", lambda: {**installed, "mutant": point})

    return register


@pytest.fixture
def layers_alone(monkeypatch):
    monkeypatch.setattr(compare, "compare_ops", lambda *_: [])


def strict_json(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_backends_that_agree(compared):
    code, out, err = compared("--json")
    assert code == 0
    assert err == ""
    found = strict_json(out)
    assert found["agree"] is True
    assert {(row["name"], row["function"]) for row in found["rows"] if row["part"] == "op"} == {
        (case.op, case.function) for case in CASES
    }
    layers = [row for row in found["rows"] if row["part"] == "layer"]
    names = {row["name"].partition("@")[0] for row in layers}
    assert {"conv1", "norm1", "pool1", "conv3", "fc5", "drop5", "fc6", "loss", "whole network"} <= names
    functions = {row["function"] for row in layers}
    assert {"dropout.forward", "dropout.backward", "dropout.expected", "conv2d_relu.backward", "sgd.step_"} <= functions
    for row in found["rows"]:
        assert set(row["worst"]) == {"numpy", "numba"}
        assert all(0 <= worst <= 1 for worst in row["worst"].values())
        assert row["breaches"] == {}
    assert any(row["worst"]["numba"] > 0.01 for row in layers)


def test_as_text(compared):
    code, out, _ = compared("--backends", "numpy")
    assert code == 0
    assert "layers of digits, batch 2, 2 columns: largest error over its bound" in out
    assert out.endswith("All backends agree with the NumPy reference.\n")


@pytest.fixture
def with_precisions(monkeypatch):
    """Register the reference as backend "rounding", which rounds the inputs of convolutions as its precision asks."""

    class Rounding(NumpyBackend):
        name = "rounding"

        def __init__(self, columns=1, devices=(), threads=None, *, precision=None):
            super().__init__(columns, devices, threads)
            self.precision = precision or "ieee"
            if self.precision != "ieee":
                functions = {name: getattr(conv2d_relu, name) for name in conv2d_relu.INTERFACE}
                self.conv2d_relu = SimpleNamespace(**{**functions, "forward": self.forward})

        def forward(self, x, w, b, *, stride, pad, ceil=False):
            error = np.float32({"tf32": 2.0**-12, "tf32x3": 2.0**-9}[self.precision])  # the second is wrong
            return conv2d_relu.forward(x * (1 + error), w, b, stride=stride, pad=pad, ceil=ceil)

    installed = registry._entry_points()
    point = SimpleNamespace(load=lambda: Rounding)
    monkeypatch.setattr(registry, "_entry_points", lambda: {**installed, "rounding": point})


@pytest.mark.usefixtures("with_precisions", "layers_alone")
def test_each_precision_is_compared_within_its_own_bound_in_one_and_two_columns(compared):
    options = ["--backends", "numpy,rounding", "--precision", "ieee,tf32,tf32x3", "--columns", "1,2", "--json"]
    code, out, _ = compared(*options)
    assert code == 1
    rows = strict_json(out)["rows"]
    assert {row["columns"] for row in rows} == {1, 2}
    for row in rows:
        assert set(row["worst"]) == {"numpy", "rounding ieee", "rounding tf32", "rounding tf32x3"}
        # The whole network is the third precision's breach, too.
        assert set(row["breaches"]) <= {"rounding tf32x3"}
    of_conv1 = [row for row in rows if row["name"] == "conv1@0" and row["function"] == "conv2d_relu.forward"]
    assert [set(row["breaches"]) for row in of_conv1] == [{"rounding tf32x3"}] * 2
    assert all(0.1 < row["worst"]["rounding tf32"] < 0.5 for row in of_conv1)
    code, out, _ = compared(*options[:-1])
    assert code == 1
    assert "layers of digits, batch 2, 1 column: largest error over its bound" in out
    assert "layers of digits, batch 2, 2 columns: largest error over its bound" in out
    assert "breach: rounding tf32x3: " in out


def scaled(a, by):
    return a * np.float32(by)


def lrn_backward(dy, x, y, scale, *, n, k, alpha, beta):
    return lrn.backward(dy, x, y, scale, n=n, k=k, alpha=alpha / 2, beta=beta)


def conv_backward(dy, y, x, w, *, stride, pad, ceil=False, need_dx=True):
    dx, dw, db = conv2d_relu.backward(dy, y, x, w, stride=stride, pad=pad, ceil=ceil, need_dx=need_dx)
    return dx, scaled(dw, 1.001), db


def dropout_expected(x, *, drop):
    return dropout.expected(x, drop=drop) * np.float32(1 + 2**-22)


def sgd_step_(w, v, g, *, lr, momentum, weight_decay):
    sgd.step_(w, v, g, lr=lr, momentum=momentum, weight_decay=0 * weight_decay)


def loss(z, labels):
    mean, p = softmax_xent.forward(z, labels)
    return scaled(mean, 1.01), p


def nan_somewhere(x, w, b, *, stride, pad, ceil=False):
    y = conv2d_relu.forward(x, w, b, stride=stride, pad=pad, ceil=ceil)
    y[0, 0, 0, 0] = np.nan
    return y


def exchanged(dy, y, x, w, *, stride, pad, ceil=False, need_dx=True):
    return conv2d_relu.backward(dy, y, x, w, stride=stride, pad=pad, ceil=ceil, need_dx=need_dx)[::-1]


MUTANTS = {
    "lrn.backward": lrn_backward,
    "conv2d_relu.backward": conv_backward,
    "dropout.expected": dropout_expected,
    "sgd.step_": sgd_step_,
    "softmax_xent.forward": loss,
    "conv2d_relu.forward": nan_somewhere,
}


@pytest.mark.usefixtures("layers_alone")
@pytest.mark.parametrize("function", MUTANTS)
def test_a_backend_that_is_wrong_in_a_layer(compared, mutated, function):
    mutated(*function.split("."), MUTANTS[function])
    code, out, _ = compared("--backends", "numpy,mutant", "--json")
    assert code == 1
    found = strict_json(out)
    assert found["agree"] is False
    wrong = [row for row in found["rows"] if row["breaches"]]
    assert {row["function"] for row in wrong} - {"scores"} == {function}
    for row in wrong:
        assert list(row["breaches"]) == ["mutant"]
        assert row["worst"]["mutant"] is None or row["worst"]["mutant"] > 1


@pytest.mark.usefixtures("layers_alone")
def test_a_shape_that_is_wrong(compared, mutated):
    """The first backend carries the activations, so that even this one can be compared to the end."""
    mutated("conv2d_relu", "backward", exchanged)
    code, out, _ = compared("--backends", "numpy,mutant", "--json")
    assert code == 1
    assert "the shape is" in out


@pytest.mark.parametrize("case", [case for case in CASES if case.op in {"relu", "lrn", "tanh"}], ids=str)
def test_every_mutant_of_a_case_is_a_breach(case):
    """The same arithmetic by which the conformance suite rejects them, on the draws of this command."""
    for name, mutant in case.mutants.items():
        backend = NumpyBackend()
        backend.name = "mutant"
        functions = {function: getattr(case.chapter, function) for function in case.chapter.INTERFACE}
        setattr(backend, case.op, SimpleNamespace(**{**functions, case.function: mutant}))
        problems = [compare.agreement.pose(case, call) for call in compare._calls(case, 80)]
        row = compare._row("op", case.op, case.function, problems, {"numpy": NumpyBackend(), "mutant": backend})
        assert row.worst["mutant"] > 1, name
        assert list(row.breaches) == ["mutant"], name


def test_a_wrong_op_is_told_in_words(compared, mutated, monkeypatch):
    monkeypatch.setattr(compare, "CASES", [case_of("lrn", "backward")])
    monkeypatch.setattr(compare, "compare_layers", lambda *_: [])
    mutated("lrn", "backward", lrn_backward)
    code, out, _ = compared("--backends", "mutant")
    assert code == 1
    (line,) = (line for line in out.splitlines() if line.startswith("breach: "))
    assert "T1: the error is larger than its bound" in line
    assert "dx of lrn.backward on backend mutant" in line
    assert "BREACH" in out
    assert out.endswith("1 breaches\n")


def test_draws_are_the_same_every_time_and_of_every_kind():
    case = case_of("conv2d", "forward")
    first = compare._calls(case, 5)
    assert len(first) == 2 * len(case.kinds) + 2  # the large ones too
    assert {call.kind for call in first} == set(case.kinds)
    assert first == compare._calls(case, 5)


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--backends", "numpy,nunpy"], 6, "did you mean numpy?"),
        (["--backends", ""], 2, "--backends '' is not allowed"),
        (["--net", "digit"], 2, "did you mean digits?"),
        (["--batch", "0"], 2, "--batch 0 is not allowed"),
        (["--examples", "0"], 2, "--examples 0 is not allowed"),
        (["--columns", "0"], 2, "--columns 0 is not allowed"),
        (["--batch", "x"], 2, "--batch x is not allowed"),
    ],
    ids=str,
)
def test_a_mistake_in_one_line(compared, argv, code, message):
    found, out, err = compared(*argv)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_hypothesis_is_not_installed(compared, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    code, _, err = compared()
    assert code == 2
    assert err == (
        "refnet: refnet compare needs the package hypothesis, which is not installed; pip install 'refnet[testing]'\n"
    )


def test_an_interrupt(compared, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "compare_ops", interrupt)
    assert compared() == (130, "", "refnet: interrupted\n")
