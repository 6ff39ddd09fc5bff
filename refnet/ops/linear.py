"""Fully connected layer: every output is a weighted sum of every input.

Source
------
Paper, section 3.5: layers fc6, fc7 and fc8, "connected to all neurons in the previous layer".

Forward
-------
With each sample of x written as one row of D numbers: ``y = x wᵀ + b``, that is
``y[n,k] = b[k] + sum over d of w[k,d] * x[n,d]``.

Backward
--------
y is linear in each of x, w and b, so each gradient is dy times the factor that stood beside it, summed over the
outputs in which it took part: ``dx = dy w``, ``dw = dyᵀ x``, ``db = sum over n of dy``.

Shapes
------
x (N,D), or (N,C,H,W) with C*H*W = D, which is read as rows in that order; w (K,D), b (K,), y and dy (N,K);
dx has the shape of x.

Decisions
---------
The op flattens by itself, so that the step from the last pooling layer to fc6 needs no layer of its own.

Kept for backward
-----------------
x and w, which exist anyway.
"""

from math import prod

from refnet.ops._rules import Floats, Shape, require, require_rank, require_same

INTERFACE = ("forward", "backward")


def forward_shapes(x: Shape, w: Shape, b: Shape) -> tuple[Shape, ...]:
    """Shape rule: (y,). Raises ``ShapeError`` where a sample of x does not have w's D numbers."""
    require("linear", len(x) >= 2, f"x must have a batch axis and at least one more, it has shape {x}")
    require_rank("linear", 2, w=w)
    d = prod(x[1:])
    require("linear", d == w[1], f"w must have x's {d} columns, it has {w[1]} (x {x}, w {w})")
    require("linear", b == w[:1], f"b must hold one bias for each of the {w[0]} outputs, it has shape {b}")
    return ((x[0], w[0]),)


def forward(x: Floats, w: Floats, b: Floats) -> Floats:
    """Weigh and sum: y (N,K)."""
    return _rows(x, w) @ w.T + b


def backward_shapes(dy: Shape, x: Shape, w: Shape) -> tuple[Shape, ...]:
    """Shape rule: (dx, dw, db)."""
    (y,) = forward_shapes(x, w, w[:1])
    require_same("linear", y=y, dy=dy)
    return x, w, w[:1]


def backward(dy: Floats, x: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Gradients of x, w and b."""
    return (dy @ w).reshape(x.shape), dy.T @ _rows(x, w), dy.sum(axis=0)


def _rows(x: Floats, w: Floats) -> Floats:
    return x.reshape(x.shape[0], w.shape[1])
