"""Softmax and cross-entropy; see :mod:`refnet.ops.softmax_xent`. It runs on one thread: there is little to compute."""

from typing import Any

import numpy as np
import numpy.typing as npt

from refnet_numba import _memory
from refnet_numba._jit import serial

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer[Any]]


def forward(z: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """Return the loss, a scalar (0-d array), and the probabilities p (N,K)."""
    _memory.require(z, labels)
    losses, p, loss = _memory.empty(labels.shape), _memory.empty(z.shape), _memory.empty((1,))
    _forward(z, labels, losses, p)
    _mean(losses, loss)
    return loss.reshape(()), p


def backward(p: Floats, labels: Labels) -> Floats:
    """Return the gradient dz (N,K)."""
    _memory.require(p, labels)
    dz = _memory.empty(p.shape)
    _backward(p, labels, dz)
    return dz


@serial
def _forward(z: Floats, labels: Labels, losses: Floats, p: Floats) -> None:
    N, K = z.shape
    for n in range(N):
        largest = z[n, 0]
        for k in range(1, K):
            if not z[n, k] <= largest:  # written so that NaN counts as the largest
                largest = z[n, k] if largest == largest else largest  # noqa: PLR0124 - a NaN stays the largest
        total = np.float32(0)
        for k in range(K):
            p[n, k] = np.exp(z[n, k] - largest)
            total += p[n, k]
        for k in range(K):
            p[n, k] /= total
        losses[n] = np.log(total) - (z[n, labels[n]] - largest)


@serial
def _mean(losses: Floats, loss: Floats) -> None:
    """Write the mean of the losses (N,) to loss (1,); the sum is float64."""
    total = np.float64(0)
    for n in range(losses.size):
        total += losses[n]
    loss[0] = total / losses.size


@serial
def _backward(p: Floats, labels: Labels, dz: Floats) -> None:
    N, K = p.shape
    for n in range(N):
        for k in range(K):
            dz[n, k] = (p[n, k] - np.float32(1 if k == labels[n] else 0)) / np.float32(N)
