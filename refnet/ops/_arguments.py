"""The check of an op's arguments before it computes: their types, and the shape and value rules of its chapter.

What each parameter takes is read from its annotation: ``Floats`` is an array of floating-point numbers, ``int`` an
integer of any library, and so on. :func:`checked` is the decorator of the chapters' functions, which compute on NumPy
arrays. A backend with other arrays gives :class:`Check` its own function for them.
"""

import inspect
import reprlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, wraps
from numbers import Integral, Real
from typing import Any, Protocol, TypeVar, cast, get_args, get_origin

import numpy as np
import numpy.typing as npt

from refnet.errors import ArgumentError, ShapeError

F = TypeVar("F", bound=Callable[..., Any])

MAX_INTEGER = 2**31 - 1  # of a size, stride or pad; kernels compute with their products in 64 bits
DTYPES = {np.floating: "floating-point numbers", np.integer: "integers", np.uint8: "uint8"}
REMEDIES = {np.floating: "; convert it with .astype('float32')", np.uint8: "; convert it with .astype('uint8')"}


class TakeArray(Protocol):
    """A function that returns an array as an op can read it, or raises an error."""

    def __call__(self, label: str, a: Any, *, changes: bool = False) -> Any:
        """Return the array `a`, converted if necessary; `label` names the op and the argument in errors.

        If the op `changes` it in place, it cannot be converted.
        """


def checked(function: F) -> F:
    """Return a chapter's function that checks its arguments, and converts arrays that differ only in their layout."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        check = check_of(function)
        return function(**check(check.bind(*args, **kwargs), host_array))

    return cast("F", call)


@cache
def check_of(function: Callable[..., Any]) -> "Check":
    """Return the check of a chapter's function."""
    return Check(inspect.unwrap(function))


