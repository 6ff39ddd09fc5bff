"""Cases of :mod:`refnet.ops.rnorm`."""

from inspect import unwrap
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refnet.ops import lrn, rnorm
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
        y, scale = rnorm.forward(x, **options)
    return {"dy": values(*x.shape), "x": x, "y": y, "scale": scale}


def _forward_allowed(_given: Given, options: Options, expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    """Return 15 eps, as for lrn, and n eps: a sum of n² squares is rounded 2n² times, and sqrt(2 n²) U < n eps."""
    return tuple(relative_bound(array, 15 + options["n"]) for array in expected)


def _backward_allowed(given: Given, options: Options, _expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    """Return 15 + n eps of the sum of both terms' absolute values; with -alpha, backward adds the second term."""
    absolute = [np.abs(array) for array in given.values()]
    unchecked = unwrap(rnorm.backward)  # -alpha is no argument for the op
    return ((15 + options["n"]) * EPS * unchecked(*absolute, **{**options, "alpha": -options["alpha"]}),)


def _forward_with(x: Array, scale: Array, beta: float) -> tuple[Array, Array]:
    return x * scale**-beta, scale


def _window_shifted(x: Array, *, n: int, k: float, alpha: float, beta: float) -> tuple[Array, Array]:
    before = np.concatenate([np.zeros_like(x[:, :, :1]), x[:, :, :-1]], axis=2)
    return _forward_with(x, rnorm.forward(before, n=n, k=k, alpha=alpha, beta=beta)[1], beta)


def _window_wraps(x: Array, *, n: int, k: float, alpha: float, beta: float) -> tuple[Array, Array]:
    shifts = range(-(n // 2), n // 2 + 1)
    squares = np.sum([np.roll(x * x, (down, right), axis=(2, 3)) for down in shifts for right in shifts], axis=0)
    return _forward_with(x, k + alpha * squares, beta)


def _mean_of_the_clipped_window(x: Array, *, n: int, k: float, alpha: float, beta: float) -> tuple[Array, Array]:
    ones = np.ones_like(x)
    counts = rnorm.forward(ones, n=n, k=1.0, alpha=1.0, beta=beta)[1] - 1
    scale = rnorm.forward(x, n=n, k=k, alpha=alpha, beta=beta)[1]
    return _forward_with(x, k + (scale - k) * (n * n / counts), beta)


def _two_forgotten(
    dy: Array, x: Array, y: Array, scale: Array, *, n: int, k: float, alpha: float, beta: float
) -> Array:
    return rnorm.backward(dy, x, y, scale, n=n, k=k, alpha=alpha / 2, beta=beta)


def _beta_forgotten(
    dy: Array, x: Array, y: Array, scale: Array, *, n: int, k: float, alpha: float, beta: float
) -> Array:
    first = dy * scale**-beta
    return first + (rnorm.backward(dy, x, y, scale, n=n, k=k, alpha=alpha, beta=beta) - first) / beta


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    """Draw sizes and hyper-parameters: those of known networks, and others with which the op has a stronger effect."""
    options = {
        "n": draw(st.sampled_from([1, 3, 5, 7])),
        "k": draw(st.sampled_from([1.0, 2.0, 0.5])),
        "alpha": draw(st.sampled_from([1.0, 0.7, 1e-3 / 25, 2.0])),
        "beta": draw(st.sampled_from([0.75, 0.5, 1.0])),
    }
    return draw(distinct("NCHW")), options


CODE2012 = {"n": 5, "k": 1.0, "alpha": 1e-3 / 25, "beta": 0.75}
LARGE = ({"N": 2, "C": 3, "H": 13, "W": 17}, {"n": 5, "k": 1.0, "alpha": 1.0, "beta": 0.75})
X = (2, 3, 5, 7)


def _differentiable(sizes: Sizes, options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    return Differentiable(
        lambda x: rnorm.forward(x, **options)[0],
        (x,),
        lambda backward, dy, x: [backward(dy, x, *rnorm.forward(x, **options), **options)],
        CURVED_TOLERANCE,
    )


CASES = (
    Case(
        "rnorm",
        "forward",
        _geometry(),
        _forward_arguments,
        results=("y", "scale"),
        exact="never",
        allowed=_forward_allowed,
        large=LARGE,
        mutants={
            "alpha divided by n²": lambda x, *, n, alpha, **rest: rnorm.forward(x, n=n, alpha=alpha / n**2, **rest),
            "mean of the clipped window": _mean_of_the_clipped_window,
            "window over the maps": lrn.forward,
            "window shifted by one": _window_shifted,
            "window wraps around": _window_wraps,
            "window of n - 2": lambda x, *, n, **rest: rnorm.forward(x, n=max(n - 2, 1), **rest),
        },
        refusals={
            "x must have 4 axes": {"x": X[1:], **CODE2012},
            "n must be odd": {"x": X, **CODE2012, "n": 4},
            "n must be odd and at least 1, it is -1": {"x": X, **CODE2012, "n": -1},
            "k must be finite and above 0": {"x": X, **CODE2012, "k": 0.0},
            "alpha must be finite and at least 0": {"x": X, **CODE2012, "alpha": -1.0},
            "beta must be finite and at least 0": {"x": X, **CODE2012, "beta": -0.5},
        },
    ),
    Case(
        "rnorm",
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
            "neighbours forgotten": lambda dy, x, y, scale, *, n, **rest: rnorm.backward(dy, x, y, scale, n=1, **rest),  # noqa: ARG005
            "window over the maps": lrn.backward,
            "x in place of y": lambda dy, x, _y, scale, **options: rnorm.backward(dy, x, x, scale, **options),
        },
        refusals={
            "dy must have the shape of x": {"dy": (2, 3, 7, 5), "x": X, "y": X, "scale": X, **CODE2012},
            "scale must have the shape of x": {"dy": X, "x": X, "y": X, "scale": X[1:], **CODE2012},
            "n must be odd": {"dy": X, "x": X, "y": X, "scale": X, **CODE2012, "n": 2},
        },
    ),
)
