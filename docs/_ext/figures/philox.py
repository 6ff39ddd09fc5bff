"""Left, two neighbouring features of 1,500 samples, which have nothing to do with each other.

Right, row i says which of a block's 128 bits change if bit i of its counter does: about half of them, in no pattern.
So counters that follow each other are as good as any.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, pixels
from refnet.data.dataset import Pixels
from refnet.ops import philox


def draw(figure: Figure) -> None:
    """Draw pairs of draws, and what a bit of the counter changes."""
    pairs = philox.bits(1500, 2, key=(0, 1), counter=(0, 0, 0, 0)) / 2**32
    cloud, change = figure.subplots(1, 2)
    cloud.scatter(*pairs.T, s=1.5, color=BLUE, linewidth=0)
    cloud.set(aspect="equal", xticks=[0, 1], yticks=[0, 1], xlabel="feature 0", ylabel="feature 1", title="Draws")
    changed = bits(np.eye(128, dtype=np.uint8)) ^ bits(np.zeros((128, 128), np.uint8))
    pixels(change, changed)
    change.set(xlabel="bits of the block", ylabel="bit of the counter", title=f"{changed.mean():.1%} change")


def bits(counters: Pixels) -> Pixels:
    """Encrypt counters given as bits (n,128): as many bits."""
    words = np.packbits(counters, axis=1, bitorder="little").view("<u4").T
    block = np.stack(philox.block(*words, key=(0, 1)), axis=1).astype("<u4")
    return np.unpackbits(block.view(np.uint8), axis=1, bitorder="little")
