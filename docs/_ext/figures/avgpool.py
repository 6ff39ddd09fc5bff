"""The same handwritten 5 pooled by the mean and by the maximum, with windows of 3x3 pixels and stride 2.

The frames are the windows; their two colours only tell neighbours apart. The image has 8 rows and columns, so the last
windows extend beyond its edge. Each mean is that of the pixels inside: 6 of 9 at an edge, 4 in the corner. Means are
smaller than maxima, and change less where the image has sharp edges.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, GREEN, digits, frame, pixels
from refnet.ops import avgpool, maxpool

DIGIT = 45  # a 5


def draw(figure: Figure) -> None:
    """Draw the windows, their means and their maxima."""
    image = digits()[0][DIGIT]
    x, window = image[None, None], {"size": 3, "stride": 2, "ceil": True}
    left, middle, right = figure.subplots(1, 3, width_ratios=[9, 4, 4])
    pixels(left, image, top=16)
    left.set(title="windows of 3x3, stride 2", xlim=(-0.7, 8.7), ylim=(8.7, -0.7))
    left.spines[:].set(visible=False)
    for p, q in np.ndindex(4, 4):
        frame(left, 2 * p, 2 * q, 3, (BLUE, GREEN)[(p + q) % 2], inset=0.12)
    for axis, y, title in (
        (middle, avgpool.forward(x, **window), "mean"),
        (right, maxpool.forward(x, **window)[0], "maximum"),
    ):
        pixels(axis, y[0, 0], top=16)
        axis.set_title(title)
