"""Random orders: a permutation is the order in which random words of Philox sort.

Each of n items draws a 64-bit word; sorting the words shuffles the items, and every order is equally likely except
for ties (a chance of n^2 / 2^65; a tie keeps the order of the indices). Nothing is stored: a run that resumes in
epoch 31 asks for the order of epoch 31.
"""

import numpy as np
import numpy.typing as npt

from refnet.ops import philox
from refnet.randomness import Purpose


def permutation(n: int, *, key: philox.Key, counter: philox.Counter) -> npt.NDArray[np.int64]:
    """Return a random order of 0..n-1: int64 (n,).

    Item i draws features 0 and 1 of the sample i after the counter's.
    """
    words = philox.bits(n, 2, key=key, counter=counter).astype(np.uint64)
    return np.argsort(words[:, 0] << np.uint64(32) | words[:, 1], kind="stable").astype(np.int64)


def epoch_order(n: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the order in which an epoch visits n images: int64 (n,)."""
    return permutation(n, key=(seed, Purpose.ORDER), counter=(epoch, 0, 0, 0))
