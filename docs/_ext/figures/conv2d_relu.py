"""An image (left), the sums of the convolution (middle) and the output after ReLU (right).

The sums exist only inside the operation: ReLU is applied before anything is written to memory. In the backward pass
only the pixels that are blue on the right receive gradient.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.conv2d import DIGIT, EDGES
from figures.style import digits, pixels
from refnet.ops import conv2d, conv2d_relu


def draw(figure: Figure) -> None:
    """Draw an image, the sums that are never stored, and the feature map."""
    x, w, b = digits()[0][DIGIT, None, None], EDGES[None, None], np.zeros(1)
    sums = conv2d.forward(x, w, b, stride=1, pad=1)
    y = conv2d_relu.forward(x, w, b, stride=1, pad=1)
    top = np.abs(sums).max()
    image, inside, after = figure.subplots(1, 3)
    pixels(image, x[0, 0])
    image.set_title("x")
    pixels(inside, sums[0, 0], signed=True, top=top)
    inside.set_title("the sums, never stored")
    pixels(after, y[0, 0], signed=True, top=top)
    after.set_title("y")
