"""Backends that pass every call on to another backend, and check or record it."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from types import SimpleNamespace
from typing import Any

import numpy as np

from refnet.backend.interface import Array
from refnet.errors import NumericError, ShapeError
from refnet.ops import OPS, chapter
from refnet.ops._arguments import check_of, device_array, is_array


class Wrapped:
    """A backend that passes every call of an op on to another one, through ``around``, which a subclass overrides.

    Methods and other attributes are those of the inner backend.

    Attributes
    ----------
    inner
        The wrapped backend.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        for op in OPS:
            functions = {name: self._wrap(op, name) for name in chapter(op).INTERFACE}
            setattr(self, op, SimpleNamespace(**functions))

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # without this, a copy that is not initialised yet would recurse for ever
            raise AttributeError(name)
        return getattr(self.inner, name)

    def around(self, _op: str, _name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Call the inner backend's function with its arguments by name, and return its result."""
        return function(**arguments)

    def _wrap(self, op: str, name: str) -> Callable[..., Any]:
        reference, function = getattr(chapter(op), name), getattr(getattr(self.inner, op), name)
        signature = inspect.signature(reference)

        @wraps(reference)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return self.around(op, name, function, signature.bind(*args, **kwargs).arguments)

        return wrapped


def unwrapped(backend: object) -> object:
    """Return the innermost backend: the one that computes."""
    while isinstance(backend, Wrapped):
        backend = backend.inner
    return backend


class CheckedArguments(Wrapped):
    """A backend that checks the arguments of every call: their types, and the shape and value rules of the chapter.

    Arrays that a kernel cannot read, such as views, are converted if the backend has the capability
    :class:`refnet.backend.capabilities.Arguments`. ``ArgumentError`` and ``ShapeError`` name the wrong argument.
    """

    def around(self, op: str, name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Check the arguments, and call."""
        return function(**self._taken(op, name, arguments))

    def _taken(self, op: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        take = getattr(self.inner, "argument", device_array)
        return check_of(getattr(chapter(op), name))(arguments, take, self.inner.to_numpy)


class CheckedResults(CheckedArguments):
    """A backend that checks the arguments and the results of every call.

    Raises ``ShapeError`` for results of wrong shapes or of another dtype than the arguments, and ``NumericError`` for a
    result that is not finite although every argument was. Results are copied to the host to be checked, so it is slow.
    """

    def around(self, op: str, name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Call, and check what goes in and what comes out."""
        label = f"{op}.{name} of backend {self.name}"
        arguments = self._taken(op, name, arguments)
        expected = check_of(getattr(chapter(op), name)).shapes(arguments)
        finite = self._are_finite(arguments.values())
        result = function(**arguments)
        results = results_of(result)
        dtypes = {str(a.dtype) for a in arrays_in((*arguments.values(), *results)) if _is_real(a)}
        if len(dtypes) > 1:
            raise ShapeError(f"{label} mixes {' and '.join(sorted(dtypes))}")
        shapes = tuple(None if array is None else tuple(array.shape) for array in results)
        if shapes != expected:
            raise ShapeError(f"{label} returned shapes {shapes}, not {expected}")
        changed = arguments.values() if name.endswith("_") else ()
        if finite and not self._are_finite((*results, *changed)):
            raise NumericError(f"{label} returned NaN or infinity for finite arguments")
        return result

    def _are_finite(self, values: Iterable[Any]) -> bool:
        return all(np.isfinite(self.inner.to_numpy(a)).all() for a in arrays_in(values))


@dataclass(frozen=True)
class OpCall:
    """One call of an op: its arguments by name, and its results."""

    op: str
    function: str
    arguments: Mapping[str, Any]
    results: tuple[Any, ...]


class Tapped(Wrapped):
    """A backend that records every call of an op.

    Attributes
    ----------
    calls
        The calls so far, in order.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.calls: list[OpCall] = []

    def around(self, op: str, name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Return the result of a call, and record the call."""
        result = function(**arguments)
        self.calls.append(OpCall(op, name, arguments, results_of(result)))
        return result


def results_of(result: Any) -> tuple[Any, ...]:
    """Return what an op returned as a tuple of results, whether that was nothing, one array or several."""
    return () if result is None else result if isinstance(result, tuple) else (result,)


def arrays_in(values: Iterable[Any]) -> Iterator[Any]:
    """Find the arrays among the arguments or results of an op, and in the lists among them."""
    for value in values:
        if isinstance(value, list):
            yield from arrays_in(value)
        elif is_array(value):
            yield value


def _is_real(a: Array) -> bool:
    return "float" in str(a.dtype)
