"""Cases of :mod:`refnet.ops.sgd`."""

from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st

from refnet.ops import sgd
from refnet.testing.bounds import sgd_bound
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.strategies import Geometry, shape, shapes


def _arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    return {name: values(*shape(sizes, "NCHW")) for name in ("w", "v", "g")}


def _allowed(given: Given, options: Options, _expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    return sgd_bound(given["w"], given["v"], given["g"], **options)


def _rate_outside(w: Array, v: Array, g: Array, *, lr: float, momentum: float, weight_decay: float) -> None:
    v[...] = momentum * v - weight_decay * w - g
    w += lr * v


def _decay_forgotten(w: Array, v: Array, g: Array, *, weight_decay: float, **rest: float) -> None:  # noqa: ARG001
    sgd.step_(w, v, g, weight_decay=0, **rest)


def _old_v_added(w: Array, v: Array, g: Array, **rates: float) -> None:
    before = w + v
    sgd.step_(w, v, g, **rates)
    w[...] = before


def _new_w_decays(w: Array, v: Array, g: Array, *, lr: float, momentum: float, weight_decay: float) -> None:
    sgd.step_(w, v, g, lr=lr, momentum=momentum, weight_decay=0)
    w -= weight_decay * lr * w


def _gradient_added(w: Array, v: Array, g: Array, **rates: float) -> None:
    sgd.step_(w, v, -g, **rates)


LISTED = 3


def _lists(sizes: Sizes, _options: Options, values: Values) -> Given:
    """Return w, v and g for three parameters of different shapes, the last with only one axis."""
    whole = shape(sizes, "NCHW")
    shapes = {0: whole, 1: whole[::-1], 2: whole[-1:]}
    return {f"{name}{i}": values(*shapes[i]) for name in ("w", "v", "g") for i in range(LISTED)}


def _each_allowed(given: Given, options: Options, _expected: tuple[Any, ...], _precision: str) -> tuple[Any, ...]:
    rates = {"lr": options["lr"], "momentum": options["momentum"]}
    bounds = [
        sgd_bound(*(given[f"{name}{i}"] for name in ("w", "v", "g")), weight_decay=decay, **rates)
        for i, decay in enumerate(options["weight_decays"])
    ]
    return tuple(bound[result] for result in range(2) for bound in bounds)


Arrays: TypeAlias = list[Array]


def _one_decay(w: Arrays, v: Arrays, g: Arrays, *, weight_decays: list[float], **rates: float) -> None:
    sgd.steps_(w, v, g, weight_decays=weight_decays[:1] * len(w), **rates)


def _last_left_out(w: Arrays, v: Arrays, g: Arrays, *, weight_decays: list[float], **rates: float) -> None:
    sgd.steps_(w[:-1], v[:-1], g[:-1], weight_decays=weight_decays[:-1], **rates)


def _half_of_each(w: Arrays, v: Arrays, g: Arrays, **rates: Any) -> None:
    sgd.steps_(*([a[: len(a) // 2] for a in arrays] for arrays in (w, v, g)), **rates)


def _gradient_of_the_first(w: Arrays, v: Arrays, g: Arrays, **rates: Any) -> None:
    sgd.steps_(w, v, [np.resize(g[0], a.shape) for a in g], **rates)


@st.composite
def _listed_geometry(draw: st.DrawFn) -> Geometry:
    """Draw options as for one parameter, but with a different weight decay for each parameter."""
    sizes, rates = draw(_geometry())
    decay = rates.pop("weight_decay")
    return sizes, {**rates, "weight_decays": [decay, 0.25, 0.0]}


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    """Draw sizes and options. If the learning rate is 0 the momentum is not, so that v is not all zeros."""
    lr = draw(st.sampled_from([0.5, 0.01, 1.0, 0.0]))
    momentum = draw(st.sampled_from([0.9, 0.5, 0.0] if lr else [0.9, 0.5]))
    weight_decay = draw(st.sampled_from([0.3, 5e-4, 0.0]))
    return draw(shapes()), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}


RATES: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
SAME: dict[str, Any] = {"w": (2, 3), "v": (2, 3), "g": (2, 3)}
LISTS: dict[str, Any] = {name: [(2, 3), (4,)] for name in SAME} | {"lr": 0.1, "momentum": 0.9}

CASES = (
    Case(
        "sgd",
        "step_",
        _geometry(),
        _arguments,
        results=("w", "v"),
        changes=("w", "v"),
        exact="never",
        allowed=_allowed,
        large=({"N": 7, "C": 131}, {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.1}),
        mutants={
            "learning rate outside v": _rate_outside,
            "weight decay forgotten": _decay_forgotten,
            "w updated with the old v": _old_v_added,
            "weight decay applied to the new w": _new_w_decays,
            "gradient added, not subtracted": _gradient_added,
        },
        refusals={
            "v must have the shape of w": {**SAME, "v": (3, 2), **RATES},
            "g must have the shape of w": {**SAME, "g": (2, 3, 1), **RATES},
            "lr must be finite and at least 0": {**SAME, **RATES, "lr": -0.1},
            "momentum must be finite": {**SAME, **RATES, "momentum": float("inf")},
            "weight_decay must be finite": {**SAME, **RATES, "weight_decay": float("nan")},
        },
    ),
    Case(
        "sgd",
        "steps_",
        _listed_geometry(),
        _lists,
        results=(*(f"w{i}" for i in range(LISTED)), *(f"v{i}" for i in range(LISTED))),
        changes=(*(f"w{i}" for i in range(LISTED)), *(f"v{i}" for i in range(LISTED))),
        listed=LISTED,
        exact="never",
        allowed=_each_allowed,
        large=({"N": 7, "C": 131}, {"lr": 0.3, "momentum": 0.9, "weight_decays": [0.1, 0.0, 5e-4]}),
        mutants={
            "one weight decay for all parameters": _one_decay,
            "last parameter left out": _last_left_out,
            "only half of each parameter updated": _half_of_each,
            "one gradient for all parameters": _gradient_of_the_first,
        },
        refusals={
            "v must be as long as w, 2, it has 1": {**LISTS, "v": [(2, 3)], "weight_decays": [0, 0]},
            "g must be as long as w, 2, it has 3": {**LISTS, "g": [(2, 3), (4,), (4,)], "weight_decays": [0, 0]},
            "weight_decays must be as long as w": {**LISTS, "weight_decays": [0]},
            "g must have the shape of w": {**LISTS, "g": [(2, 3), (5,)], "weight_decays": [0, 0]},
            "weight_decay must be finite": {**LISTS, "weight_decays": [0, -1]},
        },
    ),
)
