"""Random choices for an image in an epoch: where it is cropped, whether it is mirrored, how its colours are shifted.

Source
------
Paper, section 4.1: "extracting random 224x224 patches (and their horizontal reflections) from the 256x256 images";
"to each RGB image pixel ... we add the following quantity", ``[p1, p2, p3] [a1 l1, a2 l2, a3 l3]^T``, where p are the
principal axes of the training pixels' colours, l says how far the colours spread along each, and a is drawn from a
normal distribution of mean 0 and standard deviation 0.1, once for an image each time that it is used. code2012,
``convdata_jpeg.py``.

The chapter :mod:`refnet.ops.augment` applies these choices to the pixels.

Decisions
---------
The draw for an image has key (seed, CROPS) and counter (epoch, 0, index, feature); features 0, 1 and 2 are row, column
and mirror. So what an image looks like in an epoch depends on seed, epoch and its own index, and not on the batch it is
in. A word u becomes one of n integers by ``u n div 2^32``: each is drawn with probability 1/n to within 2^-32.

``crop_sharing`` = 32 does as code2012: 32 consecutive images of an epoch share one crop position and one mirror choice.
Their draw has the counter (epoch, 1, position in the epoch div 32, feature). The colour shift is drawn for each image
separately.

The colour shift has key (seed, COLOUR) and counter (epoch, 0, index, feature), one normal number for each channel.

A trap: l must be a *standard deviation* of the colours, the square root of an eigenvalue of their covariance. The
paper calls l an eigenvalue. In the unit of the pixels, 0..255, the largest eigenvalue over ImageNet is about 14,831
(grey levels squared): a tenth of it would shift an image by 1,483 grey levels, where the standard deviation gives 12.
The numbers 0.2175, 0.0188 and 0.0045, which many programs use, are eigenvalues of pixels in 0..1 used as if
they were deviations (which are 0.4776, 0.1455 and 0.0773 there): 2 to 17 times too weak.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refnet.data.dataset import Colours, Indices, Shape
from refnet.errors import ConfigError
from refnet.ops import philox
from refnet.ops.augment import Draws
from refnet.randomness import Purpose, gaussian

Size = tuple[int, int]  # (h,w)


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied.

    Attributes
    ----------
    crop
        (h,w) of the crop.
    flip
        Whether half of the crops are mirrored.
    colour_noise
        Standard deviation of the paper's a; 0 turns colour noise off.
    crop_sharing
        How many consecutive images share a crop position and a mirror choice.
    at_random
        Whether images are cropped and mirrored at random; if not, each gives its centre crop, not mirrored.
    """

    crop: Size
    flip: bool
    colour_noise: float = 0.0
    crop_sharing: int = 1
    at_random: bool = True

    def draw(
        self, indices: Indices, *, shape: Shape, colours: Colours, seed: int, epoch: int, position: int = 0
    ) -> Draws:
        """Return the random choices for the images `indices` of a split.

        `position` is the place of the first of them in the epoch's order.
        Raises ``ConfigError`` if the crop is larger than the images, whose shape is (H,W,C).
        """
        shifts = self._shifts(indices, colours, seed, epoch)
        if not self.at_random:
            return centre(len(indices), shape, self.crop)._replace(shifts=shifts)
        tall, wide = _places(shape, self.crop)
        if self.crop_sharing == 1:
            samples, layer = np.asarray(indices), 0
        else:
            samples, layer = (position + np.arange(len(indices))) // self.crop_sharing, 1
        row, column, mirror, _ = _words(samples, layer, (seed, Purpose.CROPS), epoch)
        offsets = np.stack([_integers(row, tall), _integers(column, wide)], axis=-1).astype(np.int32)
        flips = (_integers(mirror, 2) * self.flip).astype(np.uint8)
        return Draws(offsets, flips, shifts)

    def _shifts(self, indices: Indices, colours: Colours, seed: int, epoch: int) -> npt.NDArray[np.float32]:
        shifts = np.zeros((len(indices), len(colours.mean)))
        if self.colour_noise:
            words = np.stack(_words(np.asarray(indices), 0, (seed, Purpose.COLOUR), epoch), axis=-1)
            alpha = self.colour_noise * gaussian(words)
            # Axis by axis, and not as a product of matrices, which may sum in another order for another batch.
            for k, deviation in enumerate(colours.deviations):
                shifts += alpha[:, k, None] * deviation * colours.vectors[:, k]
        return shifts.astype(np.float32)


def centre(count: int, shape: Shape, size: Size) -> Draws:
    """Return the choices that give the centre crop of `count` images; of two or four that tie, the upper left one.

    Raises ``ConfigError`` if the crop is larger than the images, whose shape is (H,W,C).
    """
    tall, wide = _places(shape, size)
    offsets = np.tile(np.array([(tall - 1) // 2, (wide - 1) // 2], np.int32), (count, 1))
    return Draws(offsets, np.zeros(count, np.uint8), np.zeros((count, shape[2]), np.float32))


def ten(count: int, shape: Shape, size: Size) -> list[Draws]:
    """Return the ten crops of the paper's test: the centre, the four corners, and the mirror images of these five.

    The first is what `centre` returns. If the crop is as large as the image, the ten are only two different images.

    Source: paper, section 4.1, "(the four corner patches and the center patch) as well as their horizontal
    reflections".
    Raises ``ConfigError`` if the crop is larger than the images, whose shape is (H,W,C).
    """
    tall, wide = _places(shape, size)
    middle = centre(count, shape, size)
    corners = [(row, column) for row in (0, tall - 1) for column in (0, wide - 1)]
    upright = [middle, *(middle._replace(offsets=np.full_like(middle.offsets, corner)) for corner in corners)]
    return upright + [draws._replace(flips=np.ones_like(draws.flips)) for draws in upright]


def _places(shape: Shape, size: Size) -> Size:
    """Count the places a crop can take, down and across."""
    if not (1 <= size[0] <= shape[0] and 1 <= size[1] <= shape[1]):
        raise ConfigError(
            f"a crop of {size[0]}x{size[1]} does not fit in images of {shape[0]}x{shape[1]}: "
            "make the images larger or the net's input smaller",
        )
    return shape[0] - size[0] + 1, shape[1] - size[1] + 1


def _words(samples: Indices, layer: int, key: philox.Key, epoch: int) -> tuple[philox.Word, ...]:
    """Draw features 0..3 of any samples: four uint32 arrays (n,). One block of Philox each, as `philox.bits` counts."""
    sample = (samples & philox.MASK).astype(np.uint32)
    zero = np.zeros_like(sample)
    return philox.block(zero, sample, zero + np.uint32(layer), zero + np.uint32(epoch & philox.MASK), key)


def _integers(words: philox.Word, n: int) -> npt.NDArray[np.int64]:
    return (words.astype(np.uint64) * np.uint64(n) >> np.uint64(32)).astype(np.int64)
