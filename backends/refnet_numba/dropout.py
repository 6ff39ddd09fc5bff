"""Dropout; see :mod:`refnet.ops.dropout`. The mask is drawn in the kernel and never stored.

Arrays are seen as (N,F). Each thread processes whole samples: it draws a sample's F random words into a small buffer,
then writes its row. The backward pass draws the same words again.
"""

from math import prod

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet.ops.philox import Counter, Key
from refnet_numba import _elementwise, _memory
from refnet_numba._jit import kernel
from refnet_numba.philox import draw_row, unsigned

Floats = npt.NDArray[np.float32]


def forward(x: Floats, *, drop: float, key: Key, counter: Counter) -> Floats:
    """Return x with units set to zero at random: y, shaped like x."""
    _memory.require(x)
    y = _memory.empty(x.shape)
    rows = (x.shape[0], prod(x.shape[1:]))
    _forward(x.reshape(rows), np.uint64(drop * 2**32), *unsigned(key, counter), y.reshape(rows))
    return y


def backward(dy: Floats, *, drop: float, key: Key, counter: Counter) -> Floats:
    """Return the gradient dx, shaped like dy: the same mask, drawn again."""
    return forward(dy, drop=drop, key=key, counter=counter)


def expected(x: Floats, *, drop: float) -> Floats:
    """Return the mean of ``forward`` over all masks, used at test time: y, shaped like x."""
    return _elementwise.run(_scale, x, scalars=(np.float32(1 - drop),))


@kernel
def _forward(
    x: Floats,
    threshold: np.uint64,
    k0: np.uint64,
    k1: np.uint64,
    step: np.uint64,
    layer: np.uint64,
    sample: np.uint64,
    feature: np.uint64,
    y: Floats,
) -> None:
    N, F = x.shape
    for n in prange(N):
        words = np.empty(F, np.uint32)
        draw_row(k0, k1, step, layer, sample + np.uint64(n), feature, words)
        for f in range(F):
            y[n, f] = x[n, f] if words[f] >= threshold else np.float32(0)


@kernel
def _scale(x: Floats, factor: np.float32, y: Floats) -> None:
    for i in prange(x.size):
        y[i] = x[i] * factor
