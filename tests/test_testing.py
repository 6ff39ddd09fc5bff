"""Tests of the test tools: comparisons reject wrong results, mutants are rejected, draws keep their limits."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from importlib import import_module
from itertools import permutations, product
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.backend.reference import NumpyBackend
from refnet.backend.wrapped import arrays_in
from refnet.ops import OPS, relu
from refnet.testing import agreement, bounds, strategies, suite
from refnet.testing.bounds import EPS, TINY, U
from refnet.testing.call import LAYOUTS, Call, Values, laid_out
from refnet.testing.cases import CASES, case_of
from refnet.testing.memory import Guards, poisoned
from refnet.testing.mutants import Mutated

each_case = pytest.mark.parametrize("case", CASES, ids=str)
ONE = np.ones(3, np.float32)


def ulps(count, a=ONE):
    """Move the middle element by units in the last place."""
    moved = a.copy()
    moved.view(np.int32)[1] += count
    return moved


def rejects(comparison, *args, match="element \\[1\\]", **kwargs):
    with pytest.raises(AssertionError, match=match) as caught:
        comparison(*args, where="HERE", **kwargs)
    assert "HERE" in str(caught.value)


# Bounds


@pytest.mark.parametrize("comparison", [bounds.bit_equal, bounds.equal])
def test_exact_comparisons(comparison):
    comparison(ONE, ONE.copy(), "")
    rejects(comparison, ulps(1), ONE)
    rejects(comparison, ONE, ONE.astype(np.float64), match="dtype is float32, it should be float64")
    rejects(comparison, ONE, ONE[:2], match=r"shape is \(3,\), it should be \(2,\)")
    rejects(comparison, np.array([0, np.nan]), np.array([0, 1.0]))
    rejects(comparison, np.array([0, 1.0]), np.array([0, np.nan]))
    rejects(comparison, np.array([0, np.inf]), np.array([0, -np.inf]))
    rejects(comparison, np.array([1, 2], np.uint8), np.array([1, 3], np.uint8))


def test_one_nan_is_as_good_as_another():
    quiet, other = np.array([0x7FC00000, 0xFFC12345], np.uint32).view(np.float32)
    bounds.bit_equal(np.array([quiet]), np.array([other]), "")


def test_signed_zeros_differ_in_bits_but_not_in_number():
    rejects(bounds.bit_equal, np.array([1, -0.0]), np.array([1, 0.0]))
    bounds.equal(np.array([1, -0.0]), np.array([1, 0.0]), "")


def test_within_up_to_the_bound_and_no_ulp_further():
    bounds.within(ulps(2), np.ones(3), np.full(3, 2 * EPS), "")
    rejects(bounds.within, ulps(3), np.ones(3), np.full(3, 2 * EPS), match="1.5 times the bound: element .1.")
    rejects(bounds.within, ulps(-5), np.ones(3), np.full(3, 2 * EPS))
    rejects(bounds.within, ONE[:2], np.ones(3), np.ones(3), match="shape")


def test_within_wants_nan_and_infinity_where_they_belong():
    special = np.array([np.nan, np.inf, -np.inf, 1])
    bounds.within(special, special.copy(), np.array([np.nan, np.inf, np.nan, 0]), "")
    for wrong, right in permutations([0.0, np.nan, np.inf, -np.inf], 2):
        rejects(bounds.within, np.array([0, wrong]), np.array([0, right]), np.ones(2), match="NaN or infinity .* .1.")


def test_within_reports_the_worst():
    rejects(bounds.within, np.array([2.0, 9, 3]), np.ones(3), np.ones(3), match="8 times .* 2 of 3 are wrong")


def test_data_bound_of_sums():
    """The bound grows with the root of the terms; half-precision products leave it, float32 ones do not."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 100, 400)).astype(np.float32)
    exact, bracket = (a.astype(np.float64) * b).sum(0), np.abs(a.astype(np.float64) * b).sum(0)
    allowed = bounds.data_bound(exact, bracket, 100)
    np.testing.assert_allclose(allowed, U * np.sqrt(200) * bracket + 2 * U * np.abs(exact))
    for order in (slice(None), slice(None, None, -1)):
        total = np.zeros(400, np.float32)
        for row in (a * b)[order]:
            total += row
        bounds.within_data_bound(total, exact, bracket, 100, "")
    half = (a.astype(np.float16).astype(np.float32) * b).sum(0)
    rejects(bounds.within_data_bound, half, exact, bracket, 100, match="T1")
    bounds.within_data_bound(half, exact, bracket, 100, "", precision="tf32")
    rejects(bounds.within_data_bound, half, exact, bracket, 100, match="T1", precision="tf32x3")
    np.testing.assert_allclose(bounds.data_bound(exact, bracket, 100, "tf32x3"), 4 * allowed)


