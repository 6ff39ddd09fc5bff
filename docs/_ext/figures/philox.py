"""Left: the random numbers of two neighbouring features, for 1,500 samples; they are independent of each other.

Right: row i shows in white which of the 128 result bits change when bit i of the counter is flipped. About half of them
do, without a pattern. So consecutive counters give numbers as random as any others.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, pixels
from refnet.data.dataset import Pixels
from refnet.ops import philox


def draw(figure: Figure) -> None:
    """Draw pairs of random numbers, and the bits that change with each bit of the counter."""
    pairs = philox.bits(1500, 2, key=(0, 1), counter=(0, 0, 0, 0)) / 2**32
    cloud, change = figure.subplots(1, 2)
    cloud.scatter(*pairs.T, s=1.5, color=BLUE, linewidth=0)
    cloud.set(
        aspect="equal", xticks=[0, 1], yticks=[0, 1], xlabel="feature 0", ylabel="feature 1", title="Random numbers"
    )
    changed = bits(np.eye(128, dtype=np.uint8)) ^ bits(np.zeros((128, 128), np.uint8))
    pixels(change, changed)
    change.set(xlabel="bit of the result", ylabel="flipped bit", title=f"Changed bits: {changed.mean():.1%}")


def bits(counters: Pixels) -> Pixels:
    """Return the encrypted counters as bits: uint8 (n,128), like the counters."""
    words = np.packbits(counters, axis=1, bitorder="little").view("<u4").T
    block = np.stack(philox.block(*words, key=(0, 1)), axis=1).astype("<u4")
    return np.unpackbits(block.view(np.uint8), axis=1, bitorder="little")
