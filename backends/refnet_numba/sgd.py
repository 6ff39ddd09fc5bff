"""Stochastic gradient descent; see :mod:`refnet.ops.sgd`. One pass over each parameter, on all threads."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet_numba import _memory
from refnet_numba._jit import kernel

Floats = npt.NDArray[np.float32]


def step_(w: Floats, v: Floats, g: Floats, *, lr: float, momentum: float, weight_decay: float) -> None:
    """Update one parameter w and its velocity v in place."""
    _memory.require(w, v, g)
    _step_(
        w.reshape(-1), v.reshape(-1), g.reshape(-1), np.float32(lr), np.float32(momentum), np.float32(weight_decay * lr)
    )


def steps_(
    w: list[Floats], v: list[Floats], g: list[Floats], *, lr: float, momentum: float, weight_decays: Sequence[float]
) -> None:
    """Update every parameter in w and its velocity in v in place."""
    for weights, velocity, gradient, decay in zip(w, v, g, weight_decays, strict=True):
        step_(weights, velocity, gradient, lr=lr, momentum=momentum, weight_decay=decay)


@kernel
def _step_(w: Floats, v: Floats, g: Floats, lr: np.float32, momentum: np.float32, decay: np.float32) -> None:
    for i in prange(w.size):
        v[i] = momentum * v[i] - decay * w[i] - lr * g[i]
        w[i] += v[i]
