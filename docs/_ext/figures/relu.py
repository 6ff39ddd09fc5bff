"""Left, the unit and its derivative: all or nothing, however far x goes.

Right, the upper map of the chapter conv2d before and after: what was negative (orange) is silent.
"""

from matplotlib.figure import Figure

from figures.units import draw_unit
from refnet.ops import relu


def draw(figure: Figure) -> None:
    """Draw the unit, its derivative, and a map before and after."""
    draw_unit(figure, relu)
