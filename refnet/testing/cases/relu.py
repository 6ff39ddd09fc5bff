"""Cases of :mod:`refnet.ops.relu`."""

import numpy as np
from hypothesis import strategies as st

from refnet.ops import relu
from refnet.testing.call import Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.gradients import LINEAR_TOLERANCE, Differentiable, spread
from refnet.testing.strategies import Geometry, shape, shapes


def _forward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    return {"x": values(*shape(sizes, "NCHW"))}


def _backward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    return {"dy": values(*shape(sizes, "NCHW")), "y": relu.forward(values(*shape(sizes, "NCHW")))}


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    return draw(shapes()), {}


def _differentiable(sizes: Sizes, _options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    return Differentiable(relu.forward, (x,), lambda backward, dy, x: [backward(dy, relu.forward(x))], LINEAR_TOLERANCE)


CASES = (
    Case(
        "relu",
        "forward",
        _geometry(),
        _forward_arguments,
        results=("y",),
        exact="always",
        mutants={
            "NaN becomes zero": lambda x: np.where(x > 0, x, x.dtype.type(0)),
            "minus zero kept": lambda x: np.where(x < 0, x.dtype.type(0), x),
            "absolute value": np.abs,
        },
    ),
    Case(
        "relu",
        "backward",
        _geometry(),
        _backward_arguments,
        results=("dx",),
        exact="always",
        differentiable=_differentiable,
        mutants={
            "derivative 1 at zero": lambda dy, y: np.where(y < 0, dy.dtype.type(0), dy),
            "no gradient where y is NaN": lambda dy, y: np.where(y > 0, dy, dy.dtype.type(0)),
            "multiplied by y": lambda dy, y: dy * y,
        },
        refusals={"dy must have the shape of y": {"dy": (2, 3), "y": (3, 2)}},
    ),
)
