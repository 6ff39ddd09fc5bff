"""Left: five scores z, their probabilities p and the gradient dz of the loss; the orange class is the correct one.

A step against the gradient raises the score of the correct class and lowers that of each other class in proportion to
its probability. Right: the loss and its derivative as the score of the correct class varies and those of nine other
classes stay at 0. The gradient of a mistake is at most 1 in size, and that of a confident correct answer is near 0.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, ORANGE, SOFT
from refnet.ops import softmax_xent


def draw(figure: Figure) -> None:
    """Draw an example, and the loss and its derivative as functions of the correct class's score."""
    z, label = np.array([[2.0, 1.0, 0.2, -0.6, -1.5]]), np.array([1])
    _, p = softmax_xent.forward(z, label)
    dz = softmax_xent.backward(p, label)
    left, right = figure.subfigures(1, 2, width_ratios=[1.2, 1])
    axes = left.subplots(1, 3)
    for axis, values, title in zip(axes, (z, p, dz), ("scores z", "p", "dz"), strict=True):
        axis.bar(range(5), values[0], color=[ORANGE if k == label[0] else BLUE for k in range(5)])
        axis.axhline(0, color=SOFT, linewidth=0.8)
        axis.set(title=title, xticks=[])
        axis.grid(axis="x", visible=False)
    scores = np.linspace(-6, 10, 200)
    losses, gradients = [], []
    for score in scores:
        z = np.zeros((1, 10))
        z[0, 0] = score
        loss, p = softmax_xent.forward(z, np.array([0]))
        losses.append(loss)
        gradients.append(softmax_xent.backward(p, np.array([0]))[0, 0])
    axis = right.subplots()
    axis.plot(scores, losses, color=BLUE, label="loss")
    axis.plot(scores, gradients, color=ORANGE, linestyle="--", label="its derivative")
    axis.set(xlabel="score of the correct class")
    axis.legend(loc="upper right")
