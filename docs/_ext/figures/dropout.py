"""Left: 48 units (from left to right) for 12 images (from top to bottom), in two steps; white is kept, black dropped.

Each row is a different sub-network. Right: the mean output of six units of activity 1 over more and more draws, one
line for each unit; it approaches 0.5 (dashed), the value used at test time.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, ORANGE, pixels
from refnet.ops import dropout


def draw(figure: Figure) -> None:
    """Draw two masks, and running means of many draws."""
    left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1])
    for step, axis in enumerate(left.subplots(2, 1)):
        pixels(axis, dropout.mask((12, 48), drop=0.5, key=(0, 2), counter=(step, 0, 0, 0)).astype(float))
        axis.set_title(f"step {step}")
    draws = 400
    ones = np.ones((draws, 6))
    y = dropout.forward(ones, drop=0.5, key=(0, 2), counter=(0, 0, 0, 0))
    axis = right.subplots()
    axis.plot(np.arange(1, draws + 1), y.cumsum(axis=0) / np.arange(1, draws + 1)[:, None], color=BLUE, linewidth=1)
    axis.axhline(dropout.expected(ones, drop=0.5)[0, 0], color=ORANGE, linestyle="--")
    axis.set(xlabel="number of draws", title="Mean output", ylim=(0, 1.02), xscale="log")
    axis.xaxis.set_major_formatter("{x:g}")
