"""Shared by the figures of ReLU and tanh: the curve, its derivative, and its effect on a feature map."""

from types import ModuleType

import numpy as np
from matplotlib.figure import Figure

from figures.conv2d import DIGIT, EDGES
from figures.style import BLUE, ORANGE, digits, pixels
from refnet.ops import conv2d


def draw_unit(figure: Figure, op: ModuleType) -> None:
    """Draw an activation function, its derivative, and a feature map before and after it."""
    x = np.linspace(-4, 4, 400)
    y = op.forward(x)
    sums = conv2d.forward(digits()[0][DIGIT, None, None], EDGES[None, None], np.zeros(1), stride=1, pad=1)[0, 0] / 16
    curve, before, after = figure.subplots(1, 3, width_ratios=[1.7, 1, 1])
    curve.plot(x, y, color=BLUE, label="y")
    curve.plot(x, op.backward(np.ones_like(x), y), color=ORANGE, linestyle="--", label="derivative")
    curve.set(xlabel="x", ylim=(-1.4, 2.4), xlim=(-4, 4))
    curve.legend(loc="upper left")
    top = np.abs(sums).max()
    pixels(before, sums, signed=True, top=top)
    before.set_title("a map: x")
    pixels(after, op.forward(sums), signed=True, top=top)
    after.set_title("y")
