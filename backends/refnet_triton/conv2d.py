"""Convolution; see :mod:`refnet.ops.conv2d`. Matrix products without building the matrix of windows (:mod:`._product`).

1. x is laid out pixel by pixel inside its border of zeros, and the kernels weight by weight in the same order, so that
   the products need not check which pixels are inside the image.
2. y is the windows of x times the kernels.
3. dy is laid out the same way, its pixels `stride` apart; dx is the windows of dy times the kernels rotated by 180
   degrees.
4. dw is dy times the windows of x, a long sum that is computed in parts. db is the sum of each map of dy.
"""

import torch

from refnet.ops.conv2d import forward_shapes
from refnet_triton import _memory, _product

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
    filters = _product.lay_out(w, R, S, precision=precision).a
    _product.times_filters(laid.a, laid.windows(P, Q, R, S, stride), filters, b, y, relu=relu, precision=precision)
    return y


def gradients(
    dy: Tensor, y: Tensor | None, x: Tensor, w: Tensor, stride: int, pad: int, *, need_dx: bool, precision: str
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return dx (or None), dw and db. If y is given, it is the output of ReLU, and dy first passes back through it."""
    _memory.require(dy, x, w, *([] if y is None else [y]))
    N, _, P, Q = dy.shape
    R, S = w.shape[2:]
    H, W = x.shape[2:]
    # For dx, each dy is placed where its window begins. The window that computes a pixel of dx then starts R - 1 rows
    # above that pixel. If the border is wider than R - 1, some outputs are above all those windows; only dw needs them.
    top, left, step = (R - 1 - pad, S - 1 - pad, stride) if need_dx else (0, 0, 1)
    up, shift = max(0, -top), max(0, -left)
    height = max(up + (H + R - 1 if need_dx else 0), top + up + (P - 1) * step + 1)
    width = max(shift + (W + S - 1 if need_dx else 0), left + shift + (Q - 1) * step + 1)
    laid, db = _product.lay_out_gradient(
        dy, y, height, width, top=top + up, left=left + shift, step=step, precision=precision
    )
    pixels, bordered = laid.windows(P, Q, 1, 1, step), _bordered(x, P, Q, R, S, stride, pad, precision)
    dw = _memory.empty(tuple(w.shape), device=w.device)
    _product.times_windows(
        laid.start(top + up, left + shift),
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
    turned = _product.lay_out(w, R, S, turned=True, precision=precision).a
    _product.times_filters(laid.start(up, shift), laid.windows(H, W, R, S), turned, None, dx, precision=precision)
    return dx, dw, db


def _bordered(x: Tensor, P: int, Q: int, R: int, S: int, stride: int, pad: int, precision: str) -> _product.Laid:
    """Return x laid out with a border of zeros, just large enough for all windows."""
    height, width = (P - 1) * stride + R, (Q - 1) * stride + S
    return _product.lay_out(x, height, width, top=pad, left=pad, precision=precision)
