"""The 40 outputs of a fully connected layer for one digit, before ReLU (grey) and after (blue).

Where only grey is visible the sum is negative: the operation turns it into 0 before writing it, and no gradient passes
back.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, FAINT, digits
from refnet.ops import linear, linear_relu


def draw(figure: Figure) -> None:
    """Draw the sums, and the outputs after ReLU."""
    rng = np.random.default_rng(0)
    x, w, b = digits()[0][:1].reshape(1, -1), 0.03 * rng.normal(size=(40, 64)), np.zeros(40)
    sums, y = linear.forward(x, w, b)[0], linear_relu.forward(x, w, b)[0]
    axis = figure.subplots()
    axis.bar(np.arange(40), sums, color=FAINT, label="the sum, never stored")
    axis.bar(np.arange(40), y, color=BLUE, label="y")
    axis.set(xlabel="output")
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
