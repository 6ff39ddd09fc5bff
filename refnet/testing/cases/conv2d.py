"""Cases of :mod:`refnet.ops.conv2d`."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from refnet.ops import conv2d
from refnet.testing.bounds import data_bound
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.gradients import LINEAR_TOLERANCE, Differentiable, rounded_spread
from refnet.testing.strategies import Geometry, shape, sliding


def _forward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    x = values(*shape(sizes, "NCHW"))
    return {"x": x, "w": values(*shape(sizes, "KCRS"), special=False), "b": values(sizes["K"], special=False)}


def _backward_arguments(sizes: Sizes, options: Options, values: Values) -> Given:
    given = _forward_arguments(sizes, options, values)
    return {"dy": values(*shape(sizes, "NKPQ")), "x": given["x"], "w": given["w"]}


def _absolute(given: Given) -> list[Array]:
    return [np.abs(array) for array in given.values()]


def forward_allowed(given: Given, options: Options, expected: tuple[Any, ...], precision: str) -> tuple[Any, ...]:
    """Return the largest allowed error of y, a sum of one product per weight of the kernel and the bias."""
    terms = given["w"][0].size + 1
    return (data_bound(expected[0], conv2d.forward(*_absolute(given), **options), terms, precision),)


def backward_allowed(given: Given, options: Options, expected: tuple[Any, ...], precision: str) -> tuple[Any, ...]:
    """Return the largest allowed errors of dx, dw and db.

    An element of dx is a sum over all kernels and over the weights that read that pixel. Elements of dw and db are
    sums over the outputs of all samples.
    """
    brackets = conv2d.backward(*_absolute(given), **options)
    K, _, R, S = given["w"].shape
    readers = -(-R // options["stride"]) * -(-S // options["stride"])
    outputs = given["dy"][:, 0].size
    return tuple(
        None if y64 is None or bracket is None else data_bound(y64, bracket, terms, precision)
        for y64, bracket, terms in zip(expected, brackets, (K * readers, outputs, outputs), strict=True)
    )


def _without_last_weight(w: Array) -> Array:
    w = w.copy()
    w[..., -1, -1] = 0
    return w


def _shifted(x: Array) -> Array:
    """Return the images moved left by one pixel; the rightmost column is zero."""
    return np.pad(x[..., 1:], ((0, 0), (0, 0), (0, 0), (0, 1)))


def _border_repeats(x: Array, w: Array, b: Array, *, stride: int, pad: int, ceil: bool = False) -> Array:
    edges = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="edge")
    return conv2d.forward(edges, w, b, stride=stride, pad=0, ceil=ceil)


def _last_weight_forgotten(dy: Array, x: Array, w: Array, **options: Any) -> tuple[Any, ...]:
    dx, dw, db = conv2d.backward(dy, x, _without_last_weight(w), **options)
    return dx, _without_last_weight(dw), db


def _dx_mirrored(dy: Array, x: Array, w: Array, **options: Any) -> tuple[Any, ...]:
    _, dw, db = conv2d.backward(dy, x, w, **options)
    return conv2d.backward(dy, x, w[..., ::-1, ::-1], **options)[0], dw, db


def _dx_overwritten(dy: Array, x: Array, w: Array, **options: Any) -> tuple[Any, ...]:
    """Return dx with only the last weight's contribution to each pixel instead of the sum over all weights."""
    dx, dw, db = conv2d.backward(dy, x, w, **options)
    for r, s in np.ndindex(w.shape[2:]):
        single = np.zeros_like(w)
        single[..., r, s] = w[..., r, s]
        sent = conv2d.backward(dy, x, single, **options)[0]
        dx = None if dx is None or sent is None else np.where(sent != 0, sent, dx)
    return dx, dw, db


def _last_sample_forgotten(dy: Array, x: Array, w: Array, **options: Any) -> tuple[Any, ...]:
    dx, _, db = conv2d.backward(dy, x, w, **options)
    return dx, conv2d.backward(dy[:-1], x[:-1], w, **options)[1], db


def _db_averaged(dy: Array, x: Array, w: Array, **options: Any) -> tuple[Any, ...]:
    dx, dw, db = conv2d.backward(dy, x, w, **options)
    return dx, dw, db / len(dy)


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    """Draw sizes and options; half of the batches are larger than the groups in which backends process images."""
    sizes, options = draw(sliding("NCK", square=False, padded=True))
    return {**sizes, "N": draw(st.sampled_from([sizes["N"], sizes["N"], 131, 257]))}, options


