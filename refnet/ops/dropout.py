r"""Dropout: in training each unit is silenced at random, so that none can rely on another.

Source
------
Paper, section 4.2: probability 0.5 in fc6 and fc7; at test time all units speak and their outputs are halved.

Forward
-------
With a random 32-bit word u for each unit (chapter :mod:`refnet.ops.philox`)::

    keep   = u >= floor(drop * 2^32)
    y      = x where keep, otherwise 0              (training)
    y      = (1 - drop) * x                         (expected, at test time)

The last line is the mean of the one above it over all masks: E[y] = P(keep) x.

Backward
--------
A kept unit is the identity and a dropped one a constant: ``dx = dy where keep, otherwise 0``. The mask is a pure
function of key and counter, so it is drawn again instead of kept.

Shapes
------
x, y, dy and dx have one shape (N, ...); a sample's numbers are its features, in row-major order of its axes.

Decisions
---------
The paper's convention: no scaling in training, scaling at test time ("inverted" dropout does it the other way
round). A dropped NaN becomes 0. `counter` is (step, layer, sample, feature) of x's first element: a column passes
the feature at which its own units start, and part of a batch the sample at which it starts, so any split of the
work draws the mask that the whole would have drawn.

Kept for backward
-----------------
Nothing.
"""

from math import prod

import numpy as np
import numpy.typing as npt

from refnet.ops import philox
from refnet.ops._rules import Floats, Shape, require, require_value

INTERFACE = ("forward", "backward", "expected")
SHORT_NAME = "drop"


def forward_shapes(x: Shape, *, drop: float, key: philox.Key, counter: philox.Counter) -> tuple[Shape, ...]:
    """Shape rule: (y,). Raises ``ArgumentError`` unless 0 <= drop < 1."""
    expected_shapes(x, drop=drop)
    philox.bits_shapes(x[0], prod(x[1:]), key=key, counter=counter)
    return (x,)


def forward(x: Floats, *, drop: float, key: philox.Key, counter: philox.Counter) -> Floats:
    """Silence units at random: y, shaped like x."""
    return np.where(mask(x.shape, drop=drop, key=key, counter=counter), x, x.dtype.type(0))


def backward_shapes(dy: Shape, *, drop: float, key: philox.Key, counter: philox.Counter) -> tuple[Shape, ...]:
    """Shape rule: (dx,)."""
    return forward_shapes(dy, drop=drop, key=key, counter=counter)


def backward(dy: Floats, *, drop: float, key: philox.Key, counter: philox.Counter) -> Floats:
    """Gradient of x: the same mask, drawn again."""
    return forward(dy, drop=drop, key=key, counter=counter)


def expected_shapes(x: Shape, *, drop: float) -> tuple[Shape, ...]:
    """Shape rule: (y,)."""
    require("dropout", len(x) >= 2, f"x must have a batch axis and at least one more, it has shape {x}")
    require_value("dropout", 0 <= drop < 1, f"drop must be at least 0 and below 1, it is {drop}")
    return (x,)


def expected(x: Floats, *, drop: float) -> Floats:
    """Return the mean of ``forward`` over all masks, used at test time: y, shaped like x. Its own adjoint."""
    return x * x.dtype.type(1 - drop)


def mask(shape: Shape, *, drop: float, key: philox.Key, counter: philox.Counter) -> npt.NDArray[np.bool_]:
    """Say which units are kept: bool, of the given shape."""
    words = philox.bits(shape[0], prod(shape[1:]), key=key, counter=counter)
    return (words >= np.uint32(drop * 2**32)).reshape(shape)
