"""Cases of :mod:`refnet.ops.philox`."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st

from refnet.ops import philox
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.strategies import LONG_LENGTHS, Geometry, counters, distinct, keys


def nine_rounds(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with nine rounds of Philox instead of ten."""

    def mutant(*args: Any, **kwargs: Any) -> Any:
        with patch.object(philox, "ROUNDS", 9):
            return function(*args, **kwargs)

    return mutant


def _arguments(sizes: Sizes, _options: Options, _values: Values) -> Given:
    return {"samples": sizes["N"], "features": sizes["F"]}


def _key_exchanged(samples: int, features: int, *, key: philox.Key, counter: philox.Counter) -> Array:
    return philox.bits(samples, features, key=(key[1], key[0]), counter=counter)


def _samples_before_layers(samples: int, features: int, *, key: philox.Key, counter: philox.Counter) -> Array:
    step, layer, sample, feature = counter
    return philox.bits(samples, features, key=key, counter=(step, sample, layer, feature))


def _whole_blocks(samples: int, features: int, *, key: philox.Key, counter: philox.Counter) -> Array:
    return philox.bits(samples, features, key=key, counter=(*counter[:3], counter[3] // 4 * 4))


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    return draw(distinct("NF", LONG_LENGTHS)), {"key": draw(keys()), "counter": draw(counters())}


KEY, COUNTER = (1, 2), (0, 0, 0, 0)

CASES = (
    Case(
        "philox",
        "bits",
        _geometry(),
        _arguments,
        results=("bits",),
        exact="always",
        special=False,
        mutants={
            "nine rounds": nine_rounds(philox.bits),
            "the key's words exchanged": _key_exchanged,
            "layer and sample exchanged": _samples_before_layers,
            "always starts at the first word of a block": _whole_blocks,
        },
        refusals={
            "cannot draw -1 samples": {"samples": -1, "features": 4, "key": KEY, "counter": COUNTER},
            "key is": {"samples": 2, "features": 4, "key": (1,), "counter": COUNTER},
            "counter is": {"samples": 2, "features": 4, "key": KEY, "counter": (0, 0)},
        },
    ),
)
