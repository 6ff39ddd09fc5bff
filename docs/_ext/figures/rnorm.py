"""Left: one row of a feature map with a bright spot, before (x) and after normalisation (y).

n = 5, k = 1, and alpha is 20 times that of code2012, to be visible. The spot suppresses itself, and the pixels up to
two away (shaded) more than the rest. Right: the share of each activity that is left in the whole map (y / x). At the
edges the window has fewer pixels, so more is left.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, FAINT, ORANGE, bare
from refnet.ops import rnorm

OPTIONS = {"n": 5, "k": 1, "alpha": 20 * 1e-3 / 25, "beta": 0.75}
SIDE = 15


def draw(figure: Figure) -> None:
    """Draw the middle row of a map before and after, and the share that is left in the whole map."""
    x = np.full((SIDE, SIDE), 8.0)
    middle = SIDE // 2
    x[middle, middle] = 40
    y = rnorm.forward(x[None, None], **OPTIONS)[0][0, 0]
    bars, share = figure.subplots(1, 2, width_ratios=[1.5, 1])
    bars.bar(np.arange(SIDE), x[middle], color=FAINT, label="x")
    bars.bar(np.arange(SIDE), y[middle], color=BLUE, label="y")
    bars.axvspan(middle - 2.5, middle + 2.5, color=ORANGE, alpha=0.15, linewidth=0, zorder=0)
    bars.set(xlabel="column", title="Activity in the middle row", xticks=range(0, SIDE, 2))
    bars.legend(loc="upper right")
    shades = share.imshow(y / x, interpolation="none", cmap="gray", vmin=0)
    bare(share)
    share.set_title("y / x")
    figure.colorbar(shades, ax=share)
