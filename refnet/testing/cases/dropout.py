"""Cases of :mod:`refnet.ops.dropout`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refnet.ops import dropout
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.cases.philox import nine_rounds
from refnet.testing.gradients import LINEAR_TOLERANCE, Differentiable, spread
from refnet.testing.strategies import Geometry, counters, keys, shape, shapes


def _argument(name: str) -> Callable[[Sizes, Options, Values], Given]:
    return lambda sizes, _options, values: {name: values(*shape(sizes, "NCHW"))}


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    """Draw sizes and options. The seed is increased until the mask keeps at least 15 % of the units."""
    sizes, drop = draw(shapes(min_axes=2)), draw(st.sampled_from([0.5, 0.0, 0.25, 0.1, 0.75]))
    (seed, purpose), counter = draw(keys()), draw(counters())
    while dropout.mask(shape(sizes, "NCHW"), drop=drop, key=(seed, purpose), counter=counter).mean() < 0.15:
        seed += 1
    return sizes, {"drop": drop, "key": (seed, purpose), "counter": counter}


def _with_changed(**changes: Callable[[Any], Any]) -> Callable[..., Array]:
    """Return a dropout that changes the named options before it uses them."""
    return lambda a, **options: dropout.forward(
        a, **{name: changes.get(name, lambda value: value)(value) for name, value in options.items()}
    )


MUTANTS = {
    "scaled in training": lambda a, *, drop, **rest: dropout.forward(a, drop=drop, **rest) / a.dtype.type(1 - drop),
    "kept and dropped units exchanged": lambda a, **options: a - dropout.forward(a, **options),
    "mask of the next step": _with_changed(counter=lambda c: (c[0] + 1, *c[1:])),
    "counter's sample ignored": _with_changed(counter=lambda c: (*c[:2], 0, c[3])),
    "counter's feature ignored": _with_changed(counter=lambda c: (*c[:3], 0)),
    "nine rounds of Philox": nine_rounds(dropout.forward),
    "a dropped NaN stays": lambda a, **options: a * dropout.mask(a.shape, **options),
}

A, RANDOM = (3, 4), {"key": (1, 2), "counter": (0, 0, 0, 0)}
REFUSALS: dict[str, dict[str, Any]] = {
    "x must have a batch axis": {"x": (4,), "drop": 0.5, **RANDOM},
    "drop must be at least 0 and below 1, it is 1": {"x": A, "drop": 1.0, **RANDOM},
    "drop must be at least 0 and below 1, it is -0.5": {"x": A, "drop": -0.5, **RANDOM},
    "drop must be at least 0 and below 1, it is nan": {"x": A, "drop": np.nan, **RANDOM},
    "key is": {"x": A, "drop": 0.5, **RANDOM, "key": (1,)},
    "counter is": {"x": A, "drop": 0.5, **RANDOM, "counter": (0, 0, 0)},
}


def _renamed(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"dy" if name == "x" else name: value for name, value in arguments.items()}


def _differentiable(sizes: Sizes, options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    return Differentiable(
        lambda x: dropout.forward(x, **options),
        (x,),
        lambda backward, dy, _x: [backward(dy, **options)],
        LINEAR_TOLERANCE,
    )


CASES = (
    Case(
        "dropout",
        "forward",
        _geometry(),
        _argument("x"),
        results=("y",),
        exact="always",
        mutants=MUTANTS,
        refusals=REFUSALS,
    ),
    Case(
        "dropout",
        "backward",
        _geometry(),
        _argument("dy"),
        results=("dx",),
        exact="always",
        differentiable=_differentiable,
        mutants=MUTANTS,
        refusals={message: _renamed(arguments) for message, arguments in REFUSALS.items()},
    ),
    Case(
        "dropout",
        "expected",
        _geometry().map(lambda drawn: (drawn[0], {"drop": drawn[1]["drop"]})),
        _argument("x"),
        results=("y",),
        exact="always",
        mutants={
            "divided instead of multiplied": lambda x, *, drop: x / x.dtype.type(1 - drop),
            "not scaled": lambda x, *, drop: x.copy(),  # noqa: ARG005
            "scaled by drop": lambda x, *, drop: x * x.dtype.type(drop),
        },
        refusals={
            "x must have a batch axis": {"x": (4,), "drop": 0.5},
            "drop must be at least 0 and below 1": {"x": A, "drop": 1.0},
        },
    ),
)