@pytest.mark.parametrize(("truncated", "error"), [(False, 2.0**-11), (True, 2.0**-10)])
def test_data_bound_of_tf32(truncated, error):
    """A product of two factors, each wrong by tf32's largest error, keeps the bound; with larger errors it does not."""
    exact, bracket = np.ones(1), np.ones(1)
    within = partial(bounds.within_data_bound, y64=exact, bracket=bracket, terms=1, where="", precision="tf32")
    within(np.array([(1 - error) ** 2]), truncated=truncated)
    with pytest.raises(bounds.DisagreementError, match="T1"):
        within(np.array([(1 - 1.01 * error) ** 2]), truncated=truncated)


def test_the_bound_holds_for_short_sums():
    """NumPy's sums of 8 products in this call reach 1.03 times a bound that counts one rounding a term."""
    sizes = {"N": 257, "C": 2, "K": 3, "H": 6, "W": 9, "P": 3, "Q": 4, "R": 1, "S": 4}
    call = Call("conv2d_relu", "forward", sizes, {"stride": 2, "pad": 0, "ceil": True}, "normal", "contiguous", seed=2)
    agreement.reproduce("numpy", call)


def test_no_worse_than_numpy():
    exact = np.ones(3)
    bounds.no_worse_than_numpy(ulps(5), ulps(1), exact, "")
    rejects(bounds.no_worse_than_numpy, ulps(6), ulps(1), exact)
    rejects(bounds.no_worse_than_numpy, ulps(2), ONE, exact)
    rejects(bounds.no_worse_than_numpy, np.array([1, np.nan, 1], np.float32), ONE, exact)


def test_bounds_per_op():
    np.testing.assert_array_equal(bounds.relative_bound(np.array([-2.0, 3]), 15), [30 * EPS, 45 * EPS])
    z = np.array([[1.0, -4, -np.inf], [2, 2, np.nan]])
    np.testing.assert_array_equal(bounds.softmax_bound(z[:1]), [[15 * EPS]])
    w, v = bounds.sgd_bound(*np.array([[1.0], [2], [4]]), lr=0.5, momentum=0.25, weight_decay=0.5)
    np.testing.assert_allclose([w[0], v[0]], [(5 * (0.5 + 0.375 + 2) + 1) * U, 4 * (0.5 + 0.375 + 2) * U])
    assert np.finfo(np.float32).tiny == TINY


# Cases


def test_every_function_has_its_case():
    functions = [(op, name) for op in OPS for name in import_module(f"refnet.ops.{op}").INTERFACE]
    assert [(case.op, case.function) for case in CASES] == functions


@each_case
def test_a_case_is_complete(case):
    assert len(case.mutants) >= 3
    assert (case.allowed is None) == (case.large is None) == (case.exact == "always")
    assert set(case.changes) <= set(case.results)
    assert bool(case.changes) == case.function.endswith("_")


@pytest.mark.parametrize(
    ("case", "mutant"), [pytest.param(case, name, id=f"{case}: {name}") for case in CASES for name in case.mutants]
)
def test_mutants_are_rejected(case, mutant, falsified):
    backend = Mutated(case, case.mutants[mutant])
    message = falsified(lambda call: agreement.agree(backend, case, call), case.calls())
    assert message.startswith(("T0", "T1", "NaN or infinity"))
    assert f"reproduce({backend.name!r}, Call(op={case.op!r}" in message


