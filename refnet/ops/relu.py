"""Rectified linear unit: what is positive passes, the rest becomes zero.

Source
------
Paper, section 3.1: f(x) = max(0, x), several times faster to train than tanh.

Forward
-------
``y = 0 where x <= 0, otherwise x``.

Backward
--------
y' is 0 on the left of zero and 1 on the right: ``dx = 0 where y <= 0, otherwise dy``. Since y > 0 exactly where
x > 0, the output is enough and the input may be forgotten.

Shapes
------
x, y, dy and dx have one shape, any shape.

Decisions
---------
At 0 the derivative is 0. Minus zero becomes plus zero. "Otherwise" lets a NaN in x through, and in backward every dy
that meets a NaN in y: a broken number stays visible instead of turning into a healthy zero.

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
    """Rectify: y, shaped like x."""
    return np.where(x <= 0, x.dtype.type(0), x)


def backward_shapes(dy: Shape, y: Shape) -> tuple[Shape, ...]:
    """Shape rule: (dx,)."""
    require_same("relu", y=y, dy=dy)
    return (y,)


def backward(dy: Floats, y: Floats) -> Floats:
    """Gradient of x."""
    return np.where(y <= 0, dy.dtype.type(0), dy)
