"""Strategies that draw the sizes and options of a call.

Every strategy draws ``(sizes, options)`` or a part of it. The output size is drawn first, then an input size that gives
it, so no draw is discarded. The lengths of N, C, K, H and W are all different, so that swapped axes are noticed.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

Drawn = TypeVar("Drawn")

Geometry: TypeAlias = tuple[dict[str, int], dict[str, Any]]

LENGTHS = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 17, 19)
LONG_LENGTHS = (*LENGTHS, 31, 131, 257)
WINDOW_SIZES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Axis:
    """The length of an axis, and the windows that slide over it.

    Parameters
    ----------
    count
        Number of windows.
    spare
        Pixels after the last window (``floor``; less than the stride), or missing for it (``ceil``).
    """

    length: int
    count: int
    spare: int


def axes(window: int, stride: int, pad: int, *, ceil: bool) -> list[Axis]:
    """Return all axes for a window, stride and padding: for each number of windows, with each possible `spare`.

    Lengths are from half a window (with less, most weights of a kernel would read only padding) to a window and three
    strides. With ``ceil``, a last window that would start beyond the image is not counted.
    """
    possible = []
    for counted in range(1, 8 + 2 * pad):
        for spare in range(stride):
            length = (counted - 1) * stride + window - 2 * pad + (-spare if ceil else spare)
            beyond = ceil and (counted - 1) * stride >= length + pad
            if -(-window // 2) <= length <= window + 3 * stride and counted > beyond:
                possible.append(Axis(length, counted - beyond, spare))
    return possible


@st.composite
def distinct(draw: st.DrawFn, letters: str, lengths: Iterable[int] = LENGTHS, taken: Iterable[int] = ()) -> Any:
    """Draw a dict with a length for each letter, all different from each other and from those in `taken`."""
    free = sorted(set(lengths) - set(taken))
    return {letter: free.pop(draw(st.integers(0, len(free) - 1))) for letter in letters}


@st.composite
def sliding(draw: st.DrawFn, letters: str, *, square: bool, padded: bool) -> Geometry:
    """Draw windows that slide over an image, and the other axes by their letters.

    The sizes contain R, S (the window), H, W and P, Q. The options contain stride and ceil, and pad if `padded`. The
    stride is at most one more than the window, so that at least a quarter of the pixels are read.
    """
    R = draw(st.sampled_from(WINDOW_SIZES))
    S = R if square else draw(st.sampled_from([size for size in WINDOW_SIZES if size != R]))
    stride = draw(st.integers(1, min(4, R + 1, S + 1)))
    pad = draw(st.integers(0, min(2, R - 1, S - 1))) if padded else 0
    ceil = draw(st.booleans())
    rows = draw(st.sampled_from(axes(R, stride, pad, ceil=ceil)))
    cols = draw(st.sampled_from([axis for axis in axes(S, stride, pad, ceil=ceil) if axis.length != rows.length]))
    image = {"H": rows.length, "W": cols.length, "P": rows.count, "Q": cols.count, "R": R, "S": S}
    others = draw(distinct(letters, taken=(rows.length, cols.length)))
    options = {"stride": stride, **({"pad": pad} if padded else {}), "ceil": ceil}
    return {**others, **image}, options


@st.composite
def shapes(draw: st.DrawFn, min_axes: int = 1) -> dict[str, int]:
    """Draw the lengths of `min_axes` to four axes, from the left N, C, H and W; one of them may be long."""
    letters = "NCHW"[: draw(st.integers(min_axes, 4))]
    sizes: dict[str, int] = draw(distinct(letters, LENGTHS[:7]))
    longest = draw(st.sampled_from(letters))
    return {**sizes, longest: draw(st.sampled_from([size for size in LONG_LENGTHS if size not in sizes.values()]))}


@st.composite
def dense(draw: st.DrawFn) -> Geometry:
    """Draw a fully connected layer: x is (N,D), or (N,C,H,W) with D = CHW."""
    if draw(st.booleans()):
        return draw(distinct("NKD", LONG_LENGTHS)), {}
    sizes = draw(distinct("NCHW", LENGTHS[:7]))
    D = sizes["C"] * sizes["H"] * sizes["W"]
    return {**sizes, **draw(distinct("K", taken=(*sizes.values(), D))), "D": D}, {}


def shape(sizes: Mapping[str, int], letters: str) -> tuple[int, ...]:
    """Return the lengths of the letters, without letters that `sizes` lacks."""
    return tuple(sizes[letter] for letter in letters if letter in sizes)


def keys() -> st.SearchStrategy[tuple[int, int]]:
    """Draw a key of Philox: (seed, purpose)."""
    return st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))


def counters() -> st.SearchStrategy[tuple[int, int, int, int]]:
    """Draw a counter (step, layer, sample, feature), some of them just below 2^32."""
    word = st.one_of(st.integers(0, 40), st.integers(2**32 - 20, 2**32 - 1), st.integers(0, 2**32 - 1))
    return st.tuples(word, word, word, word)


def drawn(strategy: st.SearchStrategy[Drawn], examples: int, number: int | None = None) -> list[Drawn]:
    """Return a list of drawn examples: the same ones in every program, or those of the seed `number`."""
    values: list[Drawn] = []

    @settings(
        max_examples=examples,
        derandomize=number is None,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(value: Drawn) -> None:
        values.append(value)

    with no_constants():
        (draw if number is None else seed(number)(draw))()
    return values


@contextmanager
def no_constants() -> Iterator[None]:
    """Keep Hypothesis from drawing constants that it reads from the source of loaded modules.

    With such constants, the same seed would draw other examples in another program or installation of refnet, and
    Hypothesis would write them to a folder ``.hypothesis`` in the working directory. It has no setting to turn them
    off, so two of its internal names are replaced; versions that lack these names are left unchanged.
    """
    providers: Any = sys.modules.get("hypothesis.internal.conjecture.providers")
    with ExitStack() as patches:
        if hasattr(providers, "_get_local_constants") and hasattr(providers, "CONSTANTS_CACHE"):
            empty, cache = providers.Constants(), type(providers.CONSTANTS_CACHE)(1024)
            patches.enter_context(patch.object(providers, "_get_local_constants", lambda: empty))
            patches.enter_context(patch.object(providers, "CONSTANTS_CACHE", cache))
        yield
