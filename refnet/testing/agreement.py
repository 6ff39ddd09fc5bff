"""Run one call on a backend and compare the results with those of the reference."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import unwrap
from typing import Any

import numpy as np

from refnet.backend.capabilities import Threads, precision_of
from refnet.backend.wrapped import unwrapped
from refnet.testing import bounds
from refnet.testing.call import Array, Call, Values, laid_out
from refnet.testing.cases import Case, case_of
from refnet.testing.cases._case import Given
from refnet.testing.memory import Guards, allocator_of, poisoned

MAX_ATTEMPTS = 100


@dataclass(frozen=True)
class Problem:
    """The arguments of a call (float32), and the reference's results in float64."""

    case: Case
    call: Call
    given: Given
    expected: tuple[Any, ...]

    def where(self, backend: Any, result: str = "") -> str:
        """Return what was computed, and a line of Python that repeats it, for a message."""
        label = f"{result} of {self.case}" if result else str(self.case)
        return (
            f"{label} on backend {backend.name}; repeat with: "
            f"from refnet.testing.agreement import *; reproduce({backend.name!r}, {self.call!r})"
        )


def pose(case: Case, call: Call) -> Problem:
    """Return a call with arguments drawn from its seed: the first ones whose results are not mostly zeros."""
    for attempt in range(MAX_ATTEMPTS):
        with quiet(call):
            given = case.make(call.sizes, call.options, Values(call.kind, (call.seed, attempt)))
            expected = reference(case, call, given, np.float64)
        if call.kind == "special" or all(few_zeros(case, result) for result in expected):
            arguments = {
                name: laid_out(value, call.layout) if is_array(value) else value for name, value in given.items()
            }
            return Problem(case, call, arguments, expected)
    raise AssertionError(f"{MAX_ATTEMPTS} draws of values gave results that are mostly zeros: {call!r}")


def few_zeros(case: Case, result: Any) -> bool:
    """Return whether a result has few enough zeros for a useful test; results of integers always have."""
    return result is None or result.dtype.kind != "f" or bounds.zero_share(result) <= case.zeros


def reference(case: Case, call: Call, given: Given, dtype: Any) -> tuple[Any, ...]:
    """Return the chapter's results in the given dtype, computed from copies of the arguments."""
    function = unwrap(getattr(case.chapter, case.function))  # without its check, as backends are called
    return case.outcome(function, {name: converted(value, dtype) for name, value in given.items()}, call.options)


def converted(value: Any, dtype: Any) -> Any:
    """Return a copy of an argument; floating-point numbers are converted to the dtype."""
    return value.astype(dtype if value.dtype.kind == "f" else value.dtype) if is_array(value) else value


def run(backend: Any, problem: Problem, copy: Callable[[Array], Any] | None = None) -> tuple[Any, ...]:
    """Run a call on a backend with poisoned memory, and return the results on the host.

    Fails if an argument was changed, or if a result is a view of one. `copy` copies a host array to the backend,
    instead of the backend's ``asarray``.
    """
    case, call, where = problem.case, problem.call, problem.where(backend)
    arguments = {
        name: (copy or backend.asarray)(value) if is_array(value) else value for name, value in problem.given.items()
    }
    function = getattr(getattr(backend, case.op), case.function)
    with quiet(call), poisoned(backend) as guards:
        outcome = case.outcome(function, arguments, call.options)
    backend.synchronize()
    _require_poisoned(backend, guards, case, where)
    guards.check(where)
    results = tuple(None if result is None else backend.to_numpy(result) for result in outcome)
    _require_unchanged(backend, problem, arguments)
    _require_fresh(backend, problem, arguments, results)
    return results


def agree(backend: Any, case: Case, call: Call) -> None:
    """Fail unless a backend's results equal the chapter's, exactly or within the bounds of the case."""
    problem = pose(case, call)
    check_results(backend, problem, run(backend, problem))


