"""One call of one op, small enough to print: sizes, options and a seed, from which its arrays are made.

A printed call is enough to reproduce a failure, because the seed is the only source of randomness.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Sizes: TypeAlias = Mapping[str, int]
Options: TypeAlias = Mapping[str, Any]

KINDS = ("integers", "normal", "one_signed", "special")
LAYOUTS = ("contiguous", "permuted", "sliced")
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0)


@dataclass(frozen=True)
class Call:
    """The function that is called, and everything that its arguments are made from.

    Parameters
    ----------
    sizes
        Lengths by letter (N, C, H, W, ...), as in :mod:`refnet.ops`.
    options
        The keyword arguments.
    kind
        One of ``KINDS``: integers as floats; normal numbers of mean 0; normal numbers after ReLU; or normal numbers
        with some NaN, infinities and signed zeros.
    layout
        One of ``LAYOUTS``: the memory layout of the host arrays before they are copied to the backend.
    """

    op: str
    function: str
    sizes: Sizes
    options: Options
    kind: str = "normal"
    layout: str = "contiguous"
    seed: int = 0


class Values:
    """Draws the float32 arrays of a call, one after the other, from one seed.

    Integers are from -4 to 4, so that a product is at most 16 and a sum of a million products below 2^24.
    """

    def __init__(self, kind: str, seed: tuple[int, int]) -> None:
        self.kind = kind
        self._rng = np.random.default_rng(seed)

    def __call__(self, *shape: int, special: bool = True) -> Array:
        """Draw an array. With ``special=False`` it never contains NaN or infinity."""
        if self.kind == "integers":
            return self._rng.integers(-4, 5, shape).astype(np.float32)
        normal = self._rng.standard_normal(shape)
        if self.kind == "one_signed":
            normal = np.maximum(normal + 0.5, 0)
        if self.kind == "special" and special:
            places = self._rng.choice(normal.size, 1 + normal.size // 10, replace=False)
            normal.flat[places] = self._rng.choice(SPECIAL, len(places))
        return normal.astype(np.float32)

    def integers(self, low: int, high: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Draw integers from `low` to below `high`."""
        return self._rng.integers(low, high, shape).astype(dtype)

    def labels(self, count: int, classes: int) -> Array:
        """Draw labels, int32 or int64."""
        return self._rng.integers(0, classes, count).astype(f"int{self._rng.choice([32, 64])}")


def laid_out(a: Array, layout: str) -> Array:
    """Return a copy in another memory layout: with permuted axes, or with a gap after each element of a row."""
    if layout == "permuted" and a.ndim > 1:
        return np.ascontiguousarray(a.T).T
    if layout == "sliced" and a.ndim:
        whole = np.full((*a.shape[:-1], 2 * a.shape[-1] + 1), filler(a.dtype), a.dtype)
        view = whole[..., 1::2]
        view[...] = a
        return view
    return a.copy()


def filler(dtype: np.dtype[Any]) -> Any:
    """Return the value that fills unwritten memory: NaN, or the largest integer. No result may contain it."""
    return np.nan if dtype.kind == "f" else np.iinfo(dtype).max
