"""Cases of :mod:`refnet.ops.augment`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refnet.ops import augment
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.strategies import LENGTHS, Geometry, distinct, shape

MAX_MARGIN = 3  # images are at most this much larger than their crops, in pixels


def _arguments(sizes: Sizes, options: Options, values: Values) -> Given:
    N, H, W, C = shape(sizes, "NHWC")
    h, w = options["size"]
    return {
        "images": values.integers(0, 256, (N, H, W, C), np.uint8),
        "mean": values(H, W, C),
        "offsets": np.stack([values.integers(0, n, (N,), np.int32) for n in (H - h + 1, W - w + 1)], axis=-1),
        "flips": values.integers(0, 2, (N,), np.uint8),
        "shifts": values(N, C),
    }


def _with_changed(**changes: Callable[[Any], Any]) -> Callable[..., Array]:
    """Return an augmentation that changes the named arguments before it uses them."""

    def mutant(*arguments: Array, size: tuple[int, int]) -> Array:
        named = dict(zip(("images", "mean", "offsets", "flips", "shifts"), arguments, strict=True))
        return augment.forward(**{k: changes.get(k, lambda a: a)(a) for k, a in named.items()}, size=size)

    return mutant


def _mean_not_mirrored(
    images: Array, mean: Array, offsets: Array, flips: Array, shifts: Array, *, size: tuple[int, int]
) -> Array:
    bare = augment.forward(images, np.zeros_like(mean), offsets, flips, np.zeros_like(shifts), size=size)
    cut = augment.forward(np.zeros_like(images), mean, offsets, np.zeros_like(flips), np.zeros_like(shifts), size=size)
    return bare + cut + shifts[..., None, None]


def _mean_of_the_centre(
    images: Array, mean: Array, offsets: Array, flips: Array, shifts: Array, *, size: tuple[int, int]
) -> Array:
    (h, w), (H, W, _) = size, mean.shape
    top, left = (H - h) // 2, (W - w) // 2
    bare = augment.forward(images, np.zeros_like(mean), offsets, flips, np.zeros_like(shifts), size=size)
    centre = mean[top : top + h, left : left + w].transpose(2, 0, 1)
    return (bare - centre) + shifts[..., None, None]


def _shifted_first(
    images: Array, mean: Array, offsets: Array, flips: Array, shifts: Array, *, size: tuple[int, int]
) -> Array:
    less = augment.forward(images, np.zeros_like(mean), offsets, flips, shifts, size=size)
    cut = augment.forward(np.zeros_like(images), mean, offsets, flips, np.zeros_like(shifts), size=size)
    return less + cut


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    sizes = draw(distinct("NHWC", (*LENGTHS, 31)))
    size = tuple(draw(st.integers(max(1, sizes[axis] - MAX_MARGIN), sizes[axis])) for axis in "HW")
    return sizes, {"size": size}


IMAGES, SIZE = (2, 7, 9, 3), {"size": (5, 6)}
FITTING: dict[str, Any] = {"images": IMAGES, "mean": IMAGES[1:], "offsets": (2, 2), "flips": (2,), "shifts": (2, 3)}

CASES = (
    Case(
        "augment",
        "forward",
        _geometry(),
        _arguments,
        results=("y",),
        exact="always",
        mutants={
            "never mirrored": _with_changed(flips=np.zeros_like),
            "every crop at the upper left": _with_changed(offsets=np.zeros_like),
            "mean not mirrored": _mean_not_mirrored,
            "centre crop of the mean for every crop": _mean_of_the_centre,
            "shift added before the mean is subtracted": _shifted_first,
            "shifts of the previous image": _with_changed(shifts=lambda a: np.roll(a, 1, axis=0)),
            "channels in reverse order": _with_changed(images=lambda a: a[..., ::-1]),
        },
        refusals={
            "images must have 4 axes": {**FITTING, "images": IMAGES[1:], **SIZE},
            "mean must have shape (7, 9, 3)": {**FITTING, "mean": (9, 7, 3), **SIZE},
            "offsets must have shape (2, 2)": {**FITTING, "offsets": (2, 3), **SIZE},
            "flips must have shape (2,)": {**FITTING, "flips": (3,), **SIZE},
            "shifts must have shape (2, 3)": {**FITTING, "shifts": (3, 2), **SIZE},
            "a crop of 8x6 does not fit in images of 7x9": {**FITTING, "size": (8, 6)},
            "a crop of 0x6 does not fit": {**FITTING, "size": (0, 6)},
        },
    ),
)
