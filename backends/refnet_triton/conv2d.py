"""Convolution; see :mod:`refnet.ops.conv2d`. Matrix products without building the matrix of windows (:mod:`._product`).

1. x is laid out with its channels last, (N, rows, columns, C), inside a border of zeros. So the products need not check
   which pixels are inside the image. The kernels are laid out in the same order, (K,R,S,C).
2. y is the product of the windows of x and the kernels.
3. dy is laid out the same way, its pixels `stride` apart. dx is the product of the windows of dy and the kernels
   rotated by 180 degrees.
4. dw is the product of dy and the windows of x, a long sum that is computed in parts. db is the sum of each map of dy.
"""

import torch

from refnet.ops.conv2d import forward_shapes
from refnet_triton import _layout, _memory, _product

Tensor = torch.Tensor


def forward(x: Tensor, w: Tensor, b: Tensor, *, stride: int, pad: int, ceil: bool = False, precision: str) -> Tensor:
    """Return the convolution of x with w, plus b: y (N,K,P,Q)."""
    return convolve(x, w, b, stride, pad, ceil=ceil, relu=False, precision=precision)


def backward(
    dy: Tensor,
    x: Tensor,
    w: Tensor,
    *,
    stride: int,
    pad: int,
    ceil: bool = False,
    need_dx: bool = True,
    precision: str,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients dx (None if ``need_dx=False``), dw and db."""
    del ceil  # the shape of dy already tells it
    return gradients(dy, None, x, w, stride, pad, need_dx=need_dx, precision=precision)


def convolve(
    x: Tensor, w: Tensor, b: Tensor, stride: int, pad: int, *, ceil: bool, relu: bool, precision: str
) -> Tensor:
    """Return the convolution of x with w, plus b, and after ReLU if `relu`: y (N,K,P,Q)."""
    _memory.require(x, w, b)
    (shape,) = forward_shapes(tuple(x.shape), tuple(w.shape), tuple(b.shape), stride=stride, pad=pad, ceil=ceil)
    y = _memory.empty(shape, device=x.device)
    _, _, P, Q = shape
    R, S = w.shape[2:]
    laid = _bordered(x, P, Q, R, S, stride, pad, precision)
    filters = _layout.lay_out(w, R, S, precision=precision).a
    _product.times_filters(laid.a, laid.windows(P, Q, R, S, stride), filters, b, y, relu=relu, precision=precision)
    return y


def gradients(
    dy: Tensor, y: Tensor | None, x: Tensor, w: Tensor, stride: int, pad: int, *, need_dx: bool, precision: str
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return dx (or None), dw and db. If y is given, it is ReLU's output, and dy counts as zero where y <= 0."""
    _memory.require(dy, x, w, *([] if y is None else [y]))
    N, _, P, Q = dy.shape
    R, S = w.shape[2:]
    H, W = x.shape[2:]
    # For dx, each number of dy is placed where its window of x begins. The window of dy that gives a pixel of dx then
    # starts R - 1 rows above that pixel. If pad > R - 1, the first rows of dy are above all these windows. Only dw
    # needs them, and `above` rows are added for them; likewise `before` columns.
    top, left, step = (R - 1 - pad, S - 1 - pad, stride) if need_dx else (0, 0, 1)
    above, before = max(0, -top), max(0, -left)
    height = max(above + (H + R - 1 if need_dx else 0), top + above + (P - 1) * step + 1)
    width = max(before + (W + S - 1 if need_dx else 0), left + before + (Q - 1) * step + 1)
    laid, sums = _layout.lay_out_gradient(
        dy, y, height, width, top=top + above, left=left + before, step=step, precision=precision
    )
    db = _product.sum_rows(sums)
    pixels, bordered = laid.windows(P, Q, 1, 1, step), _bordered(x, P, Q, R, S, stride, pad, precision)
    dw = _memory.empty(tuple(w.shape), device=w.device)
    _product.times_windows(
        laid.start(top + above, left + before),
        pixels,
        bordered.a,
        bordered.windows(P, Q, R, S, stride),
        dw,
        N,
        precision=precision,
    )
    if not need_dx:
        return None, dw, db
    dx = _memory.empty(tuple(x.shape), device=x.device)
    rotated = _layout.lay_out(w, R, S, rotated=True, precision=precision).a
    _product.times_filters(laid.start(above, before), laid.windows(H, W, R, S), rotated, None, dx, precision=precision)
    return dx, dw, db


def _bordered(x: Tensor, P: int, Q: int, R: int, S: int, stride: int, pad: int, precision: str) -> _layout.Laid:
    """Return x laid out with a border of zeros, just large enough for all windows."""
    height, width = (P - 1) * stride + R, (Q - 1) * stride + S
    return _layout.lay_out(x, height, width, top=pad, left=pad, precision=precision)
