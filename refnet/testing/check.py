"""Check your own functions against the NumPy reference, without writing a backend.

:func:`check` takes functions by name: ``lrn_forward`` is :func:`refnet.ops.lrn.forward`, ``sgd_step_`` is
:func:`refnet.ops.sgd.step_`, and so on for every function of every chapter. It draws arguments as the conformance suite
does and applies the same bounds. It needs hypothesis, which the extra ``refnet[testing]`` installs.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from refnet.errors import ConfigError
from refnet.ops import OPS
from refnet.testing.check_kinds import KINDS, LETTERS

if TYPE_CHECKING:
    from refnet.testing.cases import Case
    from refnet.testing.check_report import Report, Row

PRECISIONS = ("ieee", "tf32", "tf32x3")
DTYPES = ("float32", "float64")


def check(
    *,
    to_array: Callable[[Any], Any] | None = None,
    to_numpy: Callable[[Any], Any] | None = None,
    dtype: str = "float32",
    precision: str = "ieee",
    examples: int = 25,
    seed: int | None = None,
    only: Mapping[str, Any] | None = None,
    kinds: str | Collection[str] = (),
    case: Mapping[str, Any] | None = None,
    **functions: Callable[..., Any],
) -> "Report":
    """Check functions against the NumPy reference on drawn arguments, and return a table of what passed.

    Parameters
    ----------
    functions
        The functions to check, each named by the op and function of the reference that it is compared with:
        ``lrn_forward=my_kernel``. It needs the reference's signature: the same positional arguments in the same order,
        and the same keyword arguments.
    to_array, to_numpy
        Converters from a NumPy array to the array type of the functions and back, such as ``torch.from_numpy`` and
        ``lambda t: t.numpy()``. Without them the functions get and return NumPy arrays.
    dtype
        "float32" or "float64": the dtype of real numbers.
    precision
        "ieee", or how matrix products round their factors: "tf32", or "tf32x3" (three products in tf32).
    examples
        Number of calls in each kind of check.
    seed
        Which calls are drawn. Without a seed, every check of a function draws the same ones.
    only
        Restricts the calls to what the functions support. Maps the name of a keyword argument (``{"stride": 1}``) or of
        a length (N, C, H, W, K, R, S, ...) to the supported value, or to a function that returns whether a value is
        supported. A function may lack a keyword argument that is restricted to one value.
    kinds
        The kinds of checks to make (``refnet.testing.check_kinds.KINDS``); all of them if none is named.
    case
        One call to repeat: the dict in the line that is printed for a failure.

    Raises
    ------
    ConfigError
        No op has such a function, an argument has an impossible value, or hypothesis is not installed.
    """
    _require("kinds", kinds, isinstance(kinds, Collection), "the name of a kind of check, or a list of names")
    wanted = [kinds] if isinstance(kinds, str) else list(kinds)
    _require_functions(functions)
    _require_converters(to_array, to_numpy)
    _require_one_of("dtype", dtype, DTYPES)
    _require_one_of("precision", precision, PRECISIONS)
    _require("examples", examples, _is_whole(examples) and examples >= 1, "a whole number of at least 1")
    _require("seed", seed, seed is None or (_is_whole(seed) and seed >= 0), "a whole number of at least 0, or None")
    _require("only", only, isinstance(only, Mapping | None), "a dict of what is supported")
    _require("case", case, isinstance(case, Mapping | None), "the dict that the line of a failure gives")
    for kind in wanted:
        _require_known("kinds: there is no kind of check", kind, KINDS)
    names = {option for name in functions for option in _options(name)} | set(LETTERS)
    for name in only or {}:
        _require_known("only: the functions to check have no keyword argument or length", name, names)
    if case is not None and len(functions) != 1:
        raise ConfigError(f"case is a call of one function, but there are {len(functions)}: {', '.join(functions)}")
    _require_hypothesis()
    from refnet.testing.check_report import Report  # noqa: PLC0415 - these need hypothesis
    from refnet.testing.check_run import Subject, rows_of  # noqa: PLC0415

    rows: list[Row] = []
    for name, function in functions.items():
        subject = Subject(name, _case(name), function, to_array, to_numpy, np.dtype(dtype), precision, dict(only or {}))
        subject.require_converters()
        possible = _kinds(subject.case, precision, dtype)
        chosen = [kind for kind in wanted if kind in possible] if wanted else possible
        rows += rows_of(subject, chosen, examples, seed, case)
    if not rows:
        raise ConfigError(f"kinds: none of {', '.join(wanted)} applies to {', '.join(functions)}")
    return Report(tuple(rows), limited=bool(only) and case is None)


def _require(argument: str, value: object, right: bool, rule: str) -> None:
    if not right:
        raise ConfigError(f"{argument} must be {rule}, it is {value!r}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def kinds(function: str) -> tuple[str, ...]:
    """Return the kinds of checks of a function such as "lrn_forward", to parametrise a test of pytest with."""
    _require_known("there is no function", function, _names())
    _require_hypothesis()
    return _kinds(_case(function), "ieee", "float32")


def _kinds(case: "Case", precision: str, dtype: str) -> tuple[str, ...]:
    """Return the kinds of checks that apply: some need array arguments, and "accuracy" needs float32."""
    absent = set()
    if not case.arrays:
        absent |= {"integers", "one_signed", "views", "inside"}
    if not case.special:
        absent.add("special")
    if not case.large or precision != "ieee" or dtype != "float32":
        absent.add("accuracy")
    return tuple(kind for kind in KINDS if kind not in absent)


def _names() -> dict[str, tuple[str, str]]:
    """Return op and function by the name under which ``check`` takes the function."""
    chapters = {op: import_module(f"refnet.ops.{op}") for op in OPS}
    return {f"{op}_{name}": (op, name) for op, chapter in chapters.items() for name in chapter.INTERFACE}


def _options(name: str) -> Iterator[str]:
    """Return the names of the reference's keyword arguments."""
    op, function = _names()[name]
    parameters = inspect.signature(getattr(import_module(f"refnet.ops.{op}"), function)).parameters.values()
    yield from (p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def _case(name: str) -> "Case":
    from refnet.testing.cases import case_of  # noqa: PLC0415 - needs hypothesis

    return case_of(*_names()[name])


def _require_functions(functions: Mapping[str, Any]) -> None:
    if not functions:
        raise ConfigError("check needs a function, by the name of its op and function: check(lrn_forward=my_kernel)")
    names = _names()
    for name, function in functions.items():
        _require_known("there is no function", name, names)
        if not callable(function):
            raise ConfigError(f"{name} must be a function, it is {function!r}")


def _require_converters(to_array: object, to_numpy: object) -> None:
    if (to_array is None) != (to_numpy is None):
        given, missing = ("to_array", "to_numpy") if to_numpy is None else ("to_numpy", "to_array")
        raise ConfigError(f"{given} is given without {missing}; give both converters, or neither for NumPy arrays")


def _require_known(problem: str, name: str, names: Collection[str]) -> None:
    if name not in names:
        nearest = get_close_matches(str(name), names, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(sorted(names))}"
        raise ConfigError(f"{problem} {name}; {hint}")


def _require_one_of(argument: str, value: str, values: Collection[str]) -> None:
    if value not in values:
        raise ConfigError(f"{argument} must be one of {', '.join(values)}, it is {value!r}")


def _require_hypothesis() -> None:
    try:
        import_module("hypothesis")
    except ImportError as error:
        raise ConfigError(
            "check needs the package hypothesis, which is not installed; pip install 'refnet[testing]'"
        ) from error
