"""Left: tanh and its derivative, which is near 0 beyond 3 on either side.

A unit with a large input passes hardly any gradient. Right: a feature map (the upper one in the figure of the chapter
conv2d) before and after tanh. Strong and very strong responses become indistinguishable.
"""

from matplotlib.figure import Figure

from figures.units import draw_unit
from refnet.ops import tanh


def draw(figure: Figure) -> None:
    """Draw the unit, its derivative, and a map before and after."""
    draw_unit(figure, tanh)
