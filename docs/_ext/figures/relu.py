"""Left: ReLU and its derivative, which is 0 or 1, however large x is.

Right: a feature map (the upper one in the figure of the chapter conv2d) before and after ReLU. Negative values (orange)
become zero.
"""

from matplotlib.figure import Figure

from figures.units import draw_unit
from refnet.ops import relu


def draw(figure: Figure) -> None:
    """Draw the unit, its derivative, and a map before and after."""
    draw_unit(figure, relu)
