"""Fully connected layer; see :mod:`refnet.ops.linear`. The products of :mod:`._product`, for images of one pixel.

x (N,D), w (K,D) and y (N,K) are read and written as they are. Only dx needs a copy of dy, transposed.
"""

import torch

from refnet_triton import _memory, _product
from refnet_triton._layout import lay_out, one_pixel

Tensor = torch.Tensor


def forward(x: Tensor, w: Tensor, b: Tensor, *, precision: str) -> Tensor:
    """Return the weighted sums of the inputs, plus b: y (N,K)."""
    return connect(x, w, b, relu=False, precision=precision)


def connect(x: Tensor, w: Tensor, b: Tensor, *, relu: bool, precision: str) -> Tensor:
    """Return the weighted sums of the inputs, plus b, and after ReLU if `relu`: y (N,K)."""
    _memory.require(x, w, b)
    K, D = w.shape
    y = _memory.empty((x.shape[0], K), device=x.device)
    _product.times_filters(x, one_pixel(D), w, b, y, relu=relu, precision=precision)
    return y


def backward(dy: Tensor, x: Tensor, w: Tensor, *, precision: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients dx, dw and db."""
    _memory.require(dy, x, w)
    K, D = w.shape
    N = x.shape[0]
    dx, dw = _memory.empty(tuple(x.shape), device=x.device), _memory.empty((K, D), device=w.device)
    # dx[n] = sum over k of dy[n,k] w[k] has the form of dw[k] = sum over n of dy[n,k] x[n], but with dy transposed.
    dyt = lay_out(dy.view(1, N, 1, K), 1, K, precision=precision).a
    _product.times_windows(dyt, one_pixel(dyt.shape[3]), w, one_pixel(D), dx.view(N, D), K, precision=precision)
    _product.times_windows(dy, one_pixel(K), x, one_pixel(D), dw, N, precision=precision)
    return dx, dw, _product.sum_rows(dy)