class Check:
    """The check of one function's arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._op = function.__module__.rpartition(".")[2]
        self._name = function.__name__
        self._chapter = function.__globals__  # rules and constants are looked up when they are needed
        self._signature = inspect.signature(function)
        self._annotations = {name: p.annotation for name, p in self._signature.parameters.items()}

    def bind(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments of a call by name. Raises ``TypeError`` for missing or unknown ones, as any function."""
        return self._signature.bind(*args, **kwargs).arguments

    def __call__(
        self, arguments: Mapping[str, Any], take: TakeArray, to_numpy: Callable[[Any], npt.NDArray[Any]] = np.asarray
    ) -> dict[str, Any]:
        """Return the arguments as the op can read them.

        Parameters
        ----------
        take
            Converts an array, or refuses it.
        to_numpy
            Copies an array to the host, where a value rule reads it.

        Raises
        ------
        ArgumentError
            An argument is not of the type that its parameter takes, or has a value that the op cannot take.
        ShapeError
            Shapes or dtypes do not fit each other.
        """
        taken = {name: self._take(name, value, take) for name, value in arguments.items()}
        self.shapes(taken)
        self._check_dtypes(taken)
        if values_rule := self._chapter.get(f"{self._name}_values"):
            values_rule(**{name: each_array(to_numpy, value) for name, value in taken.items()})
        return taken

    def shapes(self, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the shapes of the results, or raise what the chapter's shape rule raises."""
        shapes = {name: each_array(lambda a: tuple(a.shape), value) for name, value in arguments.items()}
        return tuple(self._chapter[f"{self._name}_shapes"](**shapes))

    def _take(self, name: str, value: Any, take: TakeArray) -> Any:
        annotation, label = self._annotations[name], f"{self._op}: {name}"
        changes = self._name.endswith("_") and name in self._chapter.get("CHANGES", ())
        if (scalar := _scalar(annotation)) is not None:
            return _array(label, value, scalar, take, changes)
        if get_origin(annotation) is list:
            scalar = _scalar(get_args(annotation)[0])
            return [_array(f"{label}[{i}]", a, scalar, take, changes) for i, a in enumerate(_sequence(label, value))]
        if annotation in NUMBERS:
            return NUMBERS[annotation](label, value)
        if get_origin(annotation) in {tuple, Sequence}:
            number = _number if float in get_args(annotation) else _word
            return tuple(number(f"{label}[{i}]", item) for i, item in enumerate(_sequence(label, value)))
        return value

    def _check_dtypes(self, arguments: Mapping[str, Any]) -> None:
        """Raise unless all floating-point numbers are of one dtype, and no array is changed twice."""
        arrays: dict[str, Any] = {}
        for name, value in arguments.items():
            if isinstance(value, list):
                arrays.update({f"{name}[{i}]": a for i, a in enumerate(value)})
            elif is_array(value):
                arrays[name] = value
        dtypes = {name: dtype_name(a) for name, a in arrays.items() if "float" in dtype_name(a)}
        for name, dtype in dtypes.items():
            first, expected = next(iter(dtypes.items()))
            if dtype != expected:
                raise ShapeError(f"{self._op}: {first} is {expected} and {name} is {dtype}; convert one of them")
        changed: dict[int, str] = {}
        for name, a in arrays.items() if self._name.endswith("_") else ():
            if name.partition("[")[0] in self._chapter.get("CHANGES", ()):
                if id(a) in changed:
                    raise ArgumentError(f"{self._op}: {changed[id(a)]} and {name} are one array; both are changed")
                changed[id(a)] = name


def host_array(label: str, a: Any, *, changes: bool = False) -> npt.NDArray[Any]:
    """Return a NumPy array in the processor's byte order, with half precision widened to float32.

    Raises ``ArgumentError`` for what is no NumPy array, has masked elements, or is changed in place and cannot be.
    """
    if not isinstance(a, np.ndarray):
        raise ArgumentError(f"{label} must be a NumPy array, it is {described(a)}; numpy.asarray may convert it")
    if np.ma.is_masked(a):
        raise ArgumentError(f"{label} has masked elements; give them a value with .filled(0)")
    plain = np.asarray(a)  # no subclass
    converted = np.dtype(np.float32) if plain.dtype == np.float16 else plain.dtype.newbyteorder("=")
    if changes and not plain.flags.writeable:
        raise ArgumentError(f"{label} is changed in place, and it is read-only; copy it")
    if changes and plain.dtype != converted:
        raise ArgumentError(
            f"{label} is changed in place, and an array of {plain.dtype} cannot be; convert it to {converted}"
        )
    return plain.astype(converted, copy=False)


def device_array(label: str, a: Any, *, changes: bool = False) -> Any:  # noqa: ARG001
    """Return an array of any backend as it is. Raises ``ArgumentError`` for what has no shape and dtype."""
    if not is_array(a):
        raise ArgumentError(f"{label} must be an array of the backend, it is {described(a)}; asarray makes one")
    return a


def is_array(value: Any) -> bool:
    """Return whether a value is an array of some library."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def each_array(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to an array, or to each array of a list; return any other value as it is."""
    if isinstance(value, list):
        return [each_array(function, item) for item in value]
    return function(value) if is_array(value) else value


def dtype_name(a: Any) -> str:
    """Return the name of an array's dtype, which torch writes ``torch.float32``."""
    return str(a.dtype).rpartition(".")[2]


def described(value: Any) -> str:
    """Describe a wrong value in a few words on one line."""
    kind = type(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return " ".join(reprlib.repr(value).split())
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"of type {name}"


def array_dtypes(function: Callable[..., Any]) -> dict[str, np.dtype[Any]]:
    """Return a dtype that each array argument of a chapter's function may have."""
    annotations = {name: p.annotation for name, p in inspect.signature(inspect.unwrap(function)).parameters.items()}
    scalars = {name: _scalar(get_args(a)[0] if get_origin(a) is list else a) for name, a in annotations.items()}
    return {name: np.dtype(_EXAMPLES.get(scalar, scalar)) for name, scalar in scalars.items() if scalar is not None}


_EXAMPLES = {np.floating: np.float32, np.integer: np.int64}


def _scalar(annotation: Any) -> Any:
    """Return the type of an array's numbers, such as ``numpy.floating``; None if the annotation is not an array."""
    if get_origin(annotation) is not np.ndarray:
        return None
    (scalar,) = get_args(get_args(annotation)[1])
    return get_origin(scalar) or scalar


def _array(label: str, value: Any, scalar: Any, take: TakeArray, changes: bool) -> Any:
    a = take(label, value, changes=changes)
    try:
        fits = np.issubdtype(np.dtype(dtype_name(a)), scalar)
    except TypeError:  # no dtype of NumPy's
        fits = False
    if not fits:
        raise ArgumentError(f"{label} must hold {DTYPES[scalar]}, not {dtype_name(a)}{REMEDIES.get(scalar, '')}")
    return a


def _sequence(label: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise ArgumentError(f"{label} must be a list or tuple, it is {described(value)}")
    return value


def _word(label: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ArgumentError(f"{label} must be an integer, it is {described(value)}")
    return int(value)


def _integer(label: str, value: Any) -> int:
    number = _word(label, value)
    if abs(number) > MAX_INTEGER:
        raise ArgumentError(f"{label} must be at most {MAX_INTEGER}, it is {described(number)}")
    return number


def _number(label: str, value: Any) -> float:
    if not isinstance(value, bool) and isinstance(value, Real):
        with suppress(OverflowError):
            return float(value)
    raise ArgumentError(f"{label} must be a number, it is {described(value)}")


def _flag(label: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{label} must be True or False, it is {described(value)}")
    return bool(value)


NUMBERS: dict[Any, Callable[..., Any]] = {int: _integer, float: _number, bool: _flag}
