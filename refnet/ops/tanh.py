"""Hyperbolic tangent: the saturating unit that the paper replaced.

Source
------
Paper, section 3.1 and figure 1 (a network of tanh units needs six times the iterations of one of ReLUs).

Forward
-------
``y = tanh(x)``.

Backward
--------
With tanh = sinh/cosh and the quotient rule, tanh' = (cosh² - sinh²)/cosh² = 1 - tanh², so ``dx = dy * (1 - y²)``:
the output is enough and the input may be forgotten.

Shapes
------
x, y, dy and dx have one shape, any shape.

Decisions
---------
1 - y² is taken as (1 - y)(1 + y), which keeps its relative precision where y is near ±1 and the difference small.

Kept for backward
-----------------
y alone.
"""

import numpy as np

from refnet.ops._rules import Floats, Shape, require_same

INTERFACE = ("forward", "backward")


def forward_shapes(x: Shape) -> tuple[Shape, ...]:
    """Shape rule: (y,)."""
    return (x,)


def forward(x: Floats) -> Floats:
    """Squash to (-1, 1): y, shaped like x."""
    y: Floats = np.tanh(x)
    return y


def backward_shapes(dy: Shape, y: Shape) -> tuple[Shape, ...]:
    """Shape rule: (dx,)."""
    require_same("tanh", y=y, dy=dy)
    return (y,)


def backward(dy: Floats, y: Floats) -> Floats:
    """Gradient of x."""
    return dy * ((1 - y) * (1 + y))
