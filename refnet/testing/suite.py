"""The conformance suite: tests of every function of every chapter on the chosen backends.

Run it on a backend that is registered under the entry-point group ``refnet.backends``::

    pytest -p refnet.testing.plugin --pyargs refnet.testing.suite --backend mine
"""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.backend.capabilities import EXACT_PRODUCTS, precision_of
from refnet.backend.wrapped import CheckedArguments
from refnet.errors import ArgumentError, RefnetError, ShapeError
from refnet.ops._arguments import array_dtypes
from refnet.testing import agreement
from refnet.testing.cases import CASES, Case
from refnet.testing.memory import Guards


def _of(*cases: Case) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=str)


@_of(*(case for case in CASES if case.exact != "never"))
@given(data=st.data())
def test_exact(backend: Any, case: Case, data: st.DataObject) -> None:
    """T0: sums of integers are equal in any order of summing; ops that only select or copy give the same bits."""
    kinds = ("integers",) if case.exact == "integers" else case.kinds
    agreement.agree(backend, case, data.draw(case.calls(*kinds)))


@_of(*(case for case in CASES if case.exact != "always"))
@given(data=st.data())
def test_within_bound(backend: Any, case: Case, data: st.DataObject) -> None:
    """T1: errors stay within the bounds that follow from the data."""
    agreement.agree(backend, case, data.draw(case.calls("normal", "one_signed")))


@_of(*(case for case in CASES if case.exact != "always"))
@given(data=st.data())
def test_nan_and_infinity(backend: Any, case: Case, data: st.DataObject) -> None:
    """NaN and infinities in the input reach the same outputs as in the reference, and no others."""
    agreement.agree(backend, case, data.draw(case.calls("special")))


@_of(*(case for case in CASES if case.large))
@pytest.mark.parametrize("kind", ["normal", "one_signed"])
@pytest.mark.parametrize("seed", range(5))
def test_no_worse_than_numpy(backend: Any, case: Case, kind: str, seed: int) -> None:
    """T2: the largest error is at most four times that of NumPy in float32, plus a unit in the last place.

    Matrix products in tf32 are not compared here: their errors are larger, and T1 has bounds for them.
    """
    if precision_of(backend) == EXACT_PRODUCTS:
        agreement.compare_with_numpy(backend, case, kind, seed)


@_of(*CASES)
@given(data=st.data())
def test_same_bits_again(backend: Any, case: Case, data: st.DataObject) -> None:
    """T3: the same arguments give the same bits."""
    agreement.repeat(backend, agreement.pose(case, data.draw(case.calls())))


@_of(*CASES)
@given(data=st.data())
def test_guards(backend: Any, case: Case, data: st.DataObject) -> None:
    """If arguments are views inside larger arrays, nothing outside them is read into a result or written."""
    problem = agreement.pose(case, data.draw(case.calls()))
    guards = Guards(backend)
    results = agreement.run(backend, problem, guards.around)
    agreement.check_results(backend, problem, results)
    guards.check(problem.where(backend))


@_of(*CASES)
@given(data=st.data())
def test_views(backend: Any, case: Case, data: st.DataObject) -> None:
    """Arguments that are views in the backend's own memory are accepted, or rejected with a clear message."""
    problem = agreement.pose(case, data.draw(case.calls()))
    try:
        results = agreement.run(backend, problem, lambda a: _view(backend, a, problem.call.layout))
    except RefnetError as error:
        if "contiguous" not in str(error):
            raise
    else:
        agreement.check_results(backend, problem, results)


def _view(backend: Any, a: Any, layout: str) -> Any:
    """Return a view with permuted axes or of every other element, if the backend's arrays support views."""
    if layout == "contiguous":
        return backend.asarray(a)
    content = a.swapaxes(0, -1) if layout == "permuted" else np.repeat(a, 2, axis=-1)
    base = backend.asarray(np.ascontiguousarray(content))
    try:
        return base.swapaxes(0, -1) if layout == "permuted" else base[..., ::2]
    except (AttributeError, TypeError):
        return backend.asarray(a)


@pytest.mark.parametrize(("case", "message"), [pytest.param(c, m, id=f"{c}: {m}") for c in CASES for m in c.refusals])
def test_refuses(backend: Any, case: Case, message: str) -> None:
    """Arguments that break the shape rule are rejected before the op runs, with the chapter's message."""
    function = getattr(getattr(CheckedArguments(backend), case.op), case.function)

    def filled(shape: Any, dtype: Any) -> Any:
        if isinstance(shape, list):
            return [filled(item, dtype) for item in shape]
        return backend.asarray(np.zeros(shape, dtype))

    dtypes = array_dtypes(getattr(case.chapter, case.function))
    arguments = {
        name: filled(value, dtypes[name]) if name in case.arrays else value
        for name, value in case.refusals[message].items()
    }
    with pytest.raises((ShapeError, ArgumentError), match=rf"^\w+: .*{re.escape(message)}"):
        function(**arguments)
