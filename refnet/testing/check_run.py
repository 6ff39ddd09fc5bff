"""Check one function: call it on drawn arguments and describe what is wrong with its results."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from re import sub
from traceback import extract_tb
from types import TracebackType
from typing import Any

import numpy as np

from refnet.errors import ConfigError
from refnet.testing import agreement, bounds
from refnet.testing.agreement import Problem, converted, is_array
from refnet.testing.call import Array, Call, laid_out
from refnet.testing.cases import Case
from refnet.testing.check_kinds import LETTERS
from refnet.testing.check_report import Failure, Row
from refnet.testing.memory import Guards, poisoned
from refnet.testing.strategies import drawn

PACKAGE = Path(__file__).parents[1]
VALUE_KINDS = ("integers", "normal", "one_signed", "special")
DRAW_FACTORS = (1, 4, 16)  # how many times as many calls are drawn if `only` excludes too many
ACCURACY_SEEDS = 5  # calls with each kind of values in a check of accuracy


class FaultError(Exception):
    """What is wrong with a function on one call; `ratio` is its largest error over its bound."""

    def __init__(self, sentence: str, ratio: float = inf) -> None:
        super().__init__(sentence)
        self.ratio = ratio


class RefusedError(Exception):
    """The function rejects a view that is not contiguous with a message that says so, which is allowed."""


@dataclass
class Subject:
    """A function to check, with the arguments of ``check`` that apply to it. Comparisons use it as a backend."""

    name: str
    case: Case
    function: Callable[..., Any]
    to_array: Callable[[Any], Any] | None
    array_to_numpy: Callable[[Any], Any] | None
    dtype: np.dtype[Any]
    precision: str
    only: Mapping[str, Any]
    missing: set[str] = field(default_factory=set)  # keyword arguments that it lacks, each fixed to one value by `only`

    def asarray(self, a: Array) -> Any:
        """Convert a NumPy array to the array type of the function."""
        if self.to_array is None:
            return a
        try:
            return self.to_array(a)
        except Exception as error:
            raise FaultError(f"to_array raised {_described(error)} for an array of {a.dtype}, {a.shape}") from error

    def to_numpy(self, a: Any) -> Array:
        """Convert an array of the function to a NumPy array."""
        result = a if self.array_to_numpy is None else self.array_to_numpy(a)
        if isinstance(result, np.generic):
            result = np.asarray(result)
        if not isinstance(result, np.ndarray):
            raise TypeError(f"{type(result).__name__} is not a NumPy array")
        return result

    def require_converters(self) -> None:
        """Raise ``ConfigError`` unless ``to_numpy(to_array(a))`` equals `a`."""
        a = np.arange(6, dtype=self.dtype).reshape(2, 3)
        try:
            back = self.to_numpy(self.asarray(a.copy()))
        except Exception as error:
            raise ConfigError(f"to_numpy(to_array(a)) raised {_described(error)} for a NumPy array a") from error
        if back.dtype != a.dtype or back.shape != a.shape or (back != a).any():
            raise ConfigError(
                f"to_numpy(to_array(a)) must equal a, but an array of {a.dtype}, {a.shape} became one of "
                f"{back.dtype}, {back.shape}"
            )

    def fits(self, call: Call, letters: set[str]) -> bool:
        """Return whether `only` includes a call. `letters` are the lengths that calls of this function have."""
        for name, wanted in self.only.items():
            if name in LETTERS and name not in call.options:
                if name not in letters:
                    continue
                value = call.sizes.get(name)
                if value is None:
                    return False
            elif name in call.options:
                value = call.options[name]
            else:
                continue
            if not (wanted(value) if callable(wanted) else value == wanted):
                return False
        return True

    def passed(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments that the function takes."""
        return {name: value for name, value in options.items() if name not in self.missing}

    def line(self, kind: str, call: Call | None = None) -> str:
        """Return the line of Python that repeats a check."""
        imports, arguments = ["import refnet"], []
        given = {self.name: self.function, "to_array": self.to_array, "to_numpy": self.array_to_numpy}
        for keyword, function in given.items():
            if function is None:
                continue
            name, statement = _reference_to(function, keyword)
            imports += statement
            arguments.append(f"{keyword}={name}")
        if self.dtype != np.float32:
            arguments.append(f"dtype={self.dtype.name!r}")
        if self.precision != "ieee":
            arguments.append(f"precision={self.precision!r}")
        fixed = {name: call.options[name] for name in sorted(self.missing)} if call else {}
        if fixed:
            arguments.append(f"only={fixed!r}")
        if call is None:
            arguments.append(f"kinds={kind!r}")
        else:
            parts = {f.name: getattr(call, f.name) for f in fields(call) if f.name not in {"op", "function"}}
            short = {f.name: parts[f.name] for f in fields(call) if f.name in parts and parts[f.name] != f.default}
            arguments.append(f"case={ {'check': kind, **short}!r}")
        return f"{'; '.join(dict.fromkeys(imports))}; refnet.check({', '.join(arguments)}).require()"


