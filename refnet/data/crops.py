"""From the images of a data set to what the net reads: crop, mirror, subtract the mean.

Source
------
Paper, sections 2 and 4.1: "extracting random 224x224 patches (and their horizontal reflections) from the 256x256
images"; the mean image is subtracted; values stay 0..255.

Definition
----------
For image (H,W,C), mean (H,W,C), offset (r,s) and crop (h,w)::

    crop[c,i,j] = image[r+i, s+j, c] - mean[r+i, s+j, c]

and, in half of the draws, ``crop[c,i,w-1-j]`` in its place.

Decisions
---------
The mean belongs to positions of the whole image, so it is cut at the same place (and mirrored along with the image);
the authors' program subtracted the centre crop of the mean everywhere.

The draw for an image has key (seed, CROPS) and counter (epoch, 0, index, feature); features 0, 1 and 2 are row,
column and mirror. So what an image looks like in an epoch depends on seed, epoch and its own index, and not on the
batch it is in. A word u becomes one of n integers by ``u n div 2^32``: each is drawn with probability 1/n to within
2^-32.
"""

import numpy as np
import numpy.typing as npt

from refnet.data.dataset import Indices, Mean, Pixels
from refnet.errors import ConfigError
from refnet.ops import philox
from refnet.random import Purpose

Crops = npt.NDArray[np.float32]
Size = tuple[int, int]  # (h,w)


def random_crops(
    images: Pixels,
    mean: Mean,
    size: Size,
    *,
    flip: bool,
    seed: int,
    epoch: int,
    indices: Indices,
) -> Crops:
    """Cut a random window out of each image, mirrored half of the time if `flip`, less the mean.

    Shapes: images uint8 (N,H,W,C), mean float32 (H,W,C), indices (N,) of the images in their split; returns float32
    (N,C,h,w). Raises ``ConfigError`` if the crop is larger than the images.
    """
    tall, wide = _positions(images.shape[1:3], size)
    row, column, mirror, _ = _words(indices, seed=seed, epoch=epoch)
    rows, columns = _integers(row, tall), _integers(column, wide)
    mirrored = _integers(mirror, 2).astype(np.bool_) & flip
    crops = np.empty((len(images), images.shape[3], *size), np.float32)
    for crop, image, r, s, reverse in zip(crops, images, rows, columns, mirrored, strict=True):
        _cut(image, mean, r, s, out=crop[..., ::-1] if reverse else crop)
    return crops


def centre_crops(images: Pixels, mean: Mean, size: Size) -> Crops:
    """Cut the central window out of each image, less the mean; the upper left one of two or four that tie.

    Shapes: images uint8 (N,H,W,C), mean float32 (H,W,C); returns float32 (N,C,h,w). Raises ``ConfigError`` if the
    crop is larger than the images.
    """
    tall, wide = _positions(images.shape[1:3], size)
    crops = np.empty((len(images), images.shape[3], *size), np.float32)
    for crop, image in zip(crops, images, strict=True):
        _cut(image, mean, (tall - 1) // 2, (wide - 1) // 2, out=crop)
    return crops


def _positions(sides: tuple[int, ...], size: Size) -> Size:
    """Count the places a crop can take, down and across."""
    if not (1 <= size[0] <= sides[0] and 1 <= size[1] <= sides[1]):
        raise ConfigError(
            f"a crop of {size[0]}x{size[1]} does not fit in images of {sides[0]}x{sides[1]}: "
            "make the images larger or the net's input smaller",
        )
    return sides[0] - size[0] + 1, sides[1] - size[1] + 1


def _words(indices: Indices, *, seed: int, epoch: int) -> tuple[philox.Word, ...]:
    """Draw features 0..3 of any samples: four uint32 arrays (N,). One block of Philox each, as `philox.bits` counts."""
    sample = (np.asarray(indices) & philox.MASK).astype(np.uint32)
    zero = np.zeros_like(sample)
    return philox.block(zero, sample, zero, np.full_like(sample, epoch & philox.MASK), (seed, Purpose.CROPS))


def _integers(words: philox.Word, n: int) -> npt.NDArray[np.int64]:
    return (words.astype(np.uint64) * np.uint64(n) >> np.uint64(32)).astype(np.int64)


def _cut(image: Pixels, mean: Mean, r: int, s: int, out: Crops) -> None:
    """Write one crop, less the mean, to `out` (C,h,w)."""
    window = np.s_[r : r + out.shape[1], s : s + out.shape[2]]
    np.subtract(image[window], mean[window], out=out.transpose(1, 2, 0))