@each_case
@given(data=st.data())
def test_what_is_no_mutant_passes(case, data):
    agreement.agree(Mutated(case, getattr(case.chapter, case.function)), case, data.draw(case.calls()))


@pytest.mark.parametrize("case", [case for case in CASES if case.large], ids=str)
def test_a_little_worse_than_numpy_is_too_much(case):
    """Sixteen eps, which many a bound from the data would let pass."""

    def worse(*args, **options):
        result = getattr(case.chapter, case.function)(*args, **options)
        changed = [a for name, a in zip(case.arrays, args, strict=True) if any(c[0] == name for c in case.changes)]
        for array in arrays_in([*(result if isinstance(result, tuple) else (result,)), *changed]):
            np.multiply(array, 1 + 16 * EPS, out=array)
        return result

    agreement.compare_with_numpy(NumpyBackend(), case, "normal", seed=0)
    with pytest.raises(AssertionError, match="T2: NumPy's float32 is better"):
        agreement.compare_with_numpy(Mutated(case, worse), case, "normal", seed=0)


@each_case
@given(data=st.data())
def test_a_printed_call_is_the_call(case, data):
    call = data.draw(case.calls())
    again = eval(repr(call), {"Call": Call, "nan": np.nan, "inf": np.inf})  # noqa: S307 - what a reader would paste
    assert again == call
    for one, other in zip(
        agreement.pose(case, call).given.values(), agreement.pose(case, again).given.values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_reproduce():
    call = Call("relu", "forward", {"N": 2, "C": 3}, {}, seed=5)
    agreement.reproduce("numpy", call)


# Draws


@each_case
@given(data=st.data())
def test_axes_differ_and_few_results_are_zero(case, data):
    call = data.draw(case.calls())
    problem = agreement.pose(case, call)
    lengths = [call.sizes[letter] for letter in "NCKHW" if letter in call.sizes]
    assert len(set(lengths)) == len(lengths)
    if call.kind != "special":
        for result in problem.expected:
            if result is not None and result.dtype.kind == "f":
                assert (result == 0).mean() <= (0.99 if case.op == "maxpool" else 0.90)
    for name, value in problem.given.items():
        assert name not in case.arrays or value.dtype.kind in "iu" or value.dtype == np.float32


def test_axes_have_every_slack_and_overhang():
    for window, stride, pad, ceil in product(range(1, 6), range(1, 5), range(3), (False, True)):
        if pad >= window or stride > window + 1:
            continue
        axes = strategies.axes(window, stride, pad, ceil=ceil)
        assert len({axis.length for axis in axes}) >= 2
        assert {axis.spare for axis in axes} == set(range(stride))
        for axis in axes:
            missing = (axis.count - 1) * stride + window - 2 * pad - axis.length
            clipped = ceil and axis.count * stride >= axis.length + pad
            assert axis.count >= 1
            assert clipped or missing == (axis.spare if ceil else -axis.spare)


def test_lengths_are_awkward():
    for lengths in (strategies.LENGTHS, strategies.LONG_LENGTHS):
        assert lengths[0] == 1
        assert all(length % 8 for length in lengths)
        assert max(lengths) > 16


def test_kinds_of_values():
    def draw(kind):
        return Values(kind, (0, 0))(100, 50)

    integers, normal, one_signed, special = map(draw, ("integers", "normal", "one_signed", "special"))
    assert set(np.unique(integers)) == set(range(-4, 5))
    assert abs(normal.mean()) < 0.1
    assert one_signed.min() == 0 < one_signed.max()
    assert np.isnan(special).any()
    assert np.isposinf(special).any()
    assert np.isneginf(special).any()
    assert np.isfinite(Values("special", (0, 0))(100, 50, special=False)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_hold_the_same_numbers(layout):
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    laid = laid_out(a, layout)
    np.testing.assert_array_equal(laid, a)
    assert laid.flags.c_contiguous == (layout == "contiguous")


# Memory: one backend for each thing that must be noticed


class Rude(NumpyBackend):
    """A backend with memory of its own and a relu of one's choice: ``forward(backend, x)``."""

    def __init__(self, forward):
        super().__init__()
        self.memory = SimpleNamespace(__name__="rude._memory", empty=np.empty)
        self.relu = SimpleNamespace(forward=lambda x: forward(self, x), backward=relu.backward)


def polite(self, x):
    y = self.memory.empty(x.shape, x.dtype)
    y[...] = relu.forward(x)
    return y


def forgets_the_last(self, x):
    y = self.memory.empty(x.shape, x.dtype)
    y.flat[:-1] = relu.forward(x).flat[:-1]
    return y


def writes_past_its_result(self, x):
    y = polite(self, x)
    y.base[-64] = 0
    return y


def writes_before_its_argument(self, x):
    if x.base is not None and x.base.ndim == 1:
        x.base[0] = 0
    return polite(self, x)


def changes_its_argument(self, x):
    y = polite(self, x)
    x[...] = y + 1
    return y


def returns_its_argument(self, x):
    polite(self, x)
    np.maximum(x, 0, out=x, where=x < 0)
    return x


def allocates_elsewhere(_self, x):
    return relu.forward(x)


def widens(self, x):
    return polite(self, x.astype(np.float64))


def never_twice(self, x):
    y = polite(self, x)
    y.flat[0] += self.memory.__dict__.setdefault("calls", 0)
    self.memory.calls += 1
    return y


CALL = Call("relu", "forward", {"N": 3, "C": 5}, {}, kind="one_signed")


def hold(forward, problem):
    backend = Rude(forward)
    guards = Guards(backend)
    agreement.check_results(backend, problem, agreement.run(backend, problem, guards.around))
    guards.check(problem.where(backend))
    agreement.repeat(backend, problem)


@pytest.mark.parametrize(
    ("forward", "complaint"),
    [
        (forgets_the_last, r"T0: .* is np.float32\(nan\)"),
        (writes_past_its_result, "written beside an array"),
        (writes_before_its_argument, "written beside an array"),
        (changes_its_argument, "argument x was changed"),
        (returns_its_argument, "result y shares memory with argument x"),
        (allocates_elsewhere, r"nothing was allocated through rude._memory.empty"),
        (widens, "dtype is float64"),
        (never_twice, "T0: .* the second time"),
    ],
)
def test_rude_backends_are_noticed(forward, complaint):
    problem = agreement.pose(case_of("relu", "forward"), CALL)
    hold(polite, problem)
    with pytest.raises(AssertionError, match=complaint):
        hold(forward, problem)


def test_poison_fills_what_numpy_allocates():
    with poisoned(NumpyBackend()):
        assert np.isnan(np.empty(3)).all()
        assert (np.empty_like(np.zeros(3, np.uint8)) == 255).all()
    assert np.empty.__name__ == "empty"


# Plugin


def pytest_run(*args):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "refnet.testing.plugin", "--pyargs", "refnet.testing.suite"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run([*command, *args], capture_output=True, text=True, check=False, env=environment)


def test_the_suite_runs_by_name():
    run = pytest_run("--backend", "numpy", "--backend", "numpy", "--max-examples", "1", "-k", "relu")
    assert run.returncode == 0, run.stdout
    assert " skipped" not in run.stdout


def test_a_backend_that_cannot_load_ends_the_run():
    run = pytest_run("--backend", "nunpy")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--backend nunpy: backend nunpy is not known" in run.stderr
    assert "did you mean numpy?" in run.stderr


def test_every_backend_that_can_run_is_checked_where_none_is_named(tmp_path):
    shutil.copy(suite.__file__, tmp_path / "test_suite.py")
    command = [sys.executable, "-m", "pytest", "-p", "refnet.testing.plugin", "--collect-only", "-q", "-k", "same_bits"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    names = set(re.findall(r"\[(\w+)-relu\.forward\]", run.stdout))
    assert {"numba", "numpy"} <= names <= {"numba", "numpy", "triton"}


def test_loopback_needs_no_hypothesis():
    code = "import sys; sys.modules.update(hypothesis=None, pytest=None); import refnet.testing.loopback"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
