r"""Max-pooling: the largest value of each window stands for the window.

Source
------
Paper, section 3.4: windows of 3 pixels, 2 apart, so that neighbours overlap (top-1 error -0.4 points).

Forward
-------
Over the pixels of the window that exist::

    y[n,c,p,q] = max over r,s of  x[n,c, p*stride + r, q*stride + s]

`which` is the row-major position r*size + s at which that maximum stands.

Backward
--------
y is a copy of one x, so dy goes to that x alone; where windows overlap, a pixel that won several of them collects
from each::

    dx[n,c,i,j] = sum of  dy[n,c,p,q]  over the windows (p,q) whose winner is pixel (i,j)

Shapes
------
x and dx (N,C,H,W); y, which and dy (N,C,P,Q); P and Q by :func:`refnet.ops._rules.windows` with pad 0.

Decisions
---------
Among equals the first in row-major order wins, and alone gets the gradient (cuda-convnet gave it to every one).
NaN counts as larger than anything: the first NaN of a window wins. Windows over the edge (`ceil`) are clipped:
beyond the edge there is minus infinity, which never wins since the window's first pixel always exists. A pixel adds
up what it collects in row-major order of its positions (r, s) in the windows that it won.

Kept for backward
-----------------
which, one byte for each output (so `size` is at most 16), instead of x and y.
"""

import numpy as np
import numpy.typing as npt

from refnet.ops._rules import Floats, Shape, overhang, require_rank, require_same, require_value, windows

INTERFACE = ("forward", "backward")
RESIDUALS = {"which": "uint8"}
SHORT_NAME = "pool"

Positions = npt.NDArray[np.uint8]


def forward_shapes(x: Shape, *, size: int, stride: int, ceil: bool = False) -> tuple[Shape, ...]:
    """Shape rule: (y, which). Raises ``ShapeError`` where no window fits."""
    require_rank("maxpool", 4, x=x)
    require_value("maxpool", size <= 16, f"size must be at most 16 for positions to fit in a byte, it is {size}")
    rows, cols = (windows("maxpool", length, size, stride, 0, ceil) for length in x[2:])
    y = (*x[:2], rows, cols)
    return y, y


def forward(x: Floats, *, size: int, stride: int, ceil: bool = False) -> tuple[Floats, Positions]:
    """Pool: y (N,C,P,Q), and which (uint8, the same shape)."""
    view = _windows(_whole(x, size, stride, ceil), size, stride)
    flat = view.reshape(*view.shape[:4], size * size)
    which = flat.argmax(axis=-1)  # the first maximum, or the first NaN
    y = np.take_along_axis(flat, which[..., None], axis=-1)[..., 0]
    return y, which.astype(np.uint8)


def backward_shapes(
    dy: Shape, which: Shape, *, x_shape: Shape, size: int, stride: int, ceil: bool = False
) -> tuple[Shape, ...]:
    """Shape rule: (dx,)."""
    y, _ = forward_shapes(x_shape, size=size, stride=stride, ceil=ceil)
    require_same("maxpool", y=y, which=which, dy=dy)
    return (x_shape,)


def backward(dy: Floats, which: Positions, *, x_shape: Shape, size: int, stride: int, ceil: bool = False) -> Floats:
    """Gradient of x (N,C,H,W)."""
    dwhole = _whole(np.zeros(x_shape, dy.dtype), size, stride, ceil, edge=0)
    view = _windows(dwhole, size, stride)
    for r, s in np.ndindex(size, size):
        view[..., r, s] += np.where(which == r * size + s, dy, dy.dtype.type(0))
    H, W = x_shape[2:]
    return dwhole[:, :, :H, :W].copy()


def _whole(x: Floats, size: int, stride: int, ceil: bool, edge: float = -np.inf) -> Floats:
    """Extend x at the bottom and right so that the last window is whole."""
    edges = []
    for length in x.shape[2:]:
        count = windows("maxpool", length, size, stride, 0, ceil)
        edges.append((0, overhang(length, size, stride, 0, count)))
    return np.pad(x, ((0, 0), (0, 0), *edges), constant_values=edge)


def _windows(whole: Floats, size: int, stride: int) -> Floats:
    """View every window: (N,C,P,Q,size,size), no copy."""
    view = np.lib.stride_tricks.sliding_window_view(whole, (size, size), axis=(2, 3), writeable=True)
    return view[:, :, ::stride, ::stride]
