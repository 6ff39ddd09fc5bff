r"""Convolution: every output is one filter laid over one window of the image, multiplied and summed.

Source
------
Paper, sections 3.5 and 5 (224 pixels, stride 4: 55x55). The `ceil` rule is code2012's (``layer.py``).

Forward
-------
With x̄ the image with `pad` zeros on every side (and, under `ceil`, as many more at the bottom and right as the
last window hangs over)::

    y[n,k,p,q] = b[k] + sum over c,r,s of  w[k,c,r,s] * x̄[n,c, p*stride + r, q*stride + s]

Backward
--------
y is linear in each of x, w and b, so each gradient is dy times the factor that stood beside it, summed over the
outputs in which it took part::

    db[k]       = sum over n,p,q of  dy[n,k,p,q]
    dw[k,c,r,s] = sum over n,p,q of  dy[n,k,p,q] * x̄[n,c, p*stride + r, q*stride + s]
    dx̄[n,c,i,j] = sum over k and all (p,r), (q,s) with  p*stride + r = i,  q*stride + s = j
                  of  dy[n,k,p,q] * w[k,c,r,s]

and dx is dx̄ without its borders. The last line says: filter tap (r, s) sends each dy back to the pixel it read,
which lie `stride` apart starting at (r, s). That is how the code below is written.

Shapes
------
x (N,C,H,W), w (K,C,R,S), b (K,), y and dy (N,K,P,Q); P and Q by :func:`refnet.ops._rules.windows`.

Decisions
---------
The filter is not mirrored (as in every network code, mathematicians would call this cross-correlation). Groups
do not exist: two columns are two convolutions. The border reads zeros, and they take part in the sums of y and dw as
any pixel does: zero times an infinite weight, or an infinite dy, is NaN. Which elements of dx a weight that is not
finite spoils beyond those it belongs to is left to the backend.

Kept for backward
-----------------
x and w, which exist anyway; the windows are views and are laid out again. The first layer's dx is the gradient of
the pixels, which nobody needs in training: ``need_dx=False`` returns None in its place.
"""

import numpy as np

from refnet.ops._rules import Floats, Shape, overhang, require, require_rank, require_same, windows

INTERFACE = ("forward", "backward")


def forward_shapes(x: Shape, w: Shape, b: Shape, *, stride: int, pad: int, ceil: bool = False) -> tuple[Shape, ...]:
    """Shape rule: (y,). Raises ``ShapeError`` where axes disagree or no window fits."""
    require_rank("conv2d", 4, x=x, w=w)
    require("conv2d", x[1] == w[1], f"w must have x's {x[1]} channels, it has {w[1]} (x {x}, w {w})")
    require("conv2d", b == w[:1], f"b must hold one bias for each of the {w[0]} filters, it has shape {b}")
    rows = windows("conv2d", x[2], w[2], stride, pad, ceil)
    cols = windows("conv2d", x[3], w[3], stride, pad, ceil)
    return ((x[0], w[0], rows, cols),)


def forward(x: Floats, w: Floats, b: Floats, *, stride: int, pad: int, ceil: bool = False) -> Floats:
    """Convolve: y (N,K,P,Q)."""
    view = _windows(_bordered(x, w, stride, pad, ceil), w, stride)
    y: Floats = np.einsum("ncpqrs,kcrs->nkpq", view, w, optimize=True) + b[:, None, None]
    return y


def backward_shapes(
    dy: Shape, x: Shape, w: Shape, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Shape | None, ...]:
    """Shape rule: (dx or None, dw, db)."""
    (y,) = forward_shapes(x, w, w[:1], stride=stride, pad=pad, ceil=ceil)
    require_same("conv2d", y=y, dy=dy)
    return (x if need_dx else None), w, w[:1]


def backward(
    dy: Floats, x: Floats, w: Floats, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Floats | None, Floats, Floats]:
    """Gradients of x (None unless asked for), w and b."""
    bordered = _bordered(x, w, stride, pad, ceil)
    dw = np.einsum("nkpq,ncpqrs->kcrs", dy, _windows(bordered, w, stride), optimize=True)
    db = dy.sum(axis=(0, 2, 3))
    if not need_dx:
        return None, dw, db

    by_tap = np.einsum("nkpq,kcrs->ncpqrs", dy, w, optimize=True)
    dbordered = np.zeros_like(bordered)
    read = _windows(dbordered, w, stride)  # a view: read[..., r, s] are the pixels that tap (r, s) read
    for r, s in np.ndindex(w.shape[2:]):
        read[..., r, s] += by_tap[..., r, s]
    H, W = x.shape[2:]
    return dbordered[:, :, pad : pad + H, pad : pad + W].copy(), dw, db


def _bordered(x: Floats, w: Floats, stride: int, pad: int, ceil: bool) -> Floats:
    """Lay zeros around x: `pad` on every side, and what the last window hangs over."""
    edges = []
    for size, window in zip(x.shape[2:], w.shape[2:], strict=True):
        count = windows("conv2d", size, window, stride, pad, ceil)
        edges.append((pad, pad + overhang(size, window, stride, pad, count)))
    return np.pad(x, ((0, 0), (0, 0), *edges))


def _windows(bordered: Floats, w: Floats, stride: int) -> Floats:
    """View every window that a filter sees: (N,C,P,Q,R,S), no copy."""
    view = np.lib.stride_tricks.sliding_window_view(bordered, w.shape[2:], axis=(2, 3), writeable=True)
    return view[:, :, ::stride, ::stride]
