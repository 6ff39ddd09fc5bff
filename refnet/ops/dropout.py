"""Dropout: in training each unit is set to zero at random, so that no unit can rely on another.

Source
------
Paper, section 4.2: probability 0.5 in fc6 and fc7; at test time all units are used and their outputs are halved.

Forward
-------
With `drop` the probability of dropping a unit, and u a random integer from 0 to 2^32 - 1 for each unit (drawn by the
chapter :mod:`refnet.ops.philox`)::

    keep   = u >= floor(drop * 2^32)
    y      = x where keep, otherwise 0              (training)
    y      = (1 - drop) * x                         (expected, at test time)

The formula for test time is the mean of the one for training over all masks: E[y] = P(keep) x.

Backward
--------
A kept unit is the identity, and a dropped one is the constant 0: ``dx = dy where keep, otherwise 0``. The mask `keep`
is a pure function of key and counter, so the backward pass draws it again, and no mask has to be saved.

Shapes
------
x, y, dy and dx all have the same shape (N, ...). The units of a sample are its features, numbered in row-major order.

Decisions
---------
- The paper's convention: no scaling in training, scaling at test time. ("Inverted" dropout, as in PyTorch, scales in
  training.)
- A dropped NaN becomes 0.
- `key` is (seed, purpose). `counter` is (step, layer, sample, feature) of x's first element. A column of the network
  passes the feature at which its own units start, and a part of a batch passes the sample at which it starts. So the
  mask is the same however the work is split.

Saved for the backward pass
---------------------------
Nothing.
"""

from math import prod

import numpy as np
import numpy.typing as npt

from refnet.ops import philox
from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape, require, require_value

INTERFACE = ("forward", "backward", "expected")
SHORT_NAME = "drop"


def forward_shapes(x: Shape, *, drop: float, key: philox.Key, counter: philox.Counter) -> tuple[Shape, ...]:
    """Return the shape of y. Raises errors as `expected_shapes` and `bits_shapes` do."""
    expected_shapes(x, drop=drop)
    philox.bits_shapes(x[0], prod(x[1:]), key=key, counter=counter)
    return (x,)


@checked
def forward(x: Floats, *, drop: float, key: philox.Key, counter: philox.Counter) -> Floats:
    """Return x with units set to zero at random: y, shaped like x."""
    return np.where(mask(x.shape, drop=drop, key=key, counter=counter), x, x.dtype.type(0))


def backward_shapes(dy: Shape, *, drop: float, key: philox.Key, counter: philox.Counter) -> tuple[Shape, ...]:
    """Return the shape of dx. Raises ``ShapeError`` as forward does."""
    return forward_shapes(dy, drop=drop, key=key, counter=counter)


@checked
def backward(dy: Floats, *, drop: float, key: philox.Key, counter: philox.Counter) -> Floats:
    """Return the gradient dx, shaped like dy: the same mask, drawn again."""
    return forward(dy, drop=drop, key=key, counter=counter)


def expected_shapes(x: Shape, *, drop: float) -> tuple[Shape, ...]:
    """Return the shape of y.

    Raises ``ShapeError`` unless x has a batch axis and at least one more, and ``ArgumentError`` unless 0 <= drop < 1.
    """
    require("dropout", len(x) >= 2, f"x must have a batch axis and at least one more, it has shape {x}")
    require_value("dropout", 0 <= drop < 1, f"drop must be at least 0 and below 1, it is {drop}")
    return (x,)


@checked
def expected(x: Floats, *, drop: float) -> Floats:
    """Return the mean of ``forward`` over all masks, used at test time: y, shaped like x.

    The function is its own backward: dx is ``expected(dy, drop=drop)``.
    """
    return x * x.dtype.type(1 - drop)


def mask(shape: Shape, *, drop: float, key: philox.Key, counter: philox.Counter) -> npt.NDArray[np.bool_]:
    """Return which units are kept: bool, of the given shape (N, ...)."""
    words = philox.bits(shape[0], prod(shape[1:]), key=key, counter=counter)
    return (words >= np.uint32(drop * 2**32)).reshape(shape)
