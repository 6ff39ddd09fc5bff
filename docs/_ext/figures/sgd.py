"""Down a valley that is 25 times steeper across than along: 40 steps at one rate.

Without momentum the way along the valley is slow. With the paper's 0.9 the steps along it add up, and those across it
cancel.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, ORANGE, RULE, Floats
from refnet.ops import sgd

STEEP = np.array([1.0, 25.0])


def draw(figure: Figure) -> None:
    """Draw two ways down, and how the loss falls."""
    x, y = np.meshgrid(np.linspace(-11, 4, 80), np.linspace(-2.2, 2.2, 80))
    valley, losses = figure.subplots(1, 2, width_ratios=[1.5, 1])
    valley.contour(x, y, np.sqrt(loss(np.stack([x, y], axis=-1))), levels=9, colors=RULE, linewidths=1)
    for momentum, colour in ((0.0, ORANGE), (0.9, BLUE)):
        way = walk(momentum)
        valley.plot(*way.T, color=colour, marker=".", markersize=4, linewidth=1)
        losses.plot(loss(way), color=colour, label=f"momentum {momentum:g}")
    valley.set(title="Two weights", xticks=[], yticks=[])
    losses.set(yscale="log", xlabel="step", title="Loss")
    losses.yaxis.set_major_formatter("{x:g}")
    losses.legend(loc="lower left")


def loss(w: Floats) -> Floats:
    """Say how high a place is."""
    return 0.5 * (STEEP * w**2).sum(axis=-1)


def walk(momentum: float) -> Floats:
    """Take steps down the valley."""
    w, v = np.array([-10.0, 2.0]), np.zeros(2)
    way = [w.copy()]
    for _ in range(40):
        sgd.step_(w, v, STEEP * w, lr=0.02, momentum=momentum, weight_decay=0.0)
        way.append(w.copy())
    return np.stack(way)
