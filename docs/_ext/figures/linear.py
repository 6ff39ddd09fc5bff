"""Each row of w is laid over the whole image, multiplied and summed, and b is added.

Here the rows are the mean images of the ten digits, and b is minus half of their squared length: then the largest
score belongs to the nearest mean. The scores are those of the first image of each digit, less their mean, so that
blue is above it.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import digits, pixels
from refnet.ops import linear


def draw(figure: Figure) -> None:
    """Draw rows, and the scores of images."""
    images, labels = digits()
    means = np.stack([images[labels == k].mean(axis=0) for k in range(10)])
    w = means.reshape(10, -1)
    b = -0.5 * (w**2).sum(axis=1)
    right = (linear.forward(images, w, b).argmax(axis=1) == labels).mean()
    scores = linear.forward(images[[np.flatnonzero(labels == k)[0] for k in range(10)]], w, b)
    figure.set_size_inches(6.6, 3.4)
    rows, answers = figure.subfigures(1, 2, width_ratios=[1, 1.7])
    for k, axis in enumerate(rows.subplots(5, 2).flat):
        pixels(axis, means[k], top=16)
        axis.set_ylabel(f"w[{k}]", rotation=0, ha="right", va="center")
    axis = answers.subplots()
    axis.set_title(f"y; of all 1,297 images {right:.0%} right")
    pixels(axis, scores - scores.mean(axis=1, keepdims=True), signed=True)
    axis.set(xlabel="row of w", ylabel="image of a", xticks=range(10), yticks=range(10))
