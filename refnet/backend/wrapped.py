"""Backends that stand around another one and watch its calls."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from refnet.backend.interface import Array
from refnet.errors import NumericError, ShapeError
from refnet.ops import OPS


class Checked:
    """A backend whose every call is held to its chapter: shapes, dtypes and values going in, and coming out.

    Raises ``ShapeError`` for arguments that break the rule or results that do, and where real numbers of two dtypes
    meet; ``NumericError`` for a result that is not finite although every argument was. Results are brought to the
    host to be looked at, so it is slow.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        for op in OPS:
            chapter = import_module(f"refnet.ops.{op}")
            functions = {name: self._check(op, chapter, name) for name in chapter.INTERFACE}
            setattr(self, op, SimpleNamespace(**functions))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def _check(self, op: str, chapter: ModuleType, name: str) -> Callable[..., Any]:
        reference = getattr(chapter, name)
        shapes_rule = getattr(chapter, f"{name}_shapes")
        values_rule = getattr(chapter, f"{name}_values", None)
        function = getattr(getattr(self._backend, op), name)
        signature = inspect.signature(reference)

        @wraps(reference)
        def checked(*args: Any, **kwargs: Any) -> Any:
            arguments = signature.bind(*args, **kwargs).arguments
            expected = shapes_rule(**{key: _each(_shape, value) for key, value in arguments.items()})
            if values_rule:
                values_rule(**{key: _each(self._backend.to_numpy, value) for key, value in arguments.items()})
            sound = self._are_finite(arguments.values())
            result = function(*args, **kwargs)
            results = () if result is None else result if isinstance(result, tuple) else (result,)
            dtypes = {str(a.dtype) for a in arrays_in((*arguments.values(), *results)) if _is_real(a)}
            if len(dtypes) > 1:
                raise ShapeError(f"{op}.{name} of backend {self.name} mixes {' and '.join(sorted(dtypes))}")
            shapes = tuple(None if array is None else tuple(array.shape) for array in results)
            if shapes != tuple(expected):
                raise ShapeError(f"{op}.{name} of backend {self.name} returned shapes {shapes}, not {tuple(expected)}")
            changed = arguments.values() if name.endswith("_") else ()
            if sound and not self._are_finite((*results, *changed)):
                raise NumericError(f"{op}.{name} of backend {self.name} made NaN or infinity out of finite numbers")
            return result

        return checked

    def _are_finite(self, values: Iterable[Any]) -> bool:
        return all(np.isfinite(self._backend.to_numpy(a)).all() for a in arrays_in(values))


def arrays_in(values: Iterable[Any]) -> Iterator[Any]:
    """Find the arrays among the arguments or results of an op, and in the lists among them."""
    for value in values:
        if isinstance(value, list):
            yield from arrays_in(value)
        elif _is_array(value):
            yield value


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_real(a: Array) -> bool:
    return "float" in str(a.dtype)


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to an array, or to each of a list; whatever else there is stays as it is."""
    if isinstance(value, list):
        return [_each(function, one) for one in value]
    return function(value) if _is_array(value) else value


def _shape(a: Array) -> tuple[int, ...]:
    return tuple(a.shape)
