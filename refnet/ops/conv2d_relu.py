"""Convolution and ReLU in one: :mod:`refnet.ops.relu` after :mod:`refnet.ops.conv2d`, to the letter.

Source
------
Paper, section 3.5: "the ReLU non-linearity is applied to the output of every convolutional and fully-connected
layer". Nothing new is defined here. The chapter exists because a backend that rectifies a sum while it still holds it
saves a pass over memory in each direction, and the sums before ReLU need no memory of their own.

Forward
-------
``y = relu(conv2d(x, w, b))``.

Backward
--------
The chain rule: the gradient goes through ReLU, which needs y alone, and then through the convolution.

Shapes
------
As in :mod:`refnet.ops.conv2d`; dy and y (N,K,P,Q).

Decisions
---------
Those of the two chapters.

Kept for backward
-----------------
y, x and w.
"""

from refnet.ops import conv2d, relu
from refnet.ops._rules import Floats, Shape

INTERFACE = ("forward", "backward")


def forward_shapes(x: Shape, w: Shape, b: Shape, *, stride: int, pad: int, ceil: bool = False) -> tuple[Shape, ...]:
    """Shape rule: (y,)."""
    return conv2d.forward_shapes(x, w, b, stride=stride, pad=pad, ceil=ceil)


def forward(x: Floats, w: Floats, b: Floats, *, stride: int, pad: int, ceil: bool = False) -> Floats:
    """Convolve and rectify: y (N,K,P,Q)."""
    return relu.forward(conv2d.forward(x, w, b, stride=stride, pad=pad, ceil=ceil))


def backward_shapes(
    dy: Shape, y: Shape, x: Shape, w: Shape, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Shape | None, ...]:
    """Shape rule: (dx or None, dw, db)."""
    (through,) = relu.backward_shapes(dy, y)
    return conv2d.backward_shapes(through, x, w, stride=stride, pad=pad, ceil=ceil, need_dx=need_dx)


def backward(
    dy: Floats, y: Floats, x: Floats, w: Floats, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Floats | None, Floats, Floats]:
    """Gradients of x (None unless asked for), w and b."""
    return conv2d.backward(relu.backward(dy, y), x, w, stride=stride, pad=pad, ceil=ceil, need_dx=need_dx)
