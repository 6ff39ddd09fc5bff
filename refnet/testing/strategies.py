"""Draws of geometry: the output's first, then the lengths it can come from. Nothing is drawn and thrown away.

Every strategy gives ``(sizes, options)`` or a part of it. The lengths of N, C, K, H and W differ pairwise, so that no
axis can stand in for another.
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
LONG = (*LENGTHS, 31, 131, 257)
WINDOWS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Axis:
    """A length of an axis and the windows that slide over it.

    Parameters
    ----------
    spare
        Pixels after the last window (``floor``; less than the stride), or missing under it (``ceil``).
    """

    length: int
    count: int
    spare: int


def axes(window: int, stride: int, pad: int, *, ceil: bool) -> list[Axis]:
    """List axes from the number of windows up, with every spare that gives this number.

    Lengths run from half a window (less, and most taps would only ever read the border) to three strides more than a
    window. Under ``ceil`` a last window that would start beyond the image is not counted.
    """
    found = []
    for counted in range(1, 8 + 2 * pad):
        for spare in range(stride):
            length = (counted - 1) * stride + window - 2 * pad + (-spare if ceil else spare)
            beyond = ceil and (counted - 1) * stride >= length + pad
            if -(-window // 2) <= length <= window + 3 * stride and counted > beyond:
                found.append(Axis(length, counted - beyond, spare))
    return found


@st.composite
def distinct(draw: st.DrawFn, letters: str, lengths: Iterable[int] = LENGTHS, taken: Iterable[int] = ()) -> Any:
    """Draw a length for each letter, all different and none of those taken: a dict."""
    free = sorted(set(lengths) - set(taken))
    return {letter: free.pop(draw(st.integers(0, len(free) - 1))) for letter in letters}


@st.composite
def sliding(draw: st.DrawFn, letters: str, *, square: bool, padded: bool) -> Geometry:
    """Draw windows that slide over an image, and the other axes by their letters.

    The sizes hold R, S (the window), H, W and P, Q; the options stride and ceil, and pad where it is asked for. The
    stride is at most one more than the window, so that a quarter of the pixels is read at least.
    """
    R = draw(st.sampled_from(WINDOWS))
    S = R if square else draw(st.sampled_from([size for size in WINDOWS if size != R]))
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
def shapes(draw: st.DrawFn, least: int = 1) -> dict[str, int]:
    """Draw `least` to four axes: N, C, H, W from the left; one of them may be long."""
    letters = "NCHW"[: draw(st.integers(least, 4))]
    sizes: dict[str, int] = draw(distinct(letters, LENGTHS[:7]))
    longest = draw(st.sampled_from(letters))
    return {**sizes, longest: draw(st.sampled_from([size for size in LONG if size not in sizes.values()]))}


@st.composite
def dense(draw: st.DrawFn) -> Geometry:
    """Draw a fully connected layer: x (N,D), or (N,C,H,W) for the sizes of which D is the product."""
    if draw(st.booleans()):
        return draw(distinct("NKD", LONG)), {}
    sizes = draw(distinct("NCHW", LENGTHS[:7]))
    D = sizes["C"] * sizes["H"] * sizes["W"]
    return {**sizes, **draw(distinct("K", taken=(*sizes.values(), D))), "D": D}, {}


def shape(sizes: Mapping[str, int], letters: str) -> tuple[int, ...]:
    """Return the lengths of those letters that are among the sizes."""
    return tuple(sizes[letter] for letter in letters if letter in sizes)


def keys() -> st.SearchStrategy[tuple[int, int]]:
    """Draw a key of Philox: (seed, purpose)."""
    return st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))


def counters() -> st.SearchStrategy[tuple[int, int, int, int]]:
    """Draw a counter (step, layer, sample, feature), some of them about to pass 2^32."""
    word = st.one_of(st.integers(0, 40), st.integers(2**32 - 20, 2**32 - 1), st.integers(0, 2**32 - 1))
    return st.tuples(word, word, word, word)


def drawn(strategy: st.SearchStrategy[Drawn], examples: int, number: int | None = None) -> list[Drawn]:
    """Draw a list of examples: the same ones every time and in every program, or those of a seed's `number`."""
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
    """Keep Hypothesis from drawing constants that it reads out of whatever modules are loaded.

    With them the same seed draws something else in another program, or where refnet is installed in another way; and
    they are kept in a folder ``.hypothesis`` in the working directory. Hypothesis has no setting for it. Its versions
    without these names are left as they are.
    """
    providers: Any = sys.modules.get("hypothesis.internal.conjecture.providers")
    with ExitStack() as patches:
        if hasattr(providers, "_get_local_constants") and hasattr(providers, "CONSTANTS_CACHE"):
            empty, cache = providers.Constants(), type(providers.CONSTANTS_CACHE)(1024)
            patches.enter_context(patch.object(providers, "_get_local_constants", lambda: empty))
            patches.enter_context(patch.object(providers, "CONSTANTS_CACHE", cache))
        yield
