"""Gradient descent in a loss valley that is 25 times steeper across than along: 40 steps with one learning rate.

Left: the paths of two weights; on each grey ellipse the loss is the same, and it is lowest at their centre. Without
momentum (orange), progress along the valley is slow. With the paper's momentum of 0.9 (blue) the steps along the valley
add up, and those across it cancel. Right: the loss after each step.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, ORANGE, RULE, Floats
from refnet.ops import sgd

STEEP = np.array([1.0, 25.0])


def draw(figure: Figure) -> None:
    """Draw both paths of the weights, and the losses along them."""
    x, y = np.meshgrid(np.linspace(-11, 4, 80), np.linspace(-2.2, 2.2, 80))
    valley, losses = figure.subplots(1, 2, width_ratios=[1.5, 1])
    valley.contour(x, y, np.sqrt(loss(np.stack([x, y], axis=-1))), levels=9, colors=RULE, linewidths=1)
    for momentum, colour in ((0.0, ORANGE), (0.9, BLUE)):
        path = descend(momentum)
        valley.plot(*path.T, color=colour, marker=".", markersize=4, linewidth=1)
        losses.plot(loss(path), color=colour, label=f"momentum {momentum:g}")
    valley.set(title="Two weights", xticks=[], yticks=[], xlabel="first weight", ylabel="second weight")
    losses.set(yscale="log", xlabel="step", title="Loss")
    losses.yaxis.set_major_formatter("{x:g}")
    losses.legend(loc="lower left")


def loss(w: Floats) -> Floats:
    """Return the loss at weights w (...,2)."""
    return 0.5 * (STEEP * w**2).sum(axis=-1)


def descend(momentum: float) -> Floats:
    """Return the weights before and after each of 40 steps: (41,2)."""
    w, v = np.array([-10.0, 2.0]), np.zeros(2)
    path = [w.copy()]
    for _ in range(40):
        sgd.step_(w, v, STEEP * w, lr=0.02, momentum=momentum, weight_decay=0.0)
        path.append(w.copy())
    return np.stack(path)
