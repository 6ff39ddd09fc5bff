"""Max-pooling: each output is the largest value of a window.

Source
------
Paper, section 3.4: windows of 3 pixels with stride 2, so that neighbouring windows overlap (the top-1 error is 0.4
percentage points lower than with windows of 2 pixels, which do not overlap).

Forward
-------
Over those pixels of the window that lie inside the image::

    y[n,c,p,q] = max over r,s of  x[n,c, p*stride + r, q*stride + s]

`which` is the position of the maximum in its window: r*size + s.

Backward
--------
y is a copy of one x, so only that x receives dy. Where windows overlap, one pixel can be the maximum of several
windows; it then receives the sum of their gradients::

    dx[n,c,i,j] = sum of  dy[n,c,p,q]  over the windows (p,q) whose maximum is pixel (i,j)

Shapes
------
x and dx (N,C,H,W); y, which and dy (N,C,P,Q). P and Q are computed by :func:`refnet.ops._rules.windows` with pad 0.

Decisions
---------
- Of several equal maxima the first in row-major order counts, and only it receives the gradient. (The authors' program,
  cuda-convnet, gave the gradient to all of them.)
- NaN counts as larger than every number: the first NaN of a window is its maximum.
- Windows that extend over the edge (under `ceil`) are cut off there. Pixels beyond the edge are minus infinity, and
  never the maximum, since the window's first pixel always lies inside the image.
- A pixel that is the maximum of several windows adds their gradients in row-major order of its position (r, s) in them.
  The order is fixed because sums of floating-point numbers depend on it.

Saved for the backward pass
---------------------------
Only `which`, one byte for each output, instead of x and y. A byte has 256 values, so `size` is at most 16.
"""

import numpy as np
import numpy.typing as npt

from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape, overhang, require_rank, require_same, require_value, windows

INTERFACE = ("forward", "backward")
RESIDUALS = {"which": "uint8"}
SHORT_NAME = "pool"

Positions = npt.NDArray[np.uint8]


def forward_shapes(x: Shape, *, size: int, stride: int, ceil: bool = False) -> tuple[Shape, ...]:
    """Return the shapes of y and which.

    Raises ``ShapeError`` if no window fits, and ``ArgumentError`` for a size or stride below 1 or a size above 16.
    """
    require_rank("maxpool", 4, x=x)
    require_value("maxpool", size <= 16, f"size must be at most 16 for positions to fit in a byte, it is {size}")
    rows, cols = (windows("maxpool", length, size, stride, 0, ceil) for length in x[2:])
    y = (*x[:2], rows, cols)
    return y, y


@checked
def forward(x: Floats, *, size: int, stride: int, ceil: bool = False) -> tuple[Floats, Positions]:
    """Return the maximum of each window, y (N,C,P,Q), and its position in the window, which (N,C,P,Q) uint8."""
    view = _windows(_whole(x, size, stride, ceil), size, stride)
    flat = view.reshape(*view.shape[:4], size * size)
    which = flat.argmax(axis=-1)  # the first maximum, or the first NaN
    y = np.take_along_axis(flat, which[..., None], axis=-1)[..., 0]
    return y, which.astype(np.uint8)


def backward_shapes(
    dy: Shape, which: Shape, *, x_shape: Shape, size: int, stride: int, ceil: bool = False
) -> tuple[Shape, ...]:
    """Return the shape of dx. Raises ``ShapeError`` if arguments do not fit each other."""
    y, _ = forward_shapes(x_shape, size=size, stride=stride, ceil=ceil)
    require_same("maxpool", y=y, which=which, dy=dy)
    return (x_shape,)


def backward_values(
    dy: Floats, which: Positions, *, x_shape: Shape, size: int, stride: int, ceil: bool = False
) -> None:
    """Check values. Raises ``ArgumentError`` for a position outside its window or outside the image."""
    del dy, ceil
    r, s = np.divmod(which.astype(int), size)
    P, Q = which.shape[2:]
    rows, cols = np.arange(P)[:, None] * stride + r, np.arange(Q) * stride + s
    inside = (r < size) & (rows < x_shape[2]) & (cols < x_shape[3])
    require_value("maxpool", bool(inside.all()), "which has a position outside its window, or outside the image")


@checked
def backward(dy: Floats, which: Positions, *, x_shape: Shape, size: int, stride: int, ceil: bool = False) -> Floats:
    """Return the gradient dx (N,C,H,W), of shape `x_shape`."""
    dwhole = _whole(np.zeros(x_shape, dy.dtype), size, stride, ceil, edge=0)
    view = _windows(dwhole, size, stride)
    for r, s in np.ndindex(size, size):
        view[..., r, s] += np.where(which == r * size + s, dy, dy.dtype.type(0))
    H, W = x_shape[2:]
    return dwhole[:, :, :H, :W].copy()


def _whole(x: Floats, size: int, stride: int, ceil: bool, edge: float = -np.inf) -> Floats:
    """Return x with rows and columns of `edge` at the bottom and right, so that the last window is complete."""
    edges = []
    for length in x.shape[2:]:
        count = windows("maxpool", length, size, stride, 0, ceil)
        edges.append((0, overhang(length, size, stride, 0, count)))
    return np.pad(x, ((0, 0), (0, 0), *edges), constant_values=edge)


def _windows(whole: Floats, size: int, stride: int) -> Floats:
    """Return a view of every window: (N,C,P,Q,size,size), writable, no copy."""
    view = np.lib.stride_tricks.sliding_window_view(whole, (size, size), axis=(2, 3), writeable=True)
    return view[:, :, ::stride, ::stride]
