"""Softmax and cross-entropy loss: probabilities from scores, and -log of the probability of the correct class.

Source
------
Paper, section 3.5: "a 1000-way softmax ... maximizes the multinomial logistic regression objective, ... the
average across training cases of the log-probability of the correct label".

Forward
-------
With z[n,k] the score of class k for sample n (the output of the last layer), and m[n] the largest score of sample n::

    p[n,k] = exp(z[n,k] - m[n]) / sum over j of exp(z[n,j] - m[n])
    loss   = mean over n of  -log p[n, labels[n]]

Subtracting m changes nothing in exact arithmetic and keeps exp from overflowing. The loss of sample n is computed as
``log(sum over j of exp(z[n,j] - m[n])) - (z[n,labels[n]] - m[n])`` and not as -log p, so that a p that rounds to zero
does not give an infinite loss.

Backward
--------
For one sample, loss = log(sum of exp z_j) - z_label. Its derivative with respect to z_k is p_k - [k = label], where
[k = label] is 1 if k is the label and 0 if not. The mean divides by N::

    dz[n,k] = (p[n,k] - [k = labels[n]]) / N

Shapes
------
z, p and dz (N,K); labels (N,) integers in [0, K); loss is a scalar (0-d array).

Decisions
---------
- Softmax and the loss are one operation because, computed separately, the gradient would divide by p, which may be
  zero.
- Out-of-range labels are rejected before the computation (``forward_values``).

Saved for the backward pass
---------------------------
Only p.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape, require, require_rank, require_value

INTERFACE = ("forward", "backward")
RESIDUALS = {"p": "float32"}

Labels = npt.NDArray[np.integer[Any]]


def forward_shapes(z: Shape, labels: Shape) -> tuple[Shape, ...]:
    """Return the shapes of loss and p. Raises ``ShapeError`` unless z is (N,K), not empty, and labels are (N,)."""
    _check_shapes("z", z, labels)
    return (), z


def forward_values(z: Floats, labels: Labels) -> None:
    """Check values. Raises ``ArgumentError`` for a label outside [0, K)."""
    _check_labels(labels, z.shape[1])


@checked
def forward(z: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """Return the loss, a scalar (0-d array), and the probabilities p (N,K)."""
    shifted = z - z.max(axis=1, keepdims=True)
    exp = np.exp(shifted)
    total = exp.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = np.asarray((np.log(total[:, 0]) - shifted[rows, labels]).mean())
    return loss, exp / total


def backward_shapes(p: Shape, labels: Shape) -> tuple[Shape, ...]:
    """Return the shape of dz. Raises ``ShapeError`` as forward does."""
    _check_shapes("p", p, labels)
    return (p,)


def backward_values(p: Floats, labels: Labels) -> None:
    """Check values, as for forward."""
    _check_labels(labels, p.shape[1])


@checked
def backward(p: Floats, labels: Labels) -> Floats:
    """Return the gradient dz (N,K)."""
    dz = p.copy()
    dz[np.arange(len(labels)), labels] -= 1
    dz /= len(labels)
    return dz


def _check_shapes(name: str, scores: Shape, labels: Shape) -> None:
    require_rank("softmax_xent", 2, **{name: scores})
    require("softmax_xent", min(scores) >= 1, f"{name} must hold at least one sample and class, it has shape {scores}")
    rows = scores[:1]
    require("softmax_xent", labels == rows, f"labels must have shape {rows}, one for each row; it is {labels}")


def _check_labels(labels: Labels, classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    n = int(wrong[0]) if wrong.size else 0
    require_value(
        "softmax_xent", not wrong.size, f"labels[{n}] is {labels[n]}, it must be at least 0 and below {classes}"
    )
