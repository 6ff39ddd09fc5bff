"""Cases of :mod:`refnet.ops.maxpool`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refnet.ops import maxpool
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.gradients import LINEAR_TOLERANCE, Differentiable, spread
from refnet.testing.strategies import Geometry, shape, sliding


def _forward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    return {"x": values(*shape(sizes, "NCHW"))}


def _backward_arguments(sizes: Sizes, options: Options, values: Values) -> Given:
    """Return dy and positions; these come from the reference's forward, so that none is beyond the edge."""
    x = values(*shape(sizes, "NCHW"))
    _, which = maxpool.forward(x, **{name: options[name] for name in ("size", "stride", "ceil")})
    return {"dy": values(*which.shape), "which": which}


def _last_of_equals(x: Array, *, size: int, stride: int, ceil: bool = False) -> tuple[Array, Array]:
    y, which = maxpool.forward(x, size=size, stride=stride, ceil=ceil)
    for p, q in np.ndindex(y.shape[2:]):
        window = x[:, :, p * stride : p * stride + size, q * stride : q * stride + size]
        for r, s in np.ndindex(window.shape[2:]):
            which[..., p, q] = np.where(window[..., r, s] == y[..., p, q], r * size + s, which[..., p, q])
    return y, which


def _nan_ignored(x: Array, **options: Any) -> tuple[Array, Array]:
    return maxpool.forward(np.where(np.isnan(x), np.float32(-np.inf), x), **options)


def _zeros_beyond_the_edge(x: Array, *, size: int, stride: int, ceil: bool = False) -> tuple[Array, Array]:
    P, Q = maxpool.forward_shapes(x.shape, size=size, stride=stride, ceil=ceil)[0][2:]
    edges = [(0, max(0, (count - 1) * stride + size - n)) for count, n in zip((P, Q), x.shape[2:], strict=True)]
    return maxpool.forward(np.pad(x, ((0, 0), (0, 0), *edges)), size=size, stride=stride)


def _columns_first(x: Array, *, size: int, **options: Any) -> tuple[Array, Array]:
    y, which = maxpool.forward(x, size=size, **options)
    return y, which % size * size + which // size


def _sent(dy: Array, which: Array, size: int, options: Options) -> list[Array]:
    """Return, for each position in the window, the dx that comes from maxima at that position alone."""
    return [
        maxpool.backward(np.where(which == position, dy, dy.dtype.type(0)), which, size=size, **options)
        for position in range(size * size)
    ]


def _overwritten(dy: Array, which: Array, *, size: int, **options: Any) -> Array:
    dx = np.zeros(options["x_shape"], dy.dtype)
    for sent in _sent(dy, which, size, options):
        dx = np.where(sent != 0, sent, dx)
    return dx


def _position_transposed(dy: Array, which: Array, *, size: int, **options: Any) -> Array:
    return maxpool.backward(dy, which % size * size + which // size, size=size, **options)


@st.composite
def _forward_geometry(draw: st.DrawFn) -> Geometry:
    sizes, options = draw(sliding("NC", square=True, padded=False))
    return sizes, {"size": sizes["R"], **options}


@st.composite
def _backward_geometry(draw: st.DrawFn) -> Geometry:
    sizes, options = draw(_forward_geometry())
    return sizes, {"x_shape": shape(sizes, "NCHW"), **options}


X = (2, 3, 7, 9)


def _differentiable(sizes: Sizes, options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    window = {name: options[name] for name in ("size", "stride", "ceil")}

    def pull(backward: Callable[..., Any], dy: Array, x: Array) -> list[Array]:
        return [backward(dy, maxpool.forward(x, **window)[1], x_shape=x.shape, **window)]

    return Differentiable(lambda x: maxpool.forward(x, **window)[0], (x,), pull, LINEAR_TOLERANCE)


CASES = (
    Case(
        "maxpool",
        "forward",
        _forward_geometry(),
        _forward_arguments,
        results=("y", "which"),
        exact="always",
        zeros=0.99,
        mutants={
            "the last of equal maxima wins": _last_of_equals,
            "NaN ignored": _nan_ignored,
            "zeros beyond the edge": _zeros_beyond_the_edge,
            "positions counted column by column": _columns_first,
        },
        refusals={
            "x must have 4 axes": {"x": X[1:], "size": 3, "stride": 2},
            "size must be at most 16": {"x": (1, 1, 40, 41), "size": 17, "stride": 2},
            "the window must be at least 1": {"x": X, "size": 0, "stride": 2},
            "stride must be at least 1": {"x": X, "size": 3, "stride": 0},
            "a window of 8 does not fit in 7": {"x": X, "size": 8, "stride": 2},
        },
    ),
    Case(
        "maxpool",
        "backward",
        _backward_geometry(),
        _backward_arguments,
        results=("dx",),
        exact="always",
        zeros=0.99,
        differentiable=_differentiable,
        mutants={
            "overwrite instead of accumulate": _overwritten,
            "positions counted column by column": _position_transposed,
            "window shifted by one": lambda dy, which, **options: np.roll(
                maxpool.backward(dy, which, **options), 1, axis=3
            ),
        },
        refusals={
            "dy must have the shape of y": {
                "dy": (2, 3, 3, 3),
                "which": (2, 3, 3, 4),
                "x_shape": X,
                "size": 3,
                "stride": 2,
            },
            "which must have the shape of y": {
                "dy": (2, 3, 3, 4),
                "which": (2, 3, 4, 3),
                "x_shape": X,
                "size": 3,
                "stride": 2,
            },
        },
    ),
)
