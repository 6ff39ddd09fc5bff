"""Random numbers drawn on the host with :mod:`refnet.ops.philox`: normal numbers for weights, and the purposes of keys.

They are computed by the reference and then copied to a backend, so they have the same bits on every backend.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from refnet.ops import philox


class Purpose(IntEnum):
    """The second word of a Philox key: what the random numbers are used for."""

    INITIAL = 1
    DROPOUT = 2
    ORDER = 3
    CROPS = 4
    SPLIT = 5
    COLOUR = 6


def normal(samples: int, features: int, *, key: philox.Key, counter: philox.Counter) -> npt.NDArray[np.float64]:
    """Return standard normal numbers: float64 (samples, features). Features 2i and 2i+1 come from two words."""
    step, layer, sample, feature = counter
    skip = feature % 2
    pairs = (skip + features + 1) // 2
    words = philox.bits(samples, 2 * pairs, key=key, counter=(step, layer, sample, feature - skip))
    return gaussian(words)[:, skip : skip + features]


def gaussian(words: philox.Word) -> npt.NDArray[np.float64]:
    """Return standard normal numbers made from random words: float64, shaped like words, with rows of even length.

    The Box-Muller transform makes two numbers from two words: with u and t uniform in (0, 1], numbers 2i and 2i+1 are
    ``sqrt(-2 log u) cos(2 pi t)`` and ``sqrt(-2 log u) sin(2 pi t)``. Rounded to float32 they are the same on every
    machine except for a last bit of log, cos or sin that falls on a rounding boundary (about one number in 2^28).
    """
    uniform = (words + np.float64(1)) * 2.0**-32
    radius, angle = np.sqrt(-2 * np.log(uniform[:, 0::2])), 2 * np.pi * uniform[:, 1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(words.shape)