def check_results(backend: Any, problem: Problem, results: Sequence[Any], dtype: Any = np.float32) -> dict[str, float]:
    """Compare results with those of the reference (T0 and T1), and return the largest error of each over its bound.

    The returned number is 0 for a result that must be exact. Bounds are for float32. For results in float64 they are
    multiplied by the ratio of the two machine epsilons, and doubled, because the reference's own float64 has errors
    of the same size.
    """
    case, call = problem.case, problem.call
    with quiet(call):
        expected = reference(case, call, problem.given, dtype)
        given64 = {name: converted(value, np.float64) for name, value in problem.given.items()}
        precision = precision_of(backend)
        allowed = case.allowed(given64, call.options, problem.expected, precision) if case.allowed else ()
    scale = 1.0 if dtype == np.float32 else 2 * float(np.finfo(dtype).eps) / bounds.EPS
    worst = dict.fromkeys(case.results, 0.0)
    for i, (name, y, y32, y64) in enumerate(zip(case.results, results, expected, problem.expected, strict=True)):
        where = problem.where(backend, name)
        if y is None or y32 is None:
            assert y is y32, f"only one of result and expected result is None: {where}"
        elif case.exact == "always" or y32.dtype.kind != "f":
            bounds.bit_equal(y, y32, where)
        elif case.exact == "integers" and call.kind == "integers":
            bounds.equal(y, y64.astype(dtype), where)
        else:
            assert y.dtype == dtype, f"{np.dtype(dtype)} became {y.dtype}: {where}"
            bounds.within(y, y64, scale * allowed[i], where)
            worst[name] = float(bounds.share_of_bound(y, y64, scale * allowed[i]).max(initial=0.0))
    return worst


def repeat(backend: Any, problem: Problem) -> None:
    """T3: fail unless a second run gives the same bits, and so do one thread and two if their number can be set."""
    first = run(backend, problem)
    _same_bits(first, run(backend, problem), f"the second time {problem.where(backend)}")
    inner = unwrapped(backend)
    if isinstance(inner, Threads):
        before = inner.threads
        for threads in range(1, min(2, inner.max_threads) + 1):
            inner.set_threads(threads)
            _same_bits(first, run(backend, problem), f"with {threads} threads {problem.where(backend)}")
        inner.set_threads(before)


def compare_with_numpy(backend: Any, case: Case, kind: str, seed: int) -> None:
    """T2: fail if the largest error on the case's large call is much larger than NumPy's in float32."""
    assert case.large, f"{case} has no large call"
    problem = pose(case, Call(case.op, case.function, *case.large, kind, seed=seed))
    in_float32 = reference(case, problem.call, problem.given, np.float32)
    results = run(backend, problem)
    for name, y, y32, y64 in zip(case.results, results, in_float32, problem.expected, strict=True):
        bounds.no_worse_than_numpy(y, y32, y64, problem.where(backend, name))


def reproduce(name: str, call: Call) -> None:
    """Repeat the comparison of a call on a backend, as a failure prints it."""
    from refnet.backend.loading import load  # noqa: PLC0415 - not a name that the printed line imports with *

    agree(load(name, checked=False), case_of(call.op, call.function), call)


def quiet(call: Call) -> AbstractContextManager[Any]:
    """Silence NumPy's warnings for calls with NaN and infinities; in other calls a warning is an error."""
    return np.errstate(all="ignore") if call.kind == "special" else nullcontext()


def is_array(value: Any) -> bool:
    """Return whether an argument is an array, not an option or a count."""
    return isinstance(value, np.ndarray)


def _same_bits(first: Sequence[Any], second: Sequence[Any], where: str) -> None:
    for a, b in zip(first, second, strict=True):
        if a is not None:
            bounds.bit_equal(b, a, where)


def _require_poisoned(backend: Any, guards: Guards, case: Case, where: str) -> None:
    """Fail if a backend has a module ``memory`` but did not allocate with it: then nothing was poisoned."""
    allocator = allocator_of(backend)
    if allocator and len(case.results) > len(case.changes):
        assert guards.count, f"nothing was allocated through {allocator.__name__}.empty: {where}"


def _require_unchanged(backend: Any, problem: Problem, arguments: Given) -> None:
    for name, value in problem.given.items():
        if is_array(value) and name not in problem.case.changes:
            bounds.bit_equal(
                backend.to_numpy(arguments[name]), value, f"argument {name} was changed. {problem.where(backend)}"
            )


def _require_fresh(backend: Any, problem: Problem, arguments: Given, results: Sequence[Any]) -> None:
    """Fail if a result is a view of an argument (detected if ``to_numpy`` returns the memory itself)."""
    names = problem.case.results[: len(problem.case.results) - len(problem.case.changes)]
    for name, result in zip(names, results, strict=False):
        for argument, value in arguments.items():
            shared = result is not None and is_array(value) and np.may_share_memory(result, value)
            assert not shared, f"result {name} shares memory with argument {argument}: {problem.where(backend)}"