class FunctionProblem(Problem):
    """A call of a function that belongs to no backend: messages name only the result."""

    def where(self, backend: Any, result: str = "") -> str:  # noqa: ARG002
        """Return the name of a result."""
        return result


def rows_of(
    subject: Subject, kinds: Sequence[str], examples: int, seed: int | None, case: Mapping[str, Any] | None = None
) -> Iterator[Row]:
    """Check a function, or one printed call of it, and yield one row for each kind of check.

    If the function cannot be called, the only row is the failure of its signature.
    """
    mismatch = _signature_mismatch(subject)
    if mismatch:
        failure = Failure(subject.name, "signature", mismatch, subject.line("signature"), inf)
        yield Row(subject.name, "signature", 1, 0, 1, inf, failure)
    elif case is not None:
        yield _row(subject, *_call_of_line(subject, case), 0)
    else:
        if "signature" in kinds:
            yield Row(subject.name, "signature", 1, 0, 0, 0.0)
        yield from _drawn_rows(subject, [kind for kind in kinds if kind != "signature"], examples, seed)


def _drawn_rows(subject: Subject, kinds: Sequence[str], examples: int, seed: int | None) -> Iterator[Row]:
    calls_by_kind, left_out = _draw_by_kind(subject, [kind for kind in kinds if kind != "accuracy"], examples, seed)
    if "accuracy" in kinds:
        large = [_large(subject, values, s) for values in ("normal", "one_signed") for s in range(ACCURACY_SEEDS)]
        calls_by_kind["accuracy"] = [call for call in large if subject.fits(call, set(call.sizes))]
        left_out["accuracy"] = len(large) - len(calls_by_kind["accuracy"])
    if kinds and not any(calls_by_kind.values()):
        raise ConfigError(
            f"only: it excludes all {sum(left_out.values())} calls drawn for {subject.name}; restrict fewer values"
        )
    for kind, calls in calls_by_kind.items():
        yield _row(subject, kind, calls, left_out[kind])


def _call_of_line(subject: Subject, case: Mapping[str, Any]) -> tuple[str, list[Call]]:
    """Return the kind of check and the call that are in the line of a failure."""
    parts = dict(case)
    try:
        return parts.pop("check"), [Call(subject.case.op, subject.case.function, **parts)]
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"case must be the dict that the line of a failure gives, it is {case!r}: {_described(error)}"
        ) from error


