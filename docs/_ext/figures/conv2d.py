"""A handwritten 0, and what two filters of 3x3 make of it.

Each pixel of a map is one window of the image, multiplied with the filter and summed. The upper filter answers where
the image gets brighter to the right (blue) or darker (orange), the lower one where it does so downwards. Framed: a
window, and the pixel that it becomes.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import GREEN, digits, frame, pixels
from refnet.ops import conv2d

DIGIT = 34  # a 0, round and clear
EDGES = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
ROW, COLUMN = 3, 2  # of the pixel that is framed


def draw(figure: Figure) -> None:
    """Draw image, filter and map, twice."""
    image = digits()[0][DIGIT]
    filters = np.stack([EDGES, EDGES.T])
    (maps,) = conv2d.forward(image[None, None], filters[:, None], np.zeros(2), stride=1, pad=1)
    top = np.abs(maps).max()
    figure.set_size_inches(6.6, 4.2)
    axes = figure.subplots(2, 3, width_ratios=[8, 6, 8])
    for (left, middle, right), w, y in zip(axes, filters, maps, strict=True):
        pixels(left, image)
        frame(left, ROW - 1, COLUMN - 1, 3, GREEN)
        pixels(middle, w, signed=True)
        for (r, s), value in np.ndenumerate(w):
            ink = "white" if abs(value) == 2 else "black"  # on a colour that is the same by day and by night
            middle.text(s, r, f"{value:+.0f}" if value else "0", ha="center", va="center", color=ink)
        pixels(right, y, signed=True, top=top)
        frame(right, ROW, COLUMN, 1, GREEN)
    for axis, title in zip(axes[0], ("x, 8x8 pixels", "w, 3x3", "y, 8x8 (pad=1)"), strict=True):
        axis.set_title(title)
