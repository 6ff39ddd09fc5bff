"""Load a backend, compare it with the interface, and two that reject wrong calls: CheckedResults and loopback."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import numpy as np
import pytest

from refnet import nets
from refnet.backend import loading as registry
from refnet.backend.capabilities import (
    Examinable,
    Exchange,
    Memory,
    Precision,
    Recording,
    Threads,
    Tuning,
    exchanged_bytes,
    precision_of,
)
from refnet.backend.interface import METHODS, nbytes
from refnet.backend.loading import available, installed, load, verify
from refnet.backend.reference import NumpyBackend
from refnet.backend.wrapped import CheckedArguments, CheckedResults, Tapped, Wrapped, unwrapped
from refnet.errors import ArgumentError, BackendUnavailableError, ConfigError, NumericError, ShapeError
from refnet.ops import OPS, chapter, conv2d, linear, relu, sgd
from refnet.terminal.spelling import setting, with_flags
from refnet.testing.loopback import LoopbackBackend
from refnet.training.step import StepSettings, TrainingStep


def register(monkeypatch, **factories):
    """Register factories, or what their import raises, beside the backends that are installed."""

    def load_or_raise(factory):
        if isinstance(factory, Exception):
            raise factory
        return factory

    points = {
        name: SimpleNamespace(load=lambda f=factory: load_or_raise(f), dist=None) for name, factory in factories.items()
    }
    installed = registry._entry_points()
    monkeypatch.setattr(registry, "_entry_points", lambda: {**installed, **points})


def op(rules, **changes):
    """Copy a chapter's interface with other functions in it; None leaves one out."""
    functions = {name: getattr(rules, name) for name in rules.INTERFACE} | changes
    return SimpleNamespace(**{name: function for name, function in functions.items() if function})


class Differs(NumpyBackend):
    """A backend that differs from the interface in every way there is."""

    relu = None
    move = None
    tanh = SimpleNamespace()

    def renamed(image, w, b, *, stride, pad, ceil=False): ...  # noqa: N805
    def other_default(dy, x, w, *, stride, pad, ceil=True, need_dx=True): ...  # noqa: N805
    def positional(w, v, g, lr, momentum, weight_decay): ...  # noqa: N805

    conv2d = op(conv2d, forward=renamed, backward=other_default)
    linear = op(linear, backward=None)
    sgd = op(sgd, step_=positional)


class TestLoad:
    @pytest.mark.parametrize("name", ["numpy", "loopback"])
    def test_known(self, name):
        backend = load(name, columns=2)
        assert (backend.name, backend.columns) == (name, 2)
        assert verify(backend) == []

    def test_unknown_names_the_nearest(self):
        with pytest.raises(
            BackendUnavailableError, match=r"backend nunpy is not known; there are .*did you mean numpy"
        ):
            load("nunpy")

    def test_unknown_and_like_nothing(self):
        with pytest.raises(BackendUnavailableError, match=r"numba, numpy.*; install the package") as caught:
            load("xyz")
        assert caught.value.exit_code == 6

    def test_one_for_tests_is_loaded_and_never_named(self):
        assert load("loopback").name == "loopback"
        assert "loopback" not in {**installed(), **available()}
        with pytest.raises(BackendUnavailableError) as caught:
            load("loopbac")
        assert "loopback" not in str(caught.value)

    def test_unavailable(self, monkeypatch):
        register(monkeypatch, broken=ImportError("No module named 'cupy'"))
        with pytest.raises(BackendUnavailableError, match="backend broken cannot run here: No module named 'cupy'"):
            load("broken")

    def test_a_real_entry_point_to_nothing(self, monkeypatch):
        point = EntryPoint("absent", "refnet_absent:Backend", registry.GROUP)
        monkeypatch.setattr(registry, "_entry_points", lambda: {"absent": point})
        with pytest.raises(BackendUnavailableError, match="refnet_absent"):
            load("absent")

    def test_devices_it_does_not_have(self):
        assert load("numpy", devices=["cpu"]).name == "numpy"
        with pytest.raises(BackendUnavailableError, match="not on cuda:0"):
            load("numpy", devices=["cuda:0"])

    def test_available_gives_reasons(self, monkeypatch):
        register(monkeypatch, broken=ImportError("no GPU"), differs=Differs)
        reasons = available()
        assert reasons["numpy"] is None
        assert "no GPU" in reasons["broken"]
        assert "it has no op relu" in reasons["differs"]

    def test_reasons_are_spelled_for_their_reader(self, monkeypatch):
        register(monkeypatch, broken=BackendUnavailableError(f"leave {setting('devices')} out"))
        assert available()["broken"] == "leave devices out"
        assert available(with_flags)["broken"] == "leave --devices out"

    def test_installed_names_what_is_missing(self, monkeypatch):
        needs = ["numpy", "no-such-cupy>=3,<4", 'no-such-torch>=2 ; extra == "gpu"', "no_such.one; extra=='gpu'"]
        package = SimpleNamespace(name="refnet-gpu", requires=[*needs, 'numpy>=1; extra == "gpu"'])
        points = {name: SimpleNamespace(dist=package) for name in ("gpu", "other")}
        monkeypatch.setattr(registry, "_entry_points", lambda: points)
        missing = "backend gpu needs no-such-torch and no_such.one; pip install 'refnet-gpu[gpu]'"
        assert installed() == {"gpu": missing, "other": None}

    def test_listing_imports_none_of_them(self):
        listed = "from refnet.backend import installed; import sys; print(*installed()); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
        names, modules = done.stdout.splitlines()
        assert {"numba", "numpy", "triton"} <= set(names.split())
        assert {"numba", "torch", "triton", "refnet_numba", "refnet_triton"}.isdisjoint(modules.split())

    def test_one_that_differs_is_refused_with_every_difference(self, monkeypatch):
        register(monkeypatch, differs=Differs)
        with pytest.raises(BackendUnavailableError) as caught:
            load("differs")
        assert str(caught.value) == "backend differs differs from the reference: " + "; ".join(DIFFERENCES)


