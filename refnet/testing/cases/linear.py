"""Cases of :mod:`refnet.ops.linear`."""

from typing import Any

import numpy as np

from refnet.ops import linear
from refnet.testing.bounds import data_bound
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.gradients import LINEAR_TOLERANCE, Differentiable, rounded_spread
from refnet.testing.strategies import Geometry, dense, shape


def _x_shape(sizes: Sizes) -> tuple[int, ...]:
    return shape(sizes, "NCHW") if "C" in sizes else shape(sizes, "ND")


def _forward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    x = values(*_x_shape(sizes))
    return {"x": x, "w": values(*shape(sizes, "KD"), special=False), "b": values(sizes["K"], special=False)}


def _backward_arguments(sizes: Sizes, options: Options, values: Values) -> Given:
    given = _forward_arguments(sizes, options, values)
    return {"dy": values(*shape(sizes, "NK")), "x": given["x"], "w": given["w"]}


def forward_allowed(given: Given, _options: Options, expected: tuple[Any, ...], precision: str) -> tuple[Any, ...]:
    """Return the largest allowed error of y, a sum over the inputs and the bias."""
    bracket = linear.forward(*(np.abs(array) for array in given.values()))
    return (_bound(expected[0], bracket, given["w"].shape[1] + 1, precision),)


def backward_allowed(given: Given, _options: Options, expected: tuple[Any, ...], precision: str) -> tuple[Any, ...]:
    """Return the largest allowed errors of dx, a sum over the outputs, and of dw and db, sums over the samples."""
    brackets = linear.backward(*(np.abs(array) for array in given.values()))
    N, K = given["dy"].shape
    return tuple(
        _bound(y64, bracket, terms, precision)
        for y64, bracket, terms in zip(expected, brackets, (K, N, N), strict=True)
    )


def _bound(y64: Any, bracket: Any, terms: int, precision: str) -> Any:
    """Return ``data_bound``; in tf32, a GPU may truncate the factors of these products, not round them."""
    return data_bound(y64, bracket, terms, precision, truncated=True)


def _without_last(a: Array) -> Array:
    a = a.copy()
    a[..., -1] = 0
    return a


def _columns_first(x: Array, w: Array, b: Array) -> Array:
    return linear.forward(np.ascontiguousarray(np.moveaxis(x, 1, -1)), w, b)


def _db_averaged(dy: Array, x: Array, w: Array) -> tuple[Array, ...]:
    dx, dw, db = linear.backward(dy, x, w)
    return dx, dw, db / len(dy)


def _last_sample_forgotten(dy: Array, x: Array, w: Array) -> tuple[Array, ...]:
    dx, _, db = linear.backward(dy, x, w)
    return dx, linear.backward(dy[:-1], x[:-1], w)[1], db


def _last_output_forgotten(dy: Array, x: Array, w: Array) -> tuple[Array, ...]:
    _, dw, db = linear.backward(dy, x, w)
    return linear.backward(_without_last(dy), x, w)[0], dw, db


LARGE: Geometry = ({"N": 131, "D": 131, "K": 31}, {})


def differentiable(sizes: Sizes, _options: Options, rng: np.random.Generator) -> Differentiable:
    """Return the op with inputs of 16 significant bits, so that sums of products are exact in float64."""
    x = rounded_spread(rng, *_x_shape(sizes))
    return Differentiable(
        linear.forward,
        (x, rounded_spread(rng, *shape(sizes, "KD")), rounded_spread(rng, *shape(sizes, "K"))),
        lambda backward, dy, x, w, _b: backward(dy, x, w),
        LINEAR_TOLERANCE,
    )


CASES = (
    Case(
        "linear",
        "forward",
        dense(),
        _forward_arguments,
        results=("y",),
        exact="integers",
        allowed=forward_allowed,
        large=LARGE,
        mutants={
            "last input dropped": lambda x, w, b: linear.forward(x, _without_last(w), b),
            "bias forgotten": lambda x, w, b: linear.forward(x, w, 0 * b),
            "channels flattened last": _columns_first,
        },
        refusals={
            "x must have a batch axis": {"x": (4,), "w": (3, 4), "b": (3,)},
            "w must have 2 axes": {"x": (2, 4), "w": (3, 2, 2), "b": (3,)},
            "w must have x's 20 columns": {"x": (2, 4, 5), "w": (3, 4), "b": (3,)},
            "one bias for each of the 3": {"x": (2, 4), "w": (3, 4), "b": (4,)},
        },
    ),
    Case(
        "linear",
        "backward",
        dense(),
        _backward_arguments,
        results=("dx", "dw", "db"),
        exact="integers",
        allowed=backward_allowed,
        large=LARGE,
        differentiable=differentiable,
        mutants={
            "last output left out of dx": _last_output_forgotten,
            "last sample left out of dw": _last_sample_forgotten,
            "db averaged over the batch": _db_averaged,
        },
        refusals={
            "dy must have the shape of y": {"dy": (2, 4), "x": (2, 4), "w": (3, 4)},
            "w must have x's 5 columns": {"dy": (2, 3), "x": (2, 5), "w": (3, 4)},
        },
    ),
)
