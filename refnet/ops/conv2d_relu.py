"""Convolution followed by ReLU as one operation: exactly :mod:`refnet.ops.relu` of :mod:`refnet.ops.conv2d`.

Source
------
Paper, section 3.5: "the ReLU non-linearity is applied to the output of every convolutional and fully-connected layer".
Nothing new is defined here. The chapter exists because applying ReLU while the sum is still in a register saves a
backend one pass over memory, forward and backward, and because the sums before ReLU then need no memory.

Forward
-------
``y = relu(conv2d(x, w, b))``.

Backward
--------
The chain rule: first the gradient of ReLU, which needs only y, then that of the convolution.

Shapes
------
As in :mod:`refnet.ops.conv2d`; dy and y (N,K,P,Q).

Decisions
---------
Those of the two chapters.

Saved for the backward pass
---------------------------
y, x and w.
"""

from refnet.ops import conv2d, relu
from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape

INTERFACE = ("forward", "backward")


def forward_shapes(x: Shape, w: Shape, b: Shape, *, stride: int, pad: int, ceil: bool = False) -> tuple[Shape, ...]:
    """Return the shape of y. Raises ``ShapeError`` as convolution does."""
    return conv2d.forward_shapes(x, w, b, stride=stride, pad=pad, ceil=ceil)


@checked
def forward(x: Floats, w: Floats, b: Floats, *, stride: int, pad: int, ceil: bool = False) -> Floats:
    """Return y (N,K,P,Q): ReLU applied to the convolution of x with w and bias b."""
    return relu.forward(conv2d.forward(x, w, b, stride=stride, pad=pad, ceil=ceil))


def backward_shapes(
    dy: Shape, y: Shape, x: Shape, w: Shape, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Shape | None, ...]:
    """Return the shapes of dx (or None), dw and db. Raises ``ShapeError`` if arguments do not fit each other."""
    (dsum,) = relu.backward_shapes(dy, y)
    return conv2d.backward_shapes(dsum, x, w, stride=stride, pad=pad, ceil=ceil, need_dx=need_dx)


@checked
def backward(
    dy: Floats, y: Floats, x: Floats, w: Floats, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Floats | None, Floats, Floats]:
    """Return the gradients dx (None if ``need_dx=False``), dw and db."""
    return conv2d.backward(relu.backward(dy, y), x, w, stride=stride, pad=pad, ceil=ceil, need_dx=need_dx)