DIFFERENCES = [
    "it has no method move",
    "conv2d.forward takes (image, w, b, *, stride, pad, ceil=False), not (x, w, b, *, stride, pad, ceil=False)",
    (
        "conv2d.backward takes (dy, x, w, *, stride, pad, ceil=True, need_dx=True), "
        "not (dy, x, w, *, stride, pad, ceil=False, need_dx=True)"
    ),
    "it has no op relu",
    "it has no tanh.forward",
    "it has no tanh.backward",
    "it has no linear.backward",
    "sgd.step_ takes (w, v, g, lr, momentum, weight_decay), not (w, v, g, *, lr, momentum, weight_decay)",
]


class TestVerify:
    def test_lists_every_difference(self):
        assert verify(Differs()) == DIFFERENCES

    def test_of_nothing_at_all(self):
        assert verify(object()) == [f"it has no method {m}" for m in METHODS] + [f"it has no op {op}" for op in OPS]


def checked(op_name, function, result):
    """Make a checked backend in which one function gives what it is told to give."""
    backend = NumpyBackend()
    setattr(backend, op_name, op(chapter(op_name), **{function: lambda *_args, **_kwargs: result}))
    return CheckedResults(backend)


class TestChecked:
    def test_passes_what_is_right(self):
        backend = load("loopback", results=True)
        x = backend.asarray(np.array([[-1, 2]], np.float32))
        np.testing.assert_array_equal(backend.to_numpy(backend.relu.forward(x)), [[0, 2]])
        assert backend.name == "loopback"
        assert verify(backend) == []

    def test_wrong_shapes_in(self):
        with pytest.raises(ShapeError, match="dy must have the shape of y"):
            CheckedResults(NumpyBackend()).relu.backward(np.zeros(3), np.zeros(4))

    def test_wrong_shapes_in_by_keyword(self):
        with pytest.raises(ShapeError, match="dy must have the shape of y"):
            CheckedResults(NumpyBackend()).relu.backward(y=np.zeros(3), dy=np.zeros(4))

    def test_wrong_shapes_out(self):
        with pytest.raises(
            ShapeError, match=r"relu.forward of backend numpy returned shapes \(\(3,\),\), not \(\(2,\),"
        ):
            checked("relu", "forward", np.zeros(3)).relu.forward(np.zeros(2))

    def test_too_few_results(self):
        x = np.zeros((1, 2, 3, 4))
        with pytest.raises(ShapeError, match=r"lrn.forward of backend numpy returned shapes"):
            checked("lrn", "forward", x).lrn.forward(x, n=3, k=2.0, alpha=1.0, beta=0.75)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_nan_made(self, bad):
        with pytest.raises(NumericError, match=r"relu.forward of backend numpy returned NaN or infinity"):
            checked("relu", "forward", np.array([0, bad])).relu.forward(np.zeros(2))

    def test_nan_passed_on(self):
        y = CheckedResults(NumpyBackend()).relu.forward(np.array([np.nan, 1]))
        np.testing.assert_array_equal(y, [np.nan, 1])

    def test_nan_made_in_place(self):
        w, v, g = np.zeros((3, 1), np.float32)
        g += np.float32(3e38)
        with (
            np.errstate(over="ignore"),
            pytest.raises(NumericError, match=r"sgd.step_ of backend numpy returned NaN or infinity"),
        ):
            CheckedResults(NumpyBackend()).sgd.step_(w, v, g, lr=10.0, momentum=0.9, weight_decay=0.0)

    def test_nan_made_in_one_of_a_list(self):
        w, v, g = ([np.zeros(2, np.float32), np.zeros(3, np.float32)] for _ in range(3))
        g[1] += np.float32(3e38)
        rates = {"momentum": 0.9, "weight_decays": [0, 0]}
        CheckedResults(NumpyBackend()).sgd.steps_(w, v, g, lr=0.1, **rates)
        with (
            np.errstate(over="ignore"),
            pytest.raises(NumericError, match=r"sgd.steps_ of backend numpy returned NaN or infinity"),
        ):
            CheckedResults(NumpyBackend()).sgd.steps_(w, v, g, lr=10.0, **rates)

    def test_dtypes_that_meet_in_a_list(self):
        w, v = ([np.zeros(2, np.float32)] for _ in range(2))
        with pytest.raises(ShapeError, match=r"sgd: w\[0\] is float32 and g\[0\] is float64; convert one of them"):
            CheckedResults(NumpyBackend()).sgd.steps_(w, v, [np.zeros(2)], lr=0.1, momentum=0.9, weight_decays=[0])

    def test_a_result_of_another_dtype(self):
        with pytest.raises(ShapeError, match=r"relu.forward of backend numpy mixes float32 and float64"):
            checked("relu", "forward", np.zeros(2)).relu.forward(np.zeros(2, np.float32))

    def test_dx_that_nobody_asked_for(self):
        backend = CheckedResults(NumpyBackend())
        dy, x, w = np.ones((1, 1, 2, 3)), np.ones((1, 1, 2, 3)), np.ones((1, 1, 1, 1))
        assert backend.conv2d.backward(dy, x, w, stride=1, pad=0, need_dx=False)[0] is None

    def test_bad_labels(self):
        backend = load("loopback", results=True)
        z, labels = backend.asarray(np.zeros((2, 3), np.float32)), backend.asarray(np.array([0, 3]))
        for function in (backend.softmax_xent.forward, backend.softmax_xent.backward):
            with pytest.raises(ArgumentError, match=r"labels\[1\] is 3, it must be at least 0 and below 3"):
                function(z, labels)


