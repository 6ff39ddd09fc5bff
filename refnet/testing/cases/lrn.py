"""Cases of :mod:`refnet.ops.lrn`."""

from inspect import unwrap
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refnet.ops import lrn
from refnet.testing.bounds import EPS, relative_bound
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.gradients import CURVED_TOLERANCE, Differentiable, spread
from refnet.testing.strategies import Geometry, distinct, shape


def _forward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    return {"x": values(*shape(sizes, "NCHW"))}


def _backward_arguments(sizes: Sizes, options: Options, values: Values) -> Given:
    x = values(*shape(sizes, "NCHW"))
    with np.errstate(invalid="ignore"):
        y, scale = lrn.forward(x, **options)
    return {"dy": values(*x.shape), "x": x, "y": y, "scale": scale}


def _forward_allowed(_given: Given, _options: Options, expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    return tuple(relative_bound(array, 15) for array in expected)


def _backward_allowed(given: Given, options: Options, _expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    """Return 15 eps of the sum of both terms' absolute values; with -alpha, backward adds the second term."""
    absolute = [np.abs(array) for array in given.values()]
    unchecked = unwrap(lrn.backward)  # -alpha is no argument for the op
    return (15 * EPS * unchecked(*absolute, **{**options, "alpha": -options["alpha"]}),)


def _forward_with(x: Array, scale: Array, beta: float) -> tuple[Array, Array]:
    return x * scale**-beta, scale


def _window_shifted(x: Array, *, n: int, k: float, alpha: float, beta: float) -> tuple[Array, Array]:
    before = np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1)
    return _forward_with(x, lrn.forward(before, n=n, k=k, alpha=alpha, beta=beta)[1], beta)


def _window_over_the_batch(x: Array, *, n: int, k: float, alpha: float, beta: float) -> tuple[Array, Array]:
    scale = lrn.forward(x.swapaxes(0, 1), n=n, k=k, alpha=alpha, beta=beta)[1].swapaxes(0, 1)
    return _forward_with(x, scale, beta)


def _window_wraps(x: Array, *, n: int, k: float, alpha: float, beta: float) -> tuple[Array, Array]:
    squares = np.sum([np.roll(x * x, shift, axis=1) for shift in range(-(n // 2), n // 2 + 1)], axis=0)
    return _forward_with(x, k + alpha * squares, beta)


def _two_forgotten(
    dy: Array, x: Array, y: Array, scale: Array, *, n: int, k: float, alpha: float, beta: float
) -> Array:
    return lrn.backward(dy, x, y, scale, n=n, k=k, alpha=alpha / 2, beta=beta)


def _beta_forgotten(
    dy: Array, x: Array, y: Array, scale: Array, *, n: int, k: float, alpha: float, beta: float
) -> Array:
    first = dy * scale**-beta
    return first + (lrn.backward(dy, x, y, scale, n=n, k=k, alpha=alpha, beta=beta) - first) / beta


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    """Draw sizes and hyper-parameters: the paper's, and others with which the op has a stronger effect."""
    options = {
        "n": draw(st.sampled_from([1, 3, 5, 7, 9])),
        "k": draw(st.sampled_from([1.0, 2.0, 0.5])),
        "alpha": draw(st.sampled_from([1.0, 0.7, 1e-4, 2.0])),
        "beta": draw(st.sampled_from([0.75, 0.5, 1.0])),
    }
    return draw(distinct("NCHW")), options


PAPER = {"n": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.75}
LARGE = ({"N": 3, "C": 13, "H": 5, "W": 7}, {"n": 5, "k": 2.0, "alpha": 1.0, "beta": 0.75})
X = (2, 3, 5, 7)


def _differentiable(sizes: Sizes, options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    return Differentiable(
        lambda x: lrn.forward(x, **options)[0],
        (x,),
        lambda backward, dy, x: [backward(dy, x, *lrn.forward(x, **options), **options)],
        CURVED_TOLERANCE,
    )


CASES = (
    Case(
        "lrn",
        "forward",
        _geometry(),
        _forward_arguments,
        results=("y", "scale"),
        exact="never",
        allowed=_forward_allowed,
        large=LARGE,
        mutants={
            "alpha divided by n": lambda x, *, n, k, alpha, beta: lrn.forward(x, n=n, k=k, alpha=alpha / n, beta=beta),
            "window shifted by one": _window_shifted,
            "window along the batch": _window_over_the_batch,
            "window wraps around": _window_wraps,
            "window of n - 2": lambda x, *, n, **rest: lrn.forward(x, n=max(n - 2, 1), **rest),
        },
        refusals={
            "x must have 4 axes": {"x": X[1:], **PAPER},
            "n must be odd": {"x": X, **PAPER, "n": 4},
            "n must be odd and at least 1, it is -1": {"x": X, **PAPER, "n": -1},
            "k must be finite and above 0": {"x": X, **PAPER, "k": 0.0},
            "alpha must be finite and at least 0": {"x": X, **PAPER, "alpha": -1.0},
            "beta must be finite and at least 0": {"x": X, **PAPER, "beta": -0.5},
        },
    ),
    Case(
        "lrn",
        "backward",
        _geometry(),
        _backward_arguments,
        results=("dx",),
        exact="never",
        allowed=_backward_allowed,
        large=LARGE,
        differentiable=_differentiable,
        mutants={
            "the 2 in 2 alpha beta forgotten": _two_forgotten,
            "beta forgotten": _beta_forgotten,
            "identity": lambda dy, _x, _y, _scale, **_: dy.copy(),
            "neighbours forgotten": lambda dy, x, y, scale, *, n, **rest: lrn.backward(dy, x, y, scale, n=1, **rest),  # noqa: ARG005
            "x in place of y": lambda dy, x, _y, scale, **options: lrn.backward(dy, x, x, scale, **options),
        },
        refusals={
            "dy must have the shape of x": {"dy": (2, 3, 7, 5), "x": X, "y": X, "scale": X, **PAPER},
            "scale must have the shape of x": {"dy": X, "x": X, "y": X, "scale": X[1:], **PAPER},
            "n must be odd": {"dy": X, "x": X, "y": X, "scale": X, **PAPER, "n": 2},
        },
    ),
)
