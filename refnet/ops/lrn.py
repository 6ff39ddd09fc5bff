"""Local response normalisation (LRN): each unit is divided by a measure of the activity in neighbouring feature maps.

Source
------
Paper, section 3.3: ``b_i = a_i / (k + alpha * sum a_j²)^beta``, where the sum runs over the n feature maps around map
i, with k = 2, n = 5, alpha = 1e-4, beta = 0.75. Here a is called x and b is called y.

Forward
-------
``W(i) = {j : |i - j| <= (n-1)/2, 0 <= j < C}`` is the window of map i. At each position of each image::

    scale_i = k + alpha * sum over j in W(i) of x_j²
    y_i     = x_i * scale_i^-beta

Backward
--------
x_i appears in its own numerator and in the scale of every map j whose window contains i. Windows are symmetric, so
these maps are exactly the j in W(i). d(scale_j)/d(x_i) is 2 alpha x_i, and d(y_j)/d(scale_j) is -beta y_j / scale_j, so
that::

    dx_i = dy_i * scale_i^-beta  -  2 alpha beta * x_i * sum over j in W(i) of  dy_j * y_j / scale_j

Shapes
------
x, y, scale, dy and dx are all (N,C,H,W).

Decisions
---------
- alpha multiplies the plain sum, as in the paper's formula. The authors' program (code2012), Caffe, cuDNN and PyTorch
  divide alpha by n, so the same normalisation needs n times this alpha there.
- The window is cut off at the first and last map.
- n must be odd, so that the window has a middle.
- Columns of the network are separate arrays, so a window never extends from one column into the other.

Saved for the backward pass
---------------------------
x and y, which exist anyway, and scale, because computing it again would read the whole window again.
"""

from math import inf

import numpy as np

from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape, require_rank, require_same, require_value

INTERFACE = ("forward", "backward")
RESIDUALS = {"scale": "float32"}
SHORT_NAME = "norm"


def forward_shapes(x: Shape, *, n: int, k: float, alpha: float, beta: float) -> tuple[Shape, ...]:
    """Return the shapes of y and scale. Raises ``ArgumentError`` for an even n, or a k, alpha or beta out of range."""
    require_rank("lrn", 4, x=x)
    require_value("lrn", n >= 1 and n % 2 == 1, f"n must be odd and at least 1, it is {n}")
    require_value("lrn", 0 < k < inf, f"k must be finite and above 0, it is {k}")
    for name, value in {"alpha": alpha, "beta": beta}.items():
        require_value("lrn", 0 <= value < inf, f"{name} must be finite and at least 0, it is {value}")
    return x, x


@checked
def forward(x: Floats, *, n: int, k: float, alpha: float, beta: float) -> tuple[Floats, Floats]:
    """Return the normalised x and its scale: y and scale, both shaped like x."""
    scale = k + alpha * _sum_over_window(x * x, n)
    return x * scale**-beta, scale


def backward_shapes(
    dy: Shape, x: Shape, y: Shape, scale: Shape, *, n: int, k: float, alpha: float, beta: float
) -> tuple[Shape, ...]:
    """Return the shape of dx. Raises errors as forward does, and ``ShapeError`` if shapes differ."""
    forward_shapes(x, n=n, k=k, alpha=alpha, beta=beta)
    require_same("lrn", x=x, y=y, scale=scale, dy=dy)
    return (x,)


@checked
def backward(
    dy: Floats,
    x: Floats,
    y: Floats,
    scale: Floats,
    *,
    n: int,
    k: float,  # noqa: ARG001 - already in scale; accepted so that backward takes the same options as forward
    alpha: float,
    beta: float,
) -> Floats:
    """Return the gradient dx, shaped like x."""
    return dy * scale**-beta - 2 * alpha * beta * x * _sum_over_window(dy * y / scale, n)


def _sum_over_window(a: Floats, n: int) -> Floats:
    """Return the sum of each map and its (n-1)/2 neighbours on either side; missing neighbours count as zero."""
    half = n // 2
    padded = np.pad(a, ((0, 0), (half, half), (0, 0), (0, 0)))
    total: Floats = np.lib.stride_tricks.sliding_window_view(padded, n, axis=1).sum(axis=-1)
    return total