class TestWrapped:
    def test_every_call_of_an_op_goes_through_around_by_name(self):
        calls = []

        class Spy(Wrapped):
            def around(self, op, name, function, arguments):
                calls.append((op, name, dict(arguments)))
                return super().around(op, name, function, arguments)

        spy, dy, y = Spy(NumpyBackend(columns=2)), np.ones(2), np.array([1.0, -1.0])
        assert spy.relu.backward(dy, y=y).tolist() == [1, 0]
        assert calls == [("relu", "backward", {"dy": dy, "y": y})]
        assert (spy.name, spy.columns) == ("numpy", 2)
        assert verify(spy) == []

    def test_wrong_arguments_are_a_type_error_before_the_call(self):
        with pytest.raises(TypeError, match="missing a required argument: 'y'"):
            Wrapped(NumpyBackend()).relu.backward(np.ones(2))

    def test_wrappers_nest(self):
        inner = NumpyBackend()
        tapped = Tapped(CheckedArguments(inner))
        tapped.lrn.forward(np.ones((1, 2, 3, 4)), n=3, k=2.0, alpha=1.0, beta=0.75)
        (call,) = tapped.calls
        assert (call.op, call.function, len(call.results), call.arguments["n"]) == ("lrn", "forward", 2, 3)
        assert unwrapped(tapped) is unwrapped(inner) is inner


