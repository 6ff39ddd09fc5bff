"""Left: activities of 24 neighbouring feature maps at one position, before (x) and after normalisation (y).

The constants are the paper's. The strong unit suppresses itself, and the two maps on either side of it (shaded) more
than the rest. Right: a unit's output as its input grows, next to one neighbour of activity 0, 200 or 400.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, FAINT, GREEN, ORANGE
from refnet.ops import lrn

PAPER = {"n": 5, "k": 2, "alpha": 1e-4, "beta": 0.75}


def draw(figure: Figure) -> None:
    """Draw activities before and after, and the output of one unit as its input grows."""
    x = np.random.default_rng(0).uniform(30, 90, size=24)
    x[11] = 260
    y, _ = lrn.forward(x[None, :, None, None], **PAPER)
    bars, response = figure.subplots(1, 2, width_ratios=[1.3, 1])
    bars.bar(np.arange(24), x, color=FAINT, label="x")
    bars.bar(np.arange(24), y[0, :, 0, 0], color=BLUE, label="y")
    bars.axvspan(8.5, 13.5, color=ORANGE, alpha=0.15, linewidth=0, zorder=0)
    bars.set(xlabel="map", title="Activity at one position")
    bars.legend(loc="upper right")
    own = np.linspace(0, 600, 200)
    for neighbour, colour in ((0, BLUE), (200, GREEN), (400, ORANGE)):
        pair = np.stack([own, np.full_like(own, neighbour)], axis=1)[:, :, None, None]
        response.plot(own, lrn.forward(pair, **PAPER)[0][:, 0, 0, 0], color=colour, label=f"{neighbour}")
    response.set(xlabel="x", title="y, next to a neighbour of ...", xlim=(0, 600), ylim=(0, None))
    response.legend(loc="lower right")
