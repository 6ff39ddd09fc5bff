"""Random numbers as a pure function of what they are for: the generator Philox4x32-10.

Source
------
Salmon, Moraes, Dror and Shaw, *Parallel random numbers: as easy as 1, 2, 3* (SC 2011), section 4. The results are
checked against the known-answer vectors of the authors' library Random123. Triton's ``tl.philox`` is the same function.

Definition
----------
A *word* is an unsigned integer of 32 bits. A counter (c0, c1, c2, c3) of four words is encrypted with a key (k0, k1) of
two words. The result, four random words, is called a *block*. M0, M1, W0 and W1 are constants (``MULTIPLIERS`` and
``WEYL`` below); hi and lo are the upper and lower word of a 64-bit product, and ^ is exclusive or. One round is::

    (c0, c1, c2, c3)  ->  (hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0))

There are ten rounds. Between rounds ``k0 += W0`` and ``k1 += W1``. All sums are modulo 2^32.

How refnet counts
-----------------
The functions below take a key ``(seed, purpose)``, so that numbers for dropout are independent of numbers for crops,
and a counter ``(step, layer, sample, feature)``. The random word of feature f of sample n is word ``f mod 4`` of the
block whose four counter words are ``(f div 4, n, layer, step)``.

So a random word depends only on what it is *for*, never on how the work is split. It is the same for any batch split,
column, number of threads and backend, and after a run is resumed.

Shapes
------
``bits(samples, features)`` is uint32 (samples, features). The argument `counter` belongs to element [0, 0]; each
further row adds one to its sample, and each further column adds one to its feature.

Decisions
---------
- Words of keys and counters are taken modulo 2^32.
- Each block gives the words of four neighbouring features.
- There is no state and nothing to differentiate, so there is no backward.
"""

import numpy as np
import numpy.typing as npt

from refnet.ops._arguments import checked
from refnet.ops._rules import Shape, require_value

INTERFACE = ("bits",)

Word = npt.NDArray[np.uint32]
Key = tuple[int, int]
Counter = tuple[int, int, int, int]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # the fractional parts of the golden ratio and of sqrt(3), times 2^32
ROUNDS = 10
MASK = 0xFFFFFFFF


def block(c0: Word, c1: Word, c2: Word, c3: Word, key: Key) -> tuple[Word, Word, Word, Word]:
    """Return the encrypted counters: four uint32 arrays of the shape to which the four arguments broadcast."""
    k0, k1 = key[0] & MASK, key[1] & MASK
    for _ in range(ROUNDS):
        high0, low0 = _product(MULTIPLIERS[0], c0)
        high1, low1 = _product(MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint32(k0), low1, high0 ^ c3 ^ np.uint32(k1), low0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def _product(multiplier: int, word: Word) -> tuple[Word, Word]:
    """Return the upper and the lower 32 bits of the 64-bit product."""
    product = np.uint64(multiplier) * word.astype(np.uint64)
    return (product >> np.uint64(32)).astype(np.uint32), product.astype(np.uint32)


def bits_shapes(samples: int, features: int, *, key: Key, counter: Counter) -> tuple[Shape, ...]:
    """Return the shape. Raises ``ArgumentError`` for a negative size, or a key or counter of wrong length."""
    require_value("philox", samples >= 0 and features >= 0, f"cannot draw {samples} samples of {features} features")
    require_value("philox", len(key) == 2, f"key is (seed, purpose); it has {len(key)} words")
    require_value(
        "philox", len(counter) == 4, f"counter is (step, layer, sample, feature); it has {len(counter)} words"
    )
    return ((samples, features),)


@checked
def bits(samples: int, features: int, *, key: Key, counter: Counter) -> Word:
    """Return one random 32-bit word for each feature of each sample: uint32 (samples, features)."""
    step, layer, sample, feature = counter
    first, skip = divmod(feature, 4)
    blocks = -(-(skip + features) // 4)
    c0 = _words(first, blocks)[None, :]
    c1 = _words(sample, samples)[:, None]
    c2 = np.full((1, 1), layer & MASK, np.uint32)
    c3 = np.full((1, 1), step & MASK, np.uint32)
    words = np.stack(block(c0, c1, c2, c3, key), axis=-1)  # (samples, blocks, 4)
    return words.reshape(samples, blocks * 4)[:, skip : skip + features].copy()


def _words(start: int, count: int) -> Word:
    """Return `count` consecutive integers from `start`, modulo 2^32: uint32 (count,)."""
    return (((start & MASK) + np.arange(count)) & MASK).astype(np.uint32)
