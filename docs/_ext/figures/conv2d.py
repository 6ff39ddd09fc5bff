"""A handwritten 0 (left), two 3x3 kernels (middle) and the feature maps they produce (right).

Each pixel of a map is one window of the image multiplied with the kernel and summed. The upper kernel responds where
the image gets brighter to the right (blue) or darker (orange), the lower one where it gets brighter or darker
downwards. Green frames: one window, and the output pixel computed from it.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import GREEN, digits, frame, pixels
from refnet.ops import conv2d

DIGIT = 34  # a 0, round and clear
EDGES = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
ROW, COLUMN = 3, 2  # of the framed output pixel


def draw(figure: Figure) -> None:
    """Draw image, kernel and feature map for each of the two kernels."""
    image = digits()[0][DIGIT]
    kernels = np.stack([EDGES, EDGES.T])
    (maps,) = conv2d.forward(image[None, None], kernels[:, None], np.zeros(2), stride=1, pad=1)
    top = np.abs(maps).max()
    figure.set_size_inches(6.6, 4.2)
    axes = figure.subplots(2, 3, width_ratios=[8, 6, 8])
    for (left, middle, right), w, y in zip(axes, kernels, maps, strict=True):
        pixels(left, image)
        frame(left, ROW - 1, COLUMN - 1, 3, GREEN)
        pixels(middle, w, signed=True)
        for (r, s), value in np.ndenumerate(w):
            ink = "white" if abs(value) == 2 else "black"  # these cells have the same colours on light and dark pages
            middle.text(s, r, f"{value:+.0f}" if value else "0", ha="center", va="center", color=ink)
        pixels(right, y, signed=True, top=top)
        frame(right, ROW, COLUMN, 1, GREEN)
    for axis, title in zip(axes[0], ("x, 8x8 pixels", "w, 3x3", "y, 8x8 (pad=1)"), strict=True):
        axis.set_title(title)
