"""Left, the unit and its derivative, which is near 0 beyond 3 on either side.

A unit that is driven hard passes hardly any gradient. Right, the upper map of the chapter conv2d before and after:
strong and very strong answers become the same.
"""

from matplotlib.figure import Figure

from figures.units import draw_unit
from refnet.ops import tanh


def draw(figure: Figure) -> None:
    """Draw the unit, its derivative, and a map before and after."""
    draw_unit(figure, tanh)
