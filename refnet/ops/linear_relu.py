"""Fully connected layer and ReLU in one: :mod:`refnet.ops.relu` after :mod:`refnet.ops.linear`, to the letter.

Source
------
Paper, section 3.5, as for :mod:`refnet.ops.conv2d_relu`, which says why the two are one chapter.

Forward
-------
``y = relu(linear(x, w, b))``.

Backward
--------
The chain rule: the gradient goes through ReLU, which needs y alone, and then through the layer.

Shapes
------
As in :mod:`refnet.ops.linear`; dy and y (N,K).

Decisions
---------
Those of the two chapters.

Kept for backward
-----------------
y, x and w.
"""

from refnet.ops import linear, relu
from refnet.ops._rules import Floats, Shape

INTERFACE = ("forward", "backward")


def forward_shapes(x: Shape, w: Shape, b: Shape) -> tuple[Shape, ...]:
    """Shape rule: (y,)."""
    return linear.forward_shapes(x, w, b)


def forward(x: Floats, w: Floats, b: Floats) -> Floats:
    """Weigh, sum and rectify: y (N,K)."""
    return relu.forward(linear.forward(x, w, b))


def backward_shapes(dy: Shape, y: Shape, x: Shape, w: Shape) -> tuple[Shape, ...]:
    """Shape rule: (dx, dw, db)."""
    (through,) = relu.backward_shapes(dy, y)
    return linear.backward_shapes(through, x, w)


def backward(dy: Floats, y: Floats, x: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Gradients of x, w and b."""
    return linear.backward(relu.backward(dy, y), x, w)
