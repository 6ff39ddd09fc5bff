"""Rectified linear unit (ReLU): positive inputs pass unchanged, all others become zero.

Source
------
Paper, section 3.1: f(x) = max(0, x), which trains several times faster than tanh.

Forward
-------
``y = 0 where x <= 0, otherwise x``.

Backward
--------
The derivative of y is 0 for x < 0 and 1 for x > 0: ``dx = 0 where y <= 0, otherwise dy``. Since y > 0 exactly where
x > 0, y is enough and x need not be saved.

Shapes
------
x, y, dy and dx all have the same shape, which may be any shape.

Decisions
---------
- The derivative at 0 is 0.
- Minus zero becomes plus zero.
- A NaN in x stays NaN in y, and where y is NaN, dx is dy: a NaN stays visible and does not turn into an ordinary zero.
  This is why both formulas are written with "otherwise".

Saved for the backward pass
---------------------------
Only y.
"""

import numpy as np

from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape, require_same

INTERFACE = ("forward", "backward")


def forward_shapes(x: Shape) -> tuple[Shape, ...]:
    """Return the shape of y: that of x."""
    return (x,)


@checked
def forward(x: Floats) -> Floats:
    """Return the positive part of x: y, shaped like x."""
    return np.where(x <= 0, x.dtype.type(0), x)


def backward_shapes(dy: Shape, y: Shape) -> tuple[Shape, ...]:
    """Return the shape of dx. Raises ``ShapeError`` unless dy has the shape of y."""
    require_same("relu", y=y, dy=dy)
    return (y,)


@checked
def backward(dy: Floats, y: Floats) -> Floats:
    """Return the gradient dx, shaped like y."""
    return np.where(y <= 0, dy.dtype.type(0), dy)
