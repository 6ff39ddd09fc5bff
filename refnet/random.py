"""What is drawn on the host with :mod:`refnet.ops.philox`: purposes, and normal numbers for the first weights.

Everything here is computed once by the reference and then handed to a backend, so it has the same bits on all.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from refnet.ops import philox


class Purpose(IntEnum):
    """The second word of a Philox key: what the numbers are for."""

    INITIAL = 1
    DROPOUT = 2
    ORDER = 3
    CROPS = 4
    SPLIT = 5


def normal(samples: int, features: int, *, key: philox.Key, counter: philox.Counter) -> npt.NDArray[np.float64]:
    """Draw standard normal numbers: float64 (samples, features).

    Box and Muller's transform of two words a number: with u and t uniform in (0, 1], ``sqrt(-2 log u) cos(2 pi t)``.
    Rounded to float32 the result is the same on every machine but for a last bit of log or cos that falls on a
    rounding boundary (about one number in 2^28).
    """
    step, layer, sample, feature = counter
    words = philox.bits(samples, 2 * features, key=key, counter=(step, layer, sample, 2 * feature))
    uniform = (words + np.float64(1)) * 2.0**-32
    normal: npt.NDArray[np.float64] = np.sqrt(-2 * np.log(uniform[:, 0::2])) * np.cos(2 * np.pi * uniform[:, 1::2])
    return normal
