"""Comparisons of arrays, one for each level of agreement (T0, T1, T2), and the bounds of errors.

T0: the same numbers. T1: each error is within a bound that is derived from the rounding of float32. T2: the largest
error is at most a few times that of NumPy in float32. A comparison returns if the arrays agree; otherwise it raises
``DisagreementError`` with the worst element. ``u`` is 2^-24, the largest relative error of rounding to float32, and
``eps`` is twice that. ``where`` describes the computation in one line, so that a failure can be repeated.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.testing.call import Array

U = 2.0**-24
EPS = 2.0**-23
TINY = 2.0**-126  # below it float32 loses precision, and a processor may flush to zero


@dataclass(frozen=True)
class Element:
    """The worst element of a wrong array, and how many of its elements are wrong."""

    why: str
    index: list[int]
    value: Any
    expected: Any
    wrong: int
    size: int


class DisagreementError(AssertionError):
    """Numbers that differ from those expected.

    `ratio` is the largest error over its bound, infinite if no bound applies. `where` describes what was computed.
    `element` is the worst element; None if the shape or the dtype is wrong.
    """

    def __init__(self, message: str, ratio: float = np.inf, where: str = "", element: Element | None = None) -> None:
        super().__init__(message)
        self.ratio = ratio
        self.where = where
        self.element = element


def bit_equal(y: Array, expected: Array, where: str) -> None:
    """T0: fail unless the bits are the same, signed zeros included. NaN equals NaN."""
    _same_form(y, expected, where)
    same = _bits(y) == _bits(expected)
    if y.dtype.kind == "f":
        same |= np.isnan(y) & np.isnan(expected)
    _fail_at(~same, y, expected, where, "T0: the bits differ")


def equal(y: Array, expected: Array, where: str) -> None:
    """T0 for sums: fail unless the numbers are the same. The sign of a zero sum depends on the order of its terms."""
    _same_form(y, expected, where)
    same = (y == expected) | (np.isnan(y) & np.isnan(expected))
    _fail_at(~same, y, expected, where, "T0: the numbers differ")


def within(y: Array, y64: Array, allowed: Array, where: str) -> None:
    """T1: fail unless each error is within its bound and NaN and infinities are where y64 has them."""
    _same_form(y, y64, where, same_dtype=False)
    finite = np.isfinite(y64)
    same_kind = np.isfinite(y) & finite | (y == y64) | (np.isnan(y) & np.isnan(y64))
    _fail_at(~same_kind, y, y64, where, "NaN or infinity is not in the same elements")
    ratio = share_of_bound(y, y64, allowed)
    _fail_at(~(ratio <= 1), y, y64, where, "T1: the error is larger than its bound", ratio)


def share_of_bound(y: Array, y64: Array, allowed: Array) -> Array:
    """Return each error divided by its bound, in the shape of y64; 0 where y64 is not finite."""
    finite = np.isfinite(y64)
    error = np.zeros(y64.shape)
    np.subtract(y, y64, out=error, where=finite, dtype=np.float64)
    ratio = np.zeros(y64.shape)
    bound = np.broadcast_to(allowed, y64.shape)
    np.divide(np.abs(error), np.maximum(bound, TINY), out=ratio, where=finite)
    return ratio


def within_data_bound(
    y: Array, y64: Array, bracket: Array, terms: int, where: str, precision: str = "ieee", *, truncated: bool = False
) -> None:
    """T1 for sums of products: fail unless each error is within ``data_bound``."""
    within(y, y64, data_bound(y64, bracket, terms, precision, truncated=truncated), where)


def no_worse_than_numpy(y: Array, y32: Array, y64: Array, where: str) -> float:
    """T2: fail unless the largest error is at most four times NumPy's in float32 (y32), plus one rounding unit.

    Returns the largest error divided by its bound.

    The ulp (unit in the last place) is that of the largest element. Compare arrays of at least a hundred elements: with
    only a few, NumPy's largest error can be zero by luck.
    """
    _same_form(y, y32, where)
    error = np.abs(np.float64(y) - y64)
    numpy_error = np.abs(np.float64(y32) - y64).max()
    allowed = 4 * numpy_error + EPS * np.abs(y64).max()
    ratio = error / max(allowed, TINY)
    _fail_at(~(error <= allowed), y, y64, where, "T2: NumPy's float32 is better", ratio)
    return float(ratio.max())


def data_bound(y64: Array, bracket: Array, terms: int, precision: str = "ieee", *, truncated: bool = False) -> Array:
    """Return the error allowed in a sum of `terms` products: ``u sqrt(2 terms) bracket + 2 u |y|``.

    `bracket` is the same op on absolute values. A sum of n products is rounded 2n times, once for each product and each
    addition, and no rounding changes it by more than u times the bracket. Independent errors add up like the square
    root of their number. The bound is not the worst case, which grows with `terms` itself. ``sqrt(terms)`` would be too
    small: 4 million sums of 16 normal numbers, each added up term by term, reach 0.94 of that bound, and longer runs
    exceed it; positive numbers reach 1.02 of it at 500 terms.

    Tensor cores round sums toward zero, so four times as much is allowed for ``tf32x3`` and ``tf32``. In ``tf32`` both
    factors of a product have 11 significant bits. Rounding a factor changes it by at most e = 2^-11 of itself, and
    where the op may be computed from factors that are `truncated`, by e = 2^-10. The product then changes by at most
    (1 + e)^2 - 1 of itself, and the sum by that part of the bracket: a short sum of one-signed numbers can come close.
    """
    allowed: Array = U * np.sqrt(2 * terms) * bracket + 2 * U * np.abs(y64)
    if precision == "ieee":
        return allowed
    if precision == "tf32x3":
        return 4 * allowed
    of_a_factor = 2.0**-10 if truncated else 2.0**-11
    return 4 * allowed + ((1 + of_a_factor) ** 2 - 1) * bracket


def relative_bound(y64: Array, count: float | Array) -> Array:
    """Return the allowed error of each element: `count` times eps times its absolute value."""
    allowed: Array = count * EPS * np.abs(y64)
    return allowed


def softmax_bound(z: Array) -> Array:
    """Return the relative error allowed for probabilities, one number per row, (N,1): ``(10 + max |z - m|) eps``."""
    spread = z.max(axis=1, keepdims=True) - z
    worst: Array = np.where(np.isfinite(spread), spread, 0).max(axis=1, keepdims=True)
    return (10 + worst) * EPS


def sgd_bound(w: Array, v: Array, g: Array, *, lr: float, momentum: float, weight_decay: float) -> tuple[Array, Array]:
    """Return the errors allowed in the new w and v.

    A term of v is rounded at most four times: its rate, its product and two differences. The term of weight decay is
    rounded twice more: its second rate and the product of the rates. The sum w + v adds one rounding.
    """
    terms = np.abs(momentum * v) + 1.5 * np.abs(lr * weight_decay * w) + np.abs(lr * g)
    return 5 * U * terms + U * np.abs(w), 4 * U * terms


def zero_share(y: Array) -> float:
    """Return the fraction of elements that are zero; 1 for an empty array."""
    return float((y == 0).mean()) if y.size else 1.0


def _bits(a: Array) -> Array:
    return a.view(f"u{a.dtype.itemsize}") if a.dtype.kind == "f" else a


def _same_form(y: Array, expected: Array, where: str, *, same_dtype: bool = True) -> None:
    if y.shape != expected.shape:
        raise DisagreementError(f"{where}: the shape is {y.shape}, it should be {expected.shape}")
    if same_dtype and y.dtype != expected.dtype:
        raise DisagreementError(f"{where}: the dtype is {y.dtype}, it should be {expected.dtype}")


def _fail_at(wrong: npt.NDArray[np.bool_], y: Array, expected: Array, where: str, why: str, ratio: Any = None) -> None:
    """Raise an error about the element of the largest ratio, or the first wrong one if there is no ratio."""
    if not wrong.any():
        return
    rank = wrong if ratio is None else np.where(np.isnan(ratio), np.inf, ratio)
    index = np.unravel_index(int(np.argmax(rank)), wrong.shape)
    size = "" if ratio is None else f", {ratio[index]:.3g} times the bound"
    worst = Element(why + size, [int(i) for i in index], y[index], expected[index], int(wrong.sum()), wrong.size)
    raise DisagreementError(
        f"{worst.why}: element {worst.index} of {y.shape} is {worst.value!r}, expected {worst.expected!r}; "
        f"{worst.wrong} of {worst.size} are wrong. {where}",
        np.inf if ratio is None else float(rank[index]),
        where,
        worst,
    )
