"""Cases of :mod:`refnet.ops.softmax_xent`."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from refnet.ops import softmax_xent
from refnet.testing.bounds import U, relative_bound, softmax_bound
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.gradients import CURVED_TOLERANCE, Differentiable, spread
from refnet.testing.strategies import LENGTHS, Geometry, distinct, shape


def _forward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    z = values(*shape(sizes, "NK")) * np.float32(sizes["spread"])
    return {"z": z, "labels": values.labels(*shape(sizes, "NK"))}


def _backward_arguments(sizes: Sizes, options: Options, values: Values) -> Given:
    z, labels = _forward_arguments(sizes, options, values).values()
    with np.errstate(invalid="ignore"):
        return {"p": softmax_xent.forward(z, labels)[1], "labels": labels}


def _forward_allowed(given: Given, _options: Options, expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    """Return the largest allowed errors of loss and p.

    The error of a logarithm is the relative error of its argument; the mean adds one rounding for each sample.
    """
    loss, p = expected
    relative = softmax_bound(given["z"])
    return relative.max() + len(p) * U * np.abs(loss), relative * p


def _backward_allowed(_given: Given, _options: Options, expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    """Return the largest allowed error of dz: at most three roundings, of p - 1, of 1/N and of their product."""
    return (relative_bound(expected[0], 1.51),)


def _max_not_subtracted(z: Array, labels: Array) -> tuple[Array, Array]:
    with np.errstate(all="ignore"):
        exp = np.exp(z)
        p = exp / exp.sum(axis=1, keepdims=True)
        return np.asarray(-np.log(p[np.arange(len(labels)), labels]).mean()), p


def _log_of_the_quotient(z: Array, labels: Array) -> tuple[Array, Array]:
    p = softmax_xent.forward(z, labels)[1]
    with np.errstate(all="ignore"):
        return np.asarray(-np.log(p[np.arange(len(labels)), labels]).mean()), p


def _next_label(labels: Array, z: Array) -> Array:
    following: Array = (labels + 1) % z.shape[1]
    return following


def _summed(z: Array, labels: Array) -> tuple[Array, Array]:
    loss, p = softmax_xent.forward(z, labels)
    return loss * z.dtype.type(len(labels)), p


@st.composite
def _geometry(draw: st.DrawFn, spreads: tuple[int, ...]) -> Geometry:
    """Draw N, at least two classes K (with one class the loss is always 0), and the spread of the scores."""
    K = draw(st.sampled_from(LENGTHS[1:]))
    return {**draw(distinct("N", LENGTHS, (K,))), "K": K, "spread": draw(st.sampled_from(spreads))}, {}


LARGE: Geometry = ({"N": 31, "K": 19, "spread": 3}, {})


def _differentiable(sizes: Sizes, _options: Options, rng: np.random.Generator) -> Differentiable:
    labels = rng.integers(0, sizes["K"], sizes["N"])
    return Differentiable(
        lambda z: softmax_xent.forward(z, labels)[0],
        (spread(rng, *shape(sizes, "NK")),),
        lambda backward, dy, z: [dy * backward(softmax_xent.forward(z, labels)[1], labels)],
        CURVED_TOLERANCE,
    )


CASES = (
    Case(
        "softmax_xent",
        "forward",
        _geometry((1, 10, 100)),
        _forward_arguments,
        results=("loss", "p"),
        exact="never",
        allowed=_forward_allowed,
        large=LARGE,
        mutants={
            "maximum not subtracted": _max_not_subtracted,
            "logarithm of p, which may be zero": _log_of_the_quotient,
            "labels off by one": lambda z, labels: softmax_xent.forward(z, _next_label(labels, z)),
            "summed instead of averaged": _summed,
        },
        refusals={
            "z must have 2 axes": {"z": (3,), "labels": (3,)},
            "z must hold at least one sample and class": {"z": (3, 0), "labels": (3,)},
            "labels must have shape (3,)": {"z": (3, 4), "labels": (4,)},
        },
    ),
    Case(
        "softmax_xent",
        "backward",
        _geometry((1, 10)),
        _backward_arguments,
        results=("dz",),
        exact="never",
        allowed=_backward_allowed,
        large=LARGE,
        differentiable=_differentiable,
        mutants={
            "not divided by N": lambda p, labels: softmax_xent.backward(p, labels) * p.dtype.type(len(labels)),
            "labels off by one": lambda p, labels: softmax_xent.backward(p, _next_label(labels, p)),
            "label forgotten": lambda p, labels: p / p.dtype.type(len(labels)),
        },
        refusals={
            "p must have 2 axes": {"p": (3, 4, 1), "labels": (3,)},
            "labels must have shape (3,)": {"p": (3, 4), "labels": (3, 1)},
        },
    ),
)
