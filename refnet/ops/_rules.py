"""What the shape rules of the chapters share: their vocabulary, their errors and the sliding-window formula.

Letters, one meaning everywhere: x (N,C,H,W) is an image batch, w (K,C,R,S) are filters, b (K,) biases and
y (N,K,P,Q) outputs; ``dx`` is the gradient of the loss with respect to ``x``.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from refnet.errors import ArgumentError, ShapeError

Shape: TypeAlias = tuple[int, ...]
Floats: TypeAlias = npt.NDArray[np.floating[Any]]


def require(op: str, holds: bool, otherwise: str) -> None:
    """Raise ``ShapeError`` naming the op unless the rule holds."""
    if not holds:
        raise ShapeError(f"{op}: {otherwise}")


def require_value(op: str, holds: bool, otherwise: str) -> None:
    """Raise ``ArgumentError`` naming the op unless the rule holds."""
    if not holds:
        raise ArgumentError(f"{op}: {otherwise}")


def require_rank(op: str, rank: int, **shapes: Shape) -> None:
    """Each named shape must have `rank` axes."""
    for name, shape in shapes.items():
        require(op, len(shape) == rank, f"{name} must have {rank} axes, it has shape {shape}")


def require_same(op: str, **shapes: Shape) -> None:
    """All named shapes must be equal."""
    (first, expected), *others = shapes.items()
    for name, shape in others:
        require(op, shape == expected, f"{name} must have the shape of {first}, {expected}; it has {shape}")


def windows(op: str, size: int, window: int, stride: int, pad: int, ceil: bool) -> int:
    """Count the windows that slide over one axis of an image.

    ``floor``: as many as lie wholly inside the padded axis, ``1 + floor((size + 2 pad - window) / stride)``.
    ``ceil``: one more where pixels would be left over, ``1 + ceil(...)``: that last window hangs over the far
    edge. This is cuda-convnet's rule, by which the paper's 224 pixels give 55 (code2012, ``layer.py``). Where the
    extra window would start beyond the image, and see no pixel at all, it is not counted.
    """
    require_value(op, window >= 1, f"the window must be at least 1, it is {window}")
    require_value(op, stride >= 1, f"stride must be at least 1, it is {stride}")
    require_value(op, pad >= 0, f"pad must be at least 0, it is {pad}")
    room = size + 2 * pad - window
    count = 1 + (-(-room // stride) if ceil else room // stride)
    if ceil:
        count = min(count, -(-(size + pad) // stride))
    require(
        op,
        size >= 1 and count >= 1,
        f"a window of {window} does not fit in {size} pixels with pad {pad} and stride {stride}",
    )
    return count


def overhang(size: int, window: int, stride: int, pad: int, count: int) -> int:
    """Zeros to append after the far pad so that the last of `count` windows is whole."""
    return max(0, (count - 1) * stride + window - size - 2 * pad)