class Able(NumpyBackend):
    """A backend with every capability."""

    precision = "tf32"
    exchange_itemsize = 2
    memory = doctor = SimpleNamespace()
    threads = max_threads = 1
    set_threads = graphed = tune = send = staticmethod(lambda *_: None)


class TestCapabilities:
    @pytest.mark.parametrize("capability", [Precision, Exchange, Memory, Threads, Recording, Tuning, Examinable])
    def test_isinstance_detects_each_capability(self, capability):
        assert isinstance(Able(), capability)
        assert isinstance(unwrapped(CheckedResults(Tapped(Able()))), capability)
        assert not isinstance(NumpyBackend(), capability)

    def test_of_numba(self):
        backend = load("numba")
        assert isinstance(backend, Memory)
        assert isinstance(backend, Threads)
        assert isinstance(backend, Examinable)
        assert not isinstance(backend, Tuning)

    def test_what_crosses_is_counted_as_it_is_sent(self):
        a = np.ones(3, np.float32)
        assert exchanged_bytes(a, NumpyBackend()) == nbytes(a) == 12
        assert exchanged_bytes(a, CheckedArguments(Able())) == 6

    def test_a_step_is_recorded_only_by_a_backend_that_can(self):
        plan, settings = nets.get("digits").plan(1), StepSettings(graph=True)
        with pytest.raises(ConfigError, match="backend numpy records no steps; leave graph=True out"):
            TrainingStep(plan, NumpyBackend(), {}, {}, settings)

    def test_products_are_exact_unless_the_backend_says_otherwise(self):
        assert precision_of(NumpyBackend()) == "ieee"
        assert precision_of(CheckedArguments(Able())) == "tf32"


USES = {
    "np.asarray(a)": np.asarray,
    "np.sum(a)": np.sum,
    "bool(a)": bool,
    "float(a)": float,
    "len(a)": len,
    "iter(a)": iter,
    "hash(a)": hash,
    "a + 1": lambda a: a + 1,
    "2 * a": lambda a: 2 * a,
    "array * a": lambda a: np.ones(2) * a,
    "array += a": lambda a: np.ones(2).__iadd__(a),
    "a[0]": lambda a: a[0],
    "a == a": lambda a: a == a,  # noqa: PLR0124
    "a < a": lambda a: a < a,  # noqa: PLR0124
    "-a": lambda a: -a,
    "a @ a": lambda a: a @ a,
    "a.T": lambda a: a.T,
}


class TestLoopback:
    def test_refuses_numpy_arrays(self):
        backend = LoopbackBackend()
        a, raw = backend.asarray(np.ones(2)), np.ones(2)
        for mixed in (
            lambda: backend.relu.backward(a, raw),
            lambda: backend.add(a, raw),
            lambda: backend.to_numpy(raw),
        ):
            with pytest.raises(TypeError, match=r"loopback|different columns"):
                mixed()
        with pytest.raises(TypeError):
            backend.relu.forward(raw)

    @pytest.mark.parametrize("use", USES, ids=USES)
    def test_its_arrays_can_only_be_asked_for_shape_and_dtype(self, use):
        a = LoopbackBackend().asarray(np.ones(2, np.float32))
        assert (a.shape, a.dtype, nbytes(a)) == ((2,), np.float32, 8)
        with pytest.raises((TypeError, AttributeError)):
            USES[use](a)

    def test_refuses_to_mix_columns(self):
        backend = LoopbackBackend(columns=2)
        a, b = (backend.asarray(np.ones((1, 2)), column) for column in (0, 1))
        for mixed in (lambda: backend.relu.backward(a, b), lambda: backend.add(a, b), lambda: backend.concat([a, b])):
            with pytest.raises(TypeError, match=r"different columns: \[0, 1\]"):
                mixed()
        assert backend.to_numpy(backend.add(a, backend.move(b, 0))).tolist() == [[2, 2]]

    def test_shares_nothing_with_the_caller(self):
        backend = LoopbackBackend(columns=2)
        host = np.ones(2)
        a = backend.asarray(host)
        there, moved = backend.to_numpy(a), backend.move(a, 1)
        host += 1
        there += 1
        assert backend.to_numpy(a).tolist() == backend.to_numpy(moved).tolist() == [1, 1]

    def test_relu_is_still_the_chapters(self):
        assert LoopbackBackend().relu.forward.__wrapped__ is relu.forward