def _draw_by_kind(
    subject: Subject, kinds: Sequence[str], examples: int, seed: int | None
) -> tuple[dict[str, list[Call]], dict[str, int]]:
    """Draw calls and distribute them over the kinds of checks; return the calls and how many `only` excluded, by kind.

    Normal and one-signed numbers also get the large call of the case, if it has one.
    """
    calls_by_kind: dict[str, list[Call]] = {}
    left_out = dict.fromkeys(kinds, 0)
    if not kinds:
        return calls_by_kind, left_out
    total = examples * len(kinds)
    for factor in DRAW_FACTORS if subject.only else DRAW_FACTORS[:1]:
        calls = drawn(subject.case.calls("normal"), total * factor, seed)
        letters = {letter for call in calls for letter in call.sizes}
        calls_by_kind, left_out = {kind: [] for kind in kinds}, dict.fromkeys(kinds, 0)
        for number, call in enumerate(calls):
            kind = kinds[number % len(kinds)]
            if len(calls_by_kind[kind]) == examples:
                continue
            if subject.fits(call, letters):
                values = kind if kind in VALUE_KINDS else "normal"
                layout = ("permuted", "sliced")[len(calls_by_kind[kind]) % 2] if kind == "views" else "contiguous"
                calls_by_kind[kind].append(replace(call, kind=values, layout=layout))
            else:
                left_out[kind] += 1
        if all(len(calls) == examples for calls in calls_by_kind.values()):
            break
    for kind in ("normal", "one_signed"):
        if kind in calls_by_kind and subject.case.large:
            call = _large(subject, kind, 0)
            if subject.fits(call, set(call.sizes)):
                calls_by_kind[kind].append(call)
    return calls_by_kind, left_out


def _large(subject: Subject, values: str, seed: int) -> Call:
    assert subject.case.large
    return Call(subject.case.op, subject.case.function, *subject.case.large, kind=values, seed=seed)


def _row(subject: Subject, kind: str, calls: Sequence[Call], left_out: int) -> Row:
    worst, refused = 0.0, 0
    failures: list[tuple[int, int, Call, FaultError]] = []
    for call in calls:
        try:
            worst = max(worst, _trial(subject, kind, call))
        except RefusedError:
            refused += 1
        except FaultError as fault:
            worst = max(worst, fault.ratio)
            failures.append((sum(call.sizes.values()), len(failures), call, fault))
    failure = None
    if failures:
        _, _, smallest, smallest_fault = min(failures, key=lambda entry: entry[:2])
        failure = Failure(
            subject.name,
            kind,
            str(smallest_fault),
            subject.line(kind, smallest),
            smallest_fault.ratio,
            error=smallest_fault.__cause__,
            problem=agreement.pose(subject.case, smallest),
        )
    note = f"rejects {refused} views that are not contiguous" if refused else ""
    return Row(subject.name, kind, len(calls), left_out, len(failures), worst, failure, note)


def _trial(subject: Subject, kind: str, call: Call) -> float:
    """Check one call, and return its largest error over its bound; 0 for results that must be exact."""
    posed = agreement.pose(subject.case, call)
    problem = FunctionProblem(posed.case, call, posed.given, posed.expected)
    try:
        if kind == "inside":
            guards = Guards(subject)
            results = _outcome(subject, problem, guards)
            with _reworded("it writes beside its arrays"):
                guards.check("")
        else:
            results = _outcome(subject, problem)
    except FaultError as fault:
        if kind in {"views", "inside"} and fault.__cause__ and "contiguous" in str(fault.__cause__):
            raise RefusedError from fault
        raise
    _require_finite(problem, results)
    with _reworded():
        if kind == "accuracy":
            return _accuracy(problem, results)
        worst = max(agreement.check_results(subject, problem, results, subject.dtype).values(), default=0.0)
    if kind == "repeated":
        with _reworded("the same call gives other bits the second time"):
            for name, first, second in zip(subject.case.results, results, _outcome(subject, problem), strict=True):
                if first is not None:
                    bounds.bit_equal(second, first, name)
    return worst


def _accuracy(problem: Problem, results: Sequence[Any]) -> float:
    in_float32 = agreement.reference(problem.case, problem.call, problem.given, np.float32)
    return max(
        bounds.no_worse_than_numpy(y, y32, y64, name)
        for name, y, y32, y64 in zip(problem.case.results, results, in_float32, problem.expected, strict=True)
    )


