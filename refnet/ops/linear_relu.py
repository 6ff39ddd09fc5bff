"""Fully connected layer followed by ReLU as one operation: exactly :mod:`refnet.ops.relu` of :mod:`refnet.ops.linear`.

Source
------
Paper, section 3.5, as for :mod:`refnet.ops.conv2d_relu`, which explains why the two are fused.

Forward
-------
``y = relu(linear(x, w, b))``.

Backward
--------
The chain rule: first the gradient of ReLU, which needs only y, then that of the fully connected layer.

Shapes
------
As in :mod:`refnet.ops.linear`; dy and y (N,K).

Decisions
---------
Those of the two chapters.

Saved for the backward pass
---------------------------
y, x and w.
"""

from refnet.ops import linear, relu
from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape

INTERFACE = ("forward", "backward")


def forward_shapes(x: Shape, w: Shape, b: Shape) -> tuple[Shape, ...]:
    """Return the shape of y. Raises ``ShapeError`` as the fully connected layer does."""
    return linear.forward_shapes(x, w, b)


@checked
def forward(x: Floats, w: Floats, b: Floats) -> Floats:
    """Return y (N,K): ReLU applied to the weighted sums of the inputs with bias b."""
    return relu.forward(linear.forward(x, w, b))


def backward_shapes(dy: Shape, y: Shape, x: Shape, w: Shape) -> tuple[Shape, ...]:
    """Return the shapes of dx, dw and db. Raises ``ShapeError`` if arguments do not fit each other."""
    (dsum,) = relu.backward_shapes(dy, y)
    return linear.backward_shapes(dsum, x, w)


@checked
def backward(dy: Floats, y: Floats, x: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the gradients dx, dw and db."""
    return linear.backward(relu.backward(dy, y), x, w)
