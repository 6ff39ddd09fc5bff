"""Helpers for the chapters' shape rules: types, checks that raise errors, and the sliding-window formula.

Letters have one meaning everywhere: x (N,C,H,W) is a batch of images or feature maps, w (K,C,R,S) are kernels, b (K,)
biases and y (N,K,P,Q) outputs; ``dx`` is the gradient of the loss with respect to ``x``.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from refnet.errors import ArgumentError, ShapeError

Shape: TypeAlias = tuple[int, ...]
Floats: TypeAlias = npt.NDArray[np.floating[Any]]


def require(op: str, holds: bool, otherwise: str) -> None:
    """Raise ``ShapeError`` with the op's name and the message `otherwise` unless `holds` is true."""
    if not holds:
        raise ShapeError(f"{op}: {otherwise}")


def require_value(op: str, holds: bool, otherwise: str) -> None:
    """Raise ``ArgumentError`` with the op's name and the message `otherwise` unless `holds` is true."""
    if not holds:
        raise ArgumentError(f"{op}: {otherwise}")


def require_rank(op: str, rank: int, **shapes: Shape) -> None:
    """Raise ``ShapeError`` unless each named shape has `rank` axes."""
    for name, shape in shapes.items():
        require(op, len(shape) == rank, f"{name} must have {rank} axes, it has shape {shape}")


def require_same(op: str, **shapes: Shape) -> None:
    """Raise ``ShapeError`` unless all named shapes are equal to the first."""
    (first, expected), *others = shapes.items()
    for name, shape in others:
        require(op, shape == expected, f"{name} must have the shape of {first}, {expected}; it has {shape}")


def windows(op: str, size: int, window: int, stride: int, pad: int, ceil: bool) -> int:
    """Return the number of windows along one axis of an image: the size of the output along that axis.

    With ``ceil=False`` only windows wholly inside the padded axis count:
    ``1 + floor((size + 2 pad - window) / stride)``. With ``ceil=True`` there is one more window if pixels would be left
    over, ``1 + ceil((size + 2 pad - window) / stride)``; this last window extends beyond the far edge. This is the rule
    of cuda-convnet, the authors' program (code2012, ``layer.py``), and the reason why the paper's 224 pixels give 55
    outputs. The extra window is not counted if it would start after the last pixel of the image, since it would contain
    no pixel.

    All sizes are in pixels. Raises ``ArgumentError`` for a window or stride below 1 or a negative pad, and
    ``ShapeError`` if no window fits.
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
    """Return how many pixels to add after the far padding (bottom or right) to complete the last of `count` windows."""
    return max(0, (count - 1) * stride + window - size - 2 * pad)
