"""Convolution: each output is a window of the image multiplied with a kernel, element by element, and summed.

Source
------
Paper, section 3.5 and figure 2 (224 pixels with stride 4 give 55x55 outputs). The `ceil` rule is that of the authors'
own program, published in 2025, which refnet calls code2012 (``layer.py``).

Forward
-------
Let x̄ be the image with `pad` zeros on every side; with `ceil` more zeros follow at the bottom and right, as many as the
last window needs to be complete. The kernels are applied to windows of x̄ that are `stride` pixels apart::

    y[n,k,p,q] = b[k] + sum over c,r,s of  w[k,c,r,s] * x̄[n,c, p*stride + r, q*stride + s]

Backward
--------
y is linear in each of x, w and b, so the gradient of each is dy times its coefficient, summed over all outputs it
contributes to::

    db[k]       = sum over n,p,q of  dy[n,k,p,q]
    dw[k,c,r,s] = sum over n,p,q of  dy[n,k,p,q] * x̄[n,c, p*stride + r, q*stride + s]
    dx̄[n,c,i,j] = sum over k and all (p,r), (q,s) with  p*stride + r = i,  q*stride + s = j
                  of  dy[n,k,p,q] * w[k,c,r,s]

dx is dx̄ without its borders. The last formula means: through the weight at position (r, s) of a kernel, each dy
returns to the pixel that this weight was multiplied with. These pixels are `stride` apart and start at (r, s). The code
below loops over (r, s) for this reason.

Shapes
------
x (N,C,H,W), w (K,C,R,S), b (K,), y and dy (N,K,P,Q), dx (N,C,H,W), dw (K,C,R,S), db (K,). P and Q are computed by
:func:`refnet.ops._rules.windows`.

Decisions
---------
- The kernel is not mirrored. Mathematicians call this operation cross-correlation; every deep-learning library calls it
  convolution.
- There are no groups. Two columns of the network are two convolutions.
- Border zeros take part in the sums of y and dw like any pixel, so zero times an infinite weight or an infinite dy is
  NaN. If a weight is NaN or infinite, a backend may spread it to further elements of dx.

Saved for the backward pass
---------------------------
x and w, which exist anyway. The windows are not saved: they are views of x with its border, and backward makes them
again.

The first layer's dx is the gradient of the pixels, which training does not need: ``need_dx=False`` returns None in its
place.
"""

import numpy as np

from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape, overhang, require, require_rank, require_same, windows

INTERFACE = ("forward", "backward")


def param_shapes(x: Shape, width: int, kernel: int, **_options: object) -> dict[str, Shape]:
    """Return the shapes of w and b in a layer of `width` kernels of `kernel` x `kernel` pixels that reads x."""
    return {"w": (width, x[1], kernel, kernel), "b": (width,)}


def forward_shapes(x: Shape, w: Shape, b: Shape, *, stride: int, pad: int, ceil: bool = False) -> tuple[Shape, ...]:
    """Return the shape of y.

    Raises ``ShapeError`` if axes disagree or no window fits, and ``ArgumentError`` for a stride, pad or kernel size out
    of range.
    """
    require_rank("conv2d", 4, x=x, w=w)
    require("conv2d", x[1] == w[1], f"w must have x's {x[1]} channels, it has {w[1]} (x {x}, w {w})")
    require("conv2d", b == w[:1], f"b must hold one bias for each of the {w[0]} kernels, it has shape {b}")
    rows = windows("conv2d", x[2], w[2], stride, pad, ceil)
    cols = windows("conv2d", x[3], w[3], stride, pad, ceil)
    return ((x[0], w[0], rows, cols),)


@checked
def forward(x: Floats, w: Floats, b: Floats, *, stride: int, pad: int, ceil: bool = False) -> Floats:
    """Return the convolution of x with w, plus b: y (N,K,P,Q)."""
    view = _windows(_bordered(x, w, stride, pad, ceil), w, stride)
    y: Floats = np.einsum("ncpqrs,kcrs->nkpq", view, w, optimize=True) + b[:, None, None]
    return y


def backward_shapes(
    dy: Shape, x: Shape, w: Shape, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Shape | None, ...]:
    """Return the shapes of dx (or None), dw and db. Raises ``ShapeError`` if arguments do not fit each other."""
    (y,) = forward_shapes(x, w, w[:1], stride=stride, pad=pad, ceil=ceil)
    require_same("conv2d", y=y, dy=dy)
    return (x if need_dx else None), w, w[:1]


@checked
def backward(
    dy: Floats, x: Floats, w: Floats, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Floats | None, Floats, Floats]:
    """Return the gradients dx (None if ``need_dx=False``), dw and db."""
    bordered = _bordered(x, w, stride, pad, ceil)
    dw = np.einsum("nkpq,ncpqrs->kcrs", dy, _windows(bordered, w, stride), optimize=True)
    db = dy.sum(axis=(0, 2, 3))
    if not need_dx:
        return None, dw, db

    by_position = np.einsum("nkpq,kcrs->ncpqrs", dy, w, optimize=True)
    dbordered = np.zeros_like(bordered)
    read = _windows(dbordered, w, stride)  # a view: read[..., r, s] are the pixels that w[..., r, s] read
    for r, s in np.ndindex(w.shape[2:]):
        read[..., r, s] += by_position[..., r, s]
    H, W = x.shape[2:]
    return dbordered[:, :, pad : pad + H, pad : pad + W].copy(), dw, db


def _bordered(x: Floats, w: Floats, stride: int, pad: int, ceil: bool) -> Floats:
    """Return x with zeros around it: `pad` on every side, and under `ceil` more at the bottom and right."""
    edges = []
    for size, window in zip(x.shape[2:], w.shape[2:], strict=True):
        count = windows("conv2d", size, window, stride, pad, ceil)
        edges.append((pad, pad + overhang(size, window, stride, pad, count)))
    return np.pad(x, ((0, 0), (0, 0), *edges))


def _windows(bordered: Floats, w: Floats, stride: int) -> Floats:
    """Return a view of every window that a kernel is applied to: (N,C,P,Q,R,S), writable, no copy."""
    view = np.lib.stride_tricks.sliding_window_view(bordered, w.shape[2:], axis=(2, 3), writeable=True)
    return view[:, :, ::stride, ::stride]
