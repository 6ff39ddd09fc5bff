"""Random numbers as a pure function; see :mod:`refnet.ops.philox`. Each thread draws the words of whole samples."""

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet.ops.philox import MASK, MULTIPLIERS, ROUNDS, WEYL, Counter, Key
from refnet_numba import _memory
from refnet_numba._jit import kernel, serial

Word = npt.NDArray[np.uint32]

# Words have 32 bits, but are computed as uint64, which holds the product of two; the mask LOW keeps the lower half.
M0, M1 = (np.uint64(m) for m in MULTIPLIERS)
W0, W1 = (np.uint64(w) for w in WEYL)
LOW = np.uint64(MASK)
HALF = np.uint64(32)


def bits(samples: int, features: int, *, key: Key, counter: Counter) -> Word:
    """Return one random 32-bit word for each feature of each sample: uint32 (samples, features)."""
    words = _memory.empty((samples, features), np.uint32)
    _bits(*unsigned(key, counter), words)
    return words


def unsigned(key: Key, counter: Counter) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64]:
    """Return the words of key and counter as uint64, the type of the kernels' arguments; a feature may exceed 2^32."""
    seed, purpose, step, layer, sample, feature = (np.uint64(word % 2**64) for word in (*key, *counter))
    return seed, purpose, step, layer, sample, feature


@serial
def block(
    k0: np.uint64, k1: np.uint64, c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Return the four random words of a counter c and a key k: 32 bits each, as uint64."""
    k0, k1, c0, c1, c2, c3 = k0 & LOW, k1 & LOW, c0 & LOW, c1 & LOW, c2 & LOW, c3 & LOW
    for _ in range(ROUNDS):
        a, b = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (b >> HALF) ^ c1 ^ k0, b & LOW, (a >> HALF) ^ c3 ^ k1, a & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return c0, c1, c2, c3


@serial
def draw_row(
    k0: np.uint64,
    k1: np.uint64,
    step: np.uint64,
    layer: np.uint64,
    sample: np.uint64,
    feature: np.uint64,
    words: Word,
) -> None:
    """Write the random words of one sample to `words` (F,), from `feature` on.

    A counter gives the words of four features; the first feature may be in the middle of such a block of four.
    """
    skip = np.int64(feature & np.uint64(3))
    for first in range(-skip, words.size, 4):
        index = (feature + np.uint64(first + skip)) >> np.uint64(2)
        block_words = block(k0, k1, index, sample, layer, step)
        for i in range(max(0, -first), min(4, words.size - first)):
            words[first + i] = block_words[i]


@kernel
def _bits(
    k0: np.uint64,
    k1: np.uint64,
    step: np.uint64,
    layer: np.uint64,
    sample: np.uint64,
    feature: np.uint64,
    words: Word,
) -> None:
    for n in prange(len(words)):
        draw_row(k0, k1, step, layer, sample + np.uint64(n), feature, words[n])