def _outcome(subject: Subject, problem: Problem, guards: Guards | None = None) -> tuple[Any, ...]:
    """Call the function; return its results, and the arguments it changes, as NumPy arrays of the right form."""
    case, call = problem.case, problem.call
    given = {
        name: laid_out(converted(value, subject.dtype), call.layout) if is_array(value) else value
        for name, value in problem.given.items()
    }
    arrays = {name: value for name, value in given.items() if is_array(value)}
    place = guards.around if guards else lambda a: subject.asarray(laid_out(a, call.layout))

    def placed() -> dict[str, Any]:
        return {name: place(value) if name in arrays else value for name, value in given.items()}

    if "numba" in sys.modules:  # compile before numpy.empty is replaced, because Numba cannot compile the replacement
        _called(subject, call, placed(), nullcontext())
    placed_arguments = placed()
    returned = _called(subject, call, placed_arguments, poisoned(subject))
    fresh = case.results[: len(case.results) - len(case.changes)]
    results = _on_host(subject, problem, fresh, returned)
    for name, before in arrays.items():
        after = subject.to_numpy(placed_arguments[name])
        if name in case.changes:
            continue
        try:
            bounds.bit_equal(after, before, name)
        except bounds.DisagreementError:
            raise FaultError(f"it changes its argument {name}") from None
        for result_name, result in zip(fresh, results, strict=True):
            if result is not None and np.may_share_memory(result, after):
                raise FaultError(f"its result {result_name} shares memory with its argument {name}; return a new array")
    changed = [subject.to_numpy(placed_arguments[name]) for name in case.changes]
    return (*results, *changed)


def _called(subject: Subject, call: Call, arguments: dict[str, Any], memory: AbstractContextManager[Any]) -> Any:
    positional = subject.case.arguments(arguments)
    try:
        with np.errstate(all="ignore"), memory:
            return subject.function(*positional, **subject.passed(call.options))
    except Exception as error:  # noqa: BLE001 - whatever a user's function does
        raise FaultError(f"it raises {_described(error)}") from error.with_traceback(
            _without_refnet(error.__traceback__)
        )


def _on_host(subject: Subject, problem: Problem, names: Sequence[str], returned: Any) -> list[Any]:
    """Copy the returned arrays to the host; raise ``FaultError`` if their number, shape or dtype is wrong."""
    values = () if returned is None and not names else returned if isinstance(returned, tuple) else (returned,)
    if len(values) != len(names):
        expected = f"it must return {_counted(len(names))}: {', '.join(names)}" if names else "it must return None"
        raise FaultError(f"it returns {_counted(len(values))}, {expected}")
    results: list[Any] = []
    for name, value, y64 in zip(names, values, problem.expected, strict=False):
        if value is None or y64 is None:
            if value is not y64:
                must = "None" if y64 is None else f"an array of shape {y64.shape}"
                raise FaultError(f"{name} is {'None' if value is None else 'an array'}, it must be {must}")
            results.append(None)
            continue
        try:
            result = subject.to_numpy(value)
        except Exception as error:
            hint = "" if subject.to_array else "; for another array type give to_array and to_numpy"
            raise FaultError(
                f"{name} is of type {type(value).__name__}, not an array: {_described(error)}{hint}"
            ) from error
        if result.shape != y64.shape:
            raise FaultError(f"{name} has shape {result.shape}, it must have {y64.shape}")
        dtype = subject.dtype if y64.dtype.kind == "f" else y64.dtype
        if result.dtype != dtype:
            raise FaultError(f"{name} has dtype {result.dtype}, it must have {dtype}")
        results.append(result)
    return results


def _require_finite(problem: Problem, results: Sequence[Any]) -> None:
    if not all(np.isfinite(value).all() for value in problem.given.values() if is_array(value)):
        return
    for name, y, y64 in zip(problem.case.results, results, problem.expected, strict=True):
        if y is None or y.dtype.kind != "f":
            continue
        wrong = ~np.isfinite(y) & np.isfinite(y64)
        if wrong.any():
            index = [int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape)]
            raise FaultError(
                f"NaN or infinity from finite numbers: {name}{index or ''} is {y[tuple(index)]}, it must be "
                f"{y64[tuple(index)]:.5g}; {int(wrong.sum())} of {wrong.size} elements are wrong (an element that the "
                "function never writes is NaN, too)"
            )


