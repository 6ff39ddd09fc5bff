"""Each output is the sum of the whole image multiplied with one row of w, pixel by pixel, plus b.

Here the rows of w are the mean images of the ten digits (left), and b is minus half their squared length, so that the
largest score belongs to the nearest mean. Right: the scores y of ten images, the first of each digit, minus the mean of
that image's ten scores; blue is above the mean, orange below. The title says for how many of all 1,297 training images
the largest score is that of the correct digit.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import digits, pixels
from refnet.ops import linear


def draw(figure: Figure) -> None:
    """Draw the rows of w, and the scores of ten images."""
    images, labels = digits()
    means = np.stack([images[labels == k].mean(axis=0) for k in range(10)])
    w = means.reshape(10, -1)
    b = -0.5 * (w**2).sum(axis=1)
    correct = (linear.forward(images, w, b).argmax(axis=1) == labels).mean()
    scores = linear.forward(images[[np.flatnonzero(labels == k)[0] for k in range(10)]], w, b)
    figure.set_size_inches(6.6, 3.4)
    rows, outputs = figure.subfigures(1, 2, width_ratios=[1, 1.7])
    for k, axis in enumerate(rows.subplots(5, 2).flat):
        pixels(axis, means[k], top=16)
        axis.set_ylabel(f"w[{k}]", rotation=0, ha="right", va="center")
    axis = outputs.subplots()
    axis.set_title(f"scores y; {correct:.0%} of images correct")
    pixels(axis, scores - scores.mean(axis=1, keepdims=True), signed=True)
    axis.set(xlabel="row of w", ylabel="digit in the image", xticks=range(10), yticks=range(10))
