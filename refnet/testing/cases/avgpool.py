"""Cases of :mod:`refnet.ops.avgpool`."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from refnet.ops import avgpool, maxpool
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.gradients import LINEAR_TOLERANCE, Differentiable, rounded_spread
from refnet.testing.strategies import Geometry, shape, sliding


def _forward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    return {"x": values(*shape(sizes, "NCHW"))}


def _backward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    return {"dy": values(*shape(sizes, "NCPQ"))}


def _divided_by_the_whole_window(x: Array, *, size: int, stride: int, ceil: bool = False) -> Array:
    P, Q = avgpool.forward_shapes(x.shape, size=size, stride=stride, ceil=ceil)[0][2:]
    edges = [(0, max(0, (count - 1) * stride + size - n)) for count, n in zip((P, Q), x.shape[2:], strict=True)]
    return avgpool.forward(np.pad(x, ((0, 0), (0, 0), *edges)), size=size, stride=stride)


def _whole_window_in_backward(
    dy: Array, *, x_shape: tuple[int, ...], size: int, stride: int, ceil: bool = False
) -> Array:
    del ceil
    H, W = x_shape[2:]
    larger = [max(n, (count - 1) * stride + size) for count, n in zip(dy.shape[2:], (H, W), strict=True)]
    return avgpool.backward(dy, x_shape=(*x_shape[:2], *larger), size=size, stride=stride)[:, :, :H, :W]


def _rows_first(x: Array, **options: Any) -> Array:
    return avgpool.forward(x.swapaxes(2, 3), **options).swapaxes(2, 3)


def _rows_first_in_backward(dy: Array, *, x_shape: tuple[int, ...], **options: Any) -> Array:
    N, C, H, W = x_shape
    return avgpool.backward(dy.swapaxes(2, 3), x_shape=(N, C, W, H), **options).swapaxes(2, 3)


def _overwritten(dy: Array, *, x_shape: tuple[int, ...], **options: Any) -> Array:
    """Return the gradient that each pixel receives from the last window alone that contains it."""
    dx = np.zeros(x_shape, dy.dtype)
    for p, q in np.ndindex(dy.shape[2:]):
        alone = np.zeros_like(dy)
        alone[:, :, p, q] = dy[:, :, p, q]
        sent = avgpool.backward(alone, x_shape=x_shape, **options)
        dx = np.where(sent != 0, sent, dx)
    return dx


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
    window = {name: options[name] for name in ("size", "stride", "ceil")}
    return Differentiable(
        lambda x: avgpool.forward(x, **window),
        (rounded_spread(rng, *shape(sizes, "NCHW")),),
        lambda backward, dy, x: [backward(dy, x_shape=x.shape, **window)],
        LINEAR_TOLERANCE,
    )


CASES = (
    Case(
        "avgpool",
        "forward",
        _forward_geometry(),
        _forward_arguments,
        results=("y",),
        exact="always",
        mutants={
            "divided by the whole window": _divided_by_the_whole_window,
            "sum instead of mean": lambda x, *, size, **options: (
                avgpool.forward(x, size=size, **options) * x.dtype.type(size * size)
            ),
            "maximum instead of mean": lambda x, **options: maxpool.forward(x, **options)[0],
            "window shifted by one": lambda x, **options: avgpool.forward(np.roll(x, -1, axis=2), **options),
            "rows of a window added up before columns": _rows_first,
        },
        refusals={
            "x must have 4 axes": {"x": X[1:], "size": 3, "stride": 2},
            "the window must be at least 1": {"x": X, "size": 0, "stride": 2},
            "stride must be at least 1": {"x": X, "size": 3, "stride": 0},
            "a window of 8 does not fit in 7": {"x": X, "size": 8, "stride": 2},
        },
    ),
    Case(
        "avgpool",
        "backward",
        _backward_geometry(),
        _backward_arguments,
        results=("dx",),
        exact="always",
        differentiable=_differentiable,
        mutants={
            "divided by the whole window": _whole_window_in_backward,
            "overwrite instead of accumulate": _overwritten,
            "not divided": lambda dy, *, size, **options: (
                avgpool.backward(dy, size=size, **options) * dy.dtype.type(size * size)
            ),
            "shares added column by column": _rows_first_in_backward,
            "window shifted by one": lambda dy, **options: np.roll(avgpool.backward(dy, **options), 1, axis=3),
        },
        refusals={
            "dy must have the shape of y": {"dy": (2, 3, 3, 3), "x_shape": X, "size": 3, "stride": 2},
            "stride must be at least 1": {"dy": (2, 3, 3, 4), "x_shape": X, "size": 3, "stride": 0},
        },
    ),
)
