"""Response normalisation within a map: each unit is divided by a measure of the activity around it in its feature map.

Source
------
Not in the paper. It is the layer ``rnorm`` of cuda-convnet, the authors' earlier program, which has it in one network
for CIFAR-10 (``18pct``). The authors' program of 2012 (code2012) has it after the second layer. In Caffe it is ``LRN``
with ``WITHIN_CHANNEL``. It differs from :mod:`refnet.ops.lrn` only in the window: a square of pixels of one map,
instead of one pixel of several maps.

Forward
-------
``W(i,j)`` is the window of pixel (i,j): the pixels of the n x n square around it that lie inside the map. In each map
of each image::

    scale[i,j] = k + alpha * sum over (p,q) in W(i,j) of x[p,q]²
    y[i,j]     = x[i,j] * scale[i,j]^-beta

Backward
--------
x[i,j] appears in its own numerator and in the scale of every pixel whose window contains it. Windows are symmetric, so
these pixels are exactly those in W(i,j). d(scale[p,q])/d(x[i,j]) is 2 alpha x[i,j], and d(y[p,q])/d(scale[p,q]) is
-beta y[p,q] / scale[p,q], so that::

    dx[i,j] = dy[i,j] * scale[i,j]^-beta
              -  2 alpha beta * x[i,j] * sum over (p,q) in W(i,j) of  dy[p,q] * y[p,q] / scale[p,q]

Shapes
------
x, y, scale, dy and dx are all (N,C,H,W).

Decisions
---------
- alpha multiplies the plain sum, as in the chapter lrn. cuda-convnet and Caffe divide alpha by n*n, at the edges of the
  map too, so the same normalisation needs n*n times this alpha there.
- The window is cut off at the edges of the map.
- n must be odd, so that the window has a middle.

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
SHORT_NAME = "rnorm"


def forward_shapes(x: Shape, *, n: int, k: float, alpha: float, beta: float) -> tuple[Shape, ...]:
    """Return the shapes of y and scale. Raises ``ArgumentError`` for an even n, or a k, alpha or beta out of range."""
    require_rank("rnorm", 4, x=x)
    require_value("rnorm", n >= 1 and n % 2 == 1, f"n must be odd and at least 1, it is {n}")
    require_value("rnorm", 0 < k < inf, f"k must be finite and above 0, it is {k}")
    for name, value in {"alpha": alpha, "beta": beta}.items():
        require_value("rnorm", 0 <= value < inf, f"{name} must be finite and at least 0, it is {value}")
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
    require_same("rnorm", x=x, y=y, scale=scale, dy=dy)
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
    """Return for each pixel the sum of the n x n pixels around it; pixels beyond the edge count as zero."""
    for axis in (2, 3):  # the sum of n rows, then of n columns of such sums
        edges = [(n // 2, n // 2) if i == axis else (0, 0) for i in range(4)]
        a = np.lib.stride_tricks.sliding_window_view(np.pad(a, edges), n, axis=axis).sum(axis=-1)
    return a
