"""Cases of :mod:`refnet.ops.tanh`."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from refnet.ops import tanh
from refnet.testing.bounds import relative_bound
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.gradients import CURVED_TOLERANCE, Differentiable, spread
from refnet.testing.strategies import Geometry, shape, shapes


def _forward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    return {"x": values(*shape(sizes, "NCHW")) * np.float32(sizes["percent"] / 100)}


def _backward_arguments(sizes: Sizes, options: Options, values: Values) -> Given:
    y = tanh.forward(_forward_arguments(sizes, options, values)["x"])
    return {"dy": values(*shape(sizes, "NCHW")), "y": y}


def _forward_allowed(_given: Given, _options: Options, expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    """Return eight eps of tanh; the best float32 libraries stay within two, vectorised ones within four."""
    return (relative_bound(expected[0], 8),)


def _backward_allowed(_given: Given, _options: Options, expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    """Return the largest error of dy (1 - y) (1 + y): four roundings of at most half an eps each."""
    return (relative_bound(expected[0], 2.01),)


def _by_exponential(x: Array) -> Array:
    e = np.exp(2 * x)
    y: Array = (e - 1) / (e + 1)
    return y


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    """Draw sizes and a scale of x in percent: at 1 all x are near 0, at 300 some reach where 1 - y is small."""
    return {**draw(shapes()), "percent": draw(st.sampled_from([1, 100, 300]))}, {}


LARGE: Geometry = ({"N": 7, "C": 131, "percent": 100}, {})


def _differentiable(sizes: Sizes, _options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    return Differentiable(tanh.forward, (x,), lambda backward, dy, x: [backward(dy, tanh.forward(x))], CURVED_TOLERANCE)


CASES = (
    Case(
        "tanh",
        "forward",
        _geometry(),
        _forward_arguments,
        results=("y",),
        exact="never",
        allowed=_forward_allowed,
        large=LARGE,
        mutants={
            "computed from exponentials, which cancel near 0": _by_exponential,
            "the logistic function": lambda x: 1 / (1 + np.exp(-x)),
            "x clipped to -1..1": lambda x: np.clip(x, -1, 1),
        },
    ),
    Case(
        "tanh",
        "backward",
        _geometry(),
        _backward_arguments,
        results=("dx",),
        exact="never",
        allowed=_backward_allowed,
        large=LARGE,
        differentiable=_differentiable,
        mutants={
            "1 - y in place of 1 - y²": lambda dy, y: dy * (1 - y),
            "1 - y² computed as written, which cancels near ±1": lambda dy, y: dy * (1 - y * y),
            "sign reversed": lambda dy, y: -dy * (1 - y) * (1 + y),
        },
        refusals={"dy must have the shape of y": {"dy": (2, 3), "y": (3, 2)}},
    ),
)
