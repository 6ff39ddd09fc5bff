"""Average pooling: each output is the mean of the pixels of a window that lie inside the image.

Source
------
Not in the paper. cuda-convnet, the authors' earlier program, has it in its networks for CIFAR-10 (``AvgPooler``), with
windows of 3 pixels and stride 2.

Forward
-------
`count(p,q)` is the number of pixels of window (p,q) that lie inside the image. Over these pixels::

    y[n,c,p,q] = 1 / count(p,q) * sum over r,s of  x[n,c, p*stride + r, q*stride + s]

Backward
--------
Each of the count(p,q) pixels of a window contributes to y with the weight 1 / count(p,q), so it receives that share of
dy. Where windows overlap, a pixel receives the sum of its shares::

    dx[n,c,i,j] = sum of  dy[n,c,p,q] / count(p,q)  over the windows (p,q) that contain pixel (i,j)

Shapes
------
x and dx (N,C,H,W); y and dy (N,C,P,Q). P and Q are computed by :func:`refnet.ops._rules.windows` with pad 0.

Decisions
---------
- Windows that extend over the edge (under `ceil`) are cut off there, and the sum is divided by the number of pixels
  that are left. So the mean of a constant image is that constant, at the edges too. PyTorch divides in the same way.
- A sum is divided by the count; it is not multiplied by the rounded 1 / count.
- Sums of floating-point numbers depend on their order, so the order is fixed. In a window, the pixels of each column
  are added from top to bottom, and then the sums of the columns from left to right. In the backward pass, a pixel adds
  its shares for each r (its row in the windows) in order of s, and then these sums in order of r. All sums start at 0.

Saved for the backward pass
---------------------------
Nothing: dx depends only on dy and the shape of x.
"""

import numpy as np
import numpy.typing as npt

from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape, overhang, require_rank, require_same, windows

INTERFACE = ("forward", "backward")
SHORT_NAME = "avg"


def forward_shapes(x: Shape, *, size: int, stride: int, ceil: bool = False) -> tuple[Shape, ...]:
    """Return the shape of y.

    Raises ``ShapeError`` if no window fits, and ``ArgumentError`` for a size or stride below 1.
    """
    require_rank("avgpool", 4, x=x)
    rows, cols = (windows("avgpool", length, size, stride, 0, ceil) for length in x[2:])
    return ((*x[:2], rows, cols),)


@checked
def forward(x: Floats, *, size: int, stride: int, ceil: bool = False) -> Floats:
    """Return the mean of each window, y (N,C,P,Q)."""
    ((N, C, P, Q),) = forward_shapes(x.shape, size=size, stride=stride, ceil=ceil)
    missing = [(0, overhang(n, size, stride, 0, count)) for n, count in zip(x.shape[2:], (P, Q), strict=True)]
    whole = np.pad(x, ((0, 0), (0, 0), *missing))
    columns = np.zeros((N, C, P, whole.shape[3]), x.dtype)
    for r in range(size):
        columns += whole[:, :, _every(stride, P, r)]
    y = np.zeros((N, C, P, Q), x.dtype)
    for s in range(size):
        y += columns[..., _every(stride, Q, s)]
    return y / _counts(x.shape, y.shape, size, stride).astype(x.dtype)


def backward_shapes(dy: Shape, *, x_shape: Shape, size: int, stride: int, ceil: bool = False) -> tuple[Shape, ...]:
    """Return the shape of dx. Raises ``ShapeError`` if arguments do not fit each other."""
    (y,) = forward_shapes(x_shape, size=size, stride=stride, ceil=ceil)
    require_same("avgpool", y=y, dy=dy)
    return (x_shape,)


@checked
def backward(dy: Floats, *, x_shape: Shape, size: int, stride: int, ceil: bool = False) -> Floats:
    """Return the gradient dx (N,C,H,W), of shape `x_shape`."""
    del ceil  # the shape of dy already tells it
    N, C, H, W = x_shape
    P, Q = dy.shape[2:]
    share = dy / _counts(x_shape, dy.shape, size, stride).astype(dy.dtype)
    columns = np.zeros((N, C, P, W + overhang(W, size, stride, 0, Q)), dy.dtype)
    for s in range(size):
        columns[..., _every(stride, Q, s)] += share
    dwhole = np.zeros((N, C, H + overhang(H, size, stride, 0, P), columns.shape[3]), dy.dtype)
    for r in range(size):
        dwhole[:, :, _every(stride, P, r)] += columns
    return dwhole[:, :, :H, :W].copy()


def _every(stride: int, count: int, first: int) -> slice:
    """Return the slice that selects `count` rows or columns, `stride` apart: those at one position in all windows."""
    return slice(first, first + (count - 1) * stride + 1, stride)


def _counts(x: Shape, y: Shape, size: int, stride: int) -> npt.NDArray[np.intp]:
    """Return the number of pixels of each window that lie inside the image, (P,Q)."""
    rows, cols = (np.minimum(size, n - np.arange(count) * stride) for n, count in zip(x[2:], y[2:], strict=True))
    return np.multiply.outer(rows, cols)