@st.composite
def _backward_geometry(draw: st.DrawFn) -> Geometry:
    sizes, options = draw(_geometry())
    return sizes, {**options, "need_dx": draw(st.booleans())}


X, W, B = (2, 3, 5, 9), (4, 3, 2, 2), (4,)
FLAT = {"stride": 1, "pad": 0}


def differentiable(sizes: Sizes, options: Options, rng: np.random.Generator) -> Differentiable:
    """Return the op with inputs of 16 significant bits, so that sums of products are exact in float64."""
    inputs = tuple(rounded_spread(rng, *shape(sizes, letters)) for letters in ("NCHW", "KCRS", "K"))
    window = {name: options[name] for name in ("stride", "pad", "ceil")}
    return Differentiable(
        lambda x, w, b: conv2d.forward(x, w, b, **window),
        inputs,
        lambda backward, dy, x, w, _b: backward(dy, x, w, **window),
        LINEAR_TOLERANCE,
    )


CASES = (
    Case(
        "conv2d",
        "forward",
        _geometry(),
        _forward_arguments,
        results=("y",),
        exact="integers",
        allowed=forward_allowed,
        large=(
            {"N": 3, "C": 7, "K": 11, "H": 12, "W": 10, "R": 5, "S": 3},
            {"stride": 1, "pad": 1, "ceil": False},
        ),
        mutants={
            "window shifted by one": lambda x, w, b, **options: conv2d.forward(_shifted(x), w, b, **options),
            "last weight of each kernel dropped": lambda x, w, b, **options: conv2d.forward(
                x, _without_last_weight(w), b, **options
            ),
            "kernel mirrored": lambda x, w, b, **options: conv2d.forward(x, w[..., ::-1, ::-1], b, **options),
            "bias forgotten": lambda x, w, b, **options: conv2d.forward(x, w, 0 * b, **options),
            "edge pixels repeated in place of zeros": _border_repeats,
        },
        refusals={
            "x must have 4 axes": {"x": X[1:], "w": W, "b": B, **FLAT},
            "w must have 4 axes": {"x": X, "w": W[1:], "b": B, **FLAT},
            "w must have x's 3 channels": {"x": X, "w": (4, 2, 2, 2), "b": B, **FLAT},
            "one bias for each of the 4": {"x": X, "w": W, "b": (3,), **FLAT},
            "the window must be at least 1": {"x": X, "w": (4, 3, 0, 2), "b": B, **FLAT},
            "stride must be at least 1": {"x": X, "w": W, "b": B, "stride": 0, "pad": 0},
            "pad must be at least 0": {"x": X, "w": W, "b": B, "stride": 1, "pad": -1},
            "a window of 6 does not fit in 5": {"x": X, "w": (4, 3, 6, 2), "b": B, **FLAT},
            "a window of 12 does not fit in 9": {
                "x": X,
                "w": (4, 3, 2, 12),
                "b": B,
                "stride": 3,
                "pad": 0,
                "ceil": True,
            },
        },
    ),
    Case(
        "conv2d",
        "backward",
        _backward_geometry(),
        _backward_arguments,
        results=("dx", "dw", "db"),
        exact="integers",
        allowed=backward_allowed,
        large=(
            {"N": 3, "C": 11, "K": 131, "H": 8, "W": 6, "P": 6, "Q": 6, "R": 5, "S": 3},
            {"stride": 1, "pad": 1, "ceil": False, "need_dx": True},
        ),
        differentiable=differentiable,
        mutants={
            "window shifted by one": lambda dy, x, w, **options: conv2d.backward(dy, _shifted(x), w, **options),
            "last weight of each kernel forgotten": _last_weight_forgotten,
            "kernel mirrored in dx": _dx_mirrored,
            "overwrite instead of accumulate": _dx_overwritten,
            "last sample left out of dw": _last_sample_forgotten,
            "db averaged over the batch": _db_averaged,
        },
        refusals={
            "dy must have the shape of y": {"dy": (2, 4, 4, 7), "x": X, "w": W, **FLAT},
            "w must have x's 3 channels": {"dy": (2, 4, 4, 8), "x": X, "w": (4, 2, 2, 2), **FLAT},
        },
    ),
)