@contextmanager
def _reworded(why: str = "") -> Iterator[None]:
    """Raise a ``DisagreementError`` as a ``FaultError`` whose message suits a function without a backend."""
    try:
        yield
    except bounds.DisagreementError as error:
        worst = error.element
        if worst is None:
            raise FaultError(why or str(error), error.ratio) from None
        why = why or sub(r"^T\d: ", "", worst.why)
        if not error.where:
            raise FaultError(why) from None
        value, expected = _numbers(worst.value, worst.expected)
        raise FaultError(
            f"{why}: {error.where}{worst.index or ''} is {value}, it must be {expected}; "
            f"{worst.wrong} of {worst.size} elements are wrong",
            error.ratio,
        ) from None


def _signature_mismatch(subject: Subject) -> str:
    """Return which parameters the function lacks or needs beyond the reference's; empty if it can be called."""
    reference = inspect.signature(getattr(subject.case.chapter, subject.case.function)).parameters.values()
    try:
        own = inspect.signature(subject.function)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return ""
    takes_all = any(p.kind is p.VAR_KEYWORD for p in own.parameters.values())
    named = {p.name for p in own.parameters.values() if p.kind in {p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD}}
    for option in (p for p in reference if p.kind is p.KEYWORD_ONLY and p.name not in named and not takes_all):
        if option.name in subject.only and not callable(subject.only[option.name]):
            subject.missing.add(option.name)
            continue
        value = "..." if option.default is option.empty else repr(option.default)
        return (
            f"it takes no keyword argument {option.name}; add it, or check one value alone: "
            f"only={{{option.name!r}: {value}}}"
        )
    for option in (p for p in reference if p.default is not p.empty and p.name in named):
        default = own.parameters[option.name].default
        if default is not option.empty and default != option.default:
            return f"its default of {option.name} is {default!r}, it must be {option.default!r}"
    positional = [None for p in reference if p.kind is not p.KEYWORD_ONLY]
    options = {p.name: None for p in reference if p.kind is p.KEYWORD_ONLY and p.name not in subject.missing}
    try:
        own.bind(*positional, **options)
    except TypeError as error:
        names = ", ".join(str(p.replace(annotation=p.empty)) for p in reference)
        return f"it cannot be called with the arguments of the reference, ({names}): {error}"
    return ""


def _described(error: BaseException) -> str:
    """Return an error as one line, with the file and the line in the user's own code."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}" if str(error) else type(error).__name__
    frames = [f for f in extract_tb(error.__traceback__) if not Path(f.filename).is_relative_to(PACKAGE)]
    own = [f for f in frames if "site-packages" not in f.filename]
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else text


def _without_refnet(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of refnet at its beginning."""
    while traceback and Path(traceback.tb_frame.f_code.co_filename).is_relative_to(PACKAGE):
        traceback = traceback.tb_next
    return traceback


def _reference_to(function: Any, keyword: str) -> tuple[str, list[str]]:
    """Return a name for a function, and the statement that imports it if it can be imported."""
    name, module = getattr(function, "__name__", ""), getattr(function, "__module__", None)
    if not name.isidentifier():
        return keyword, []
    if module and module != "__main__" and getattr(sys.modules.get(module), name, None) is function:
        return name, [f"from {module} import {name}"]
    return (keyword if keyword.startswith("to_") else name), []


def _numbers(value: Any, expected: Any) -> tuple[str, str]:
    """Format two numbers that differ, with enough digits to show the difference."""
    if np.asarray(value).dtype.kind != "f":
        return str(value), str(expected)
    digits = 5 if abs(float(value) - float(expected)) > 1e-3 * abs(float(expected)) else 9
    if np.asarray(value).dtype == np.float64 and digits > 5:
        digits = 17
    return f"{float(value):.{digits}g}", f"{float(expected):.{digits}g}"


def _counted(count: int) -> str:
    return "1 result" if count == 1 else f"{count} results"
