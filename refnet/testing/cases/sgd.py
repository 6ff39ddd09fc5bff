"""Cases of :mod:`refnet.ops.sgd`."""

from typing import Any

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


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    """Draw rates of which no two make v all zeros: a learning rate of 0 goes with some momentum."""
    lr = draw(st.sampled_from([0.5, 0.01, 1.0, 0.0]))
    momentum = draw(st.sampled_from([0.9, 0.5, 0.0] if lr else [0.9, 0.5]))
    weight_decay = draw(st.sampled_from([0.3, 5e-4, 0.0]))
    return draw(shapes()), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}


RATES = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
SAME: dict[str, Any] = {"w": (2, 3), "v": (2, 3), "g": (2, 3)}

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
        roomy=({"N": 7, "C": 131}, {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.1}),
        mutants={
            "learning rate outside v": _rate_outside,
            "decay forgotten": _decay_forgotten,
            "the old v added": _old_v_added,
            "the new w decays": _new_w_decays,
            "climbs": _gradient_added,
        },
        refusals={
            "v must have the shape of w": {**SAME, "v": (3, 2), **RATES},
            "g must have the shape of w": {**SAME, "g": (2, 3, 1), **RATES},
            "lr must be finite and at least 0": {**SAME, **RATES, "lr": -0.1},
            "momentum must be finite": {**SAME, **RATES, "momentum": float("inf")},
            "weight_decay must be finite": {**SAME, **RATES, "weight_decay": float("nan")},
        },
    ),
)
