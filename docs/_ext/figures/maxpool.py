"""The same handwritten 5 pooled with windows of 3x3 pixels and of 2x2, both with stride 2.

The frames are the windows; their two colours only tell neighbours apart. y is the output. Dots mark the pixel each
maximum came from; only these receive gradient. Larger dots won several windows, which is possible only when windows
overlap.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, GREEN, ORANGE, digits, frame, pixels
from refnet.ops import maxpool

DIGIT = 45  # a 5


def draw(figure: Figure) -> None:
    """Draw windows, maxima and outputs for both window sizes."""
    image = digits()[0][DIGIT, :7, :7]
    for part, size in zip(figure.subfigures(1, 2, wspace=0.08), (3, 2), strict=True):
        x = image[None, None]
        y, which = maxpool.forward(x, size=size, stride=2)
        won = maxpool.backward(np.ones_like(y), which, x_shape=x.shape, size=size, stride=2)[0, 0]
        left, right = part.subplots(1, 2, width_ratios=[7, 3])
        pixels(left, image, top=16)
        for p, q in np.ndindex(3, 3):
            frame(left, 2 * p, 2 * q, size, (BLUE, GREEN)[(p + q) % 2], inset=0.12)
        rows, columns = np.nonzero(won)
        left.scatter(columns, rows, s=14 * won[rows, columns], color=ORANGE, zorder=3)
        pixels(right, y[0, 0], top=16)
        left.set_title(f"windows of {size}x{size}, stride 2")
        right.set_title("y")
