"""Fully connected layer: every output is a weighted sum of all inputs, plus a bias.

Source
------
Paper, section 3.5: layers fc6, fc7 and fc8, "connected to all neurons in the previous layer".

Forward
-------
With each sample of x written as one row of D numbers: ``y = x wᵀ + b``, that is
``y[n,k] = b[k] + sum over d of w[k,d] * x[n,d]``.

Backward
--------
y is linear in each of x, w and b, so the gradient of each is dy times its coefficient, summed over all outputs it
contributes to: ``dx = dy w``, ``dw = dyᵀ x``, ``db = sum over n of dy``.

Shapes
------
x (N,D), or x with more axes, such as (N,C,H,W) with C*H*W = D, whose samples are flattened in row-major order; w (K,D),
b (K,), y and dy (N,K); dx has the shape of x, dw that of w and db that of b.

Decisions
---------
The op flattens x itself, so no separate layer is needed between the last pooling layer and fc6.

Saved for the backward pass
---------------------------
x and w, which exist anyway.
"""

from math import prod

from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape, require, require_rank, require_same

INTERFACE = ("forward", "backward")


def param_shapes(x: Shape, width: int, _kernel: int) -> dict[str, Shape]:
    """Return the shapes of w and b in a layer of `width` outputs that reads x."""
    return {"w": (width, prod(x[1:])), "b": (width,)}


def forward_shapes(x: Shape, w: Shape, b: Shape) -> tuple[Shape, ...]:
    """Return the shape of y. Raises ``ShapeError`` unless each sample of x has D numbers and b has K."""
    require("linear", len(x) >= 2, f"x must have a batch axis and at least one more, it has shape {x}")
    require_rank("linear", 2, w=w)
    d = prod(x[1:])
    require("linear", d == w[1], f"w must have x's {d} columns (numbers per sample), it has {w[1]} (x {x}, w {w})")
    require("linear", b == w[:1], f"b must hold one bias for each of the {w[0]} outputs, it has shape {b}")
    return ((x[0], w[0]),)


@checked
def forward(x: Floats, w: Floats, b: Floats) -> Floats:
    """Return the weighted sums of the inputs, plus b: y (N,K)."""
    return _rows(x, w) @ w.T + b


def backward_shapes(dy: Shape, x: Shape, w: Shape) -> tuple[Shape, ...]:
    """Return the shapes of dx, dw and db. Raises ``ShapeError`` if arguments do not fit each other."""
    (y,) = forward_shapes(x, w, w[:1])
    require_same("linear", y=y, dy=dy)
    return x, w, w[:1]


@checked
def backward(dy: Floats, x: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the gradients dx, dw and db."""
    return (dy @ w).reshape(x.shape), dy.T @ _rows(x, w), dy.sum(axis=0)


def _rows(x: Floats, w: Floats) -> Floats:
    """Return x with each sample as one row: (N,D)."""
    return x.reshape(x.shape[0], w.shape[1])
