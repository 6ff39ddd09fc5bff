"""Cases of :mod:`refnet.ops.tanh`."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from refnet.ops import tanh
from refnet.testing.bounds import relative_bound
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.gradients import CURVED, Differentiable, spread
from refnet.testing.strategies import Geometry, shape, shapes


def _forward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    return {"x": values(*shape(sizes, "NCHW")) * np.float32(sizes["percent"] / 100)}


def _backward_arguments(sizes: Sizes, options: Options, values: Values) -> Given:
    y = tanh.forward(_forward_arguments(sizes, options, values)["x"])
    return {"dy": values(*shape(sizes, "NCHW")), "y": y}


def _forward_allowed(_given: Given, _options: Options, expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    """Eight eps of tanh: the best float32 libraries keep to two, vector ones to four."""
    return (relative_bound(expected[0], 8),)


def _backward_allowed(_given: Given, _options: Options, expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    """Allow the four roundings of dy (1 - y) (1 + y), each of half an eps at most."""
    return (relative_bound(expected[0], 2.01),)


def _by_exponential(x: Array) -> Array:
    e = np.exp(2 * x)
    y: Array = (e - 1) / (e + 1)
    return y


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    """Draw a shape, and how large x is in hundredths: a hundredth keeps near 0, three reaches where 1 - y is small."""
    return {**draw(shapes()), "percent": draw(st.sampled_from([1, 100, 300]))}, {}


ROOMY: Geometry = ({"N": 7, "C": 131, "percent": 100}, {})


def _differentiable(sizes: Sizes, _options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    return Differentiable(tanh.forward, (x,), lambda backward, dy, x: [backward(dy, tanh.forward(x))], CURVED)


CASES = (
    Case(
        "tanh",
        "forward",
        _geometry(),
        _forward_arguments,
        results=("y",),
        exact="never",
        allowed=_forward_allowed,
        roomy=ROOMY,
        mutants={
            "by exponentials, which cancel near 0": _by_exponential,
            "the logistic function": lambda x: 1 / (1 + np.exp(-x)),
            "cut off at 1": lambda x: np.clip(x, -1, 1),
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
        roomy=ROOMY,
        differentiable=_differentiable,
        mutants={
            "square forgotten": lambda dy, y: dy * (1 - y),
            "1 - y², which cancels near 1": lambda dy, y: dy * (1 - y * y),
            "sign": lambda dy, y: -dy * (1 - y) * (1 + y),
        },
        refusals={"dy must have the shape of y": {"dy": (2, 3), "y": (3, 2)}},
    ),
)
