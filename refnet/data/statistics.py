"""Statistics of the training images: their mean, and the principal axes of their colours.

Source
------
Paper, section 2: "subtracting the mean activity over the training set from each pixel"; section 4.1: "we perform PCA
on the set of RGB pixel values throughout the ImageNet training set".

Decisions
---------
Sums are of integers, so they are exact and do not depend on the order of the images. Only the last step, from
sums to a mean or to eigenvectors, rounds. The mean takes every pixel; the covariance of the colours takes every eighth
row, 8,192 pixels of a 256x256 image, and so costs little compared with decoding.

An eigenvector has no sign of its own: its largest component is made positive.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from refnet.data.dataset import Colours, Mean, Pixels, Shape

COLOUR_ROW_STRIDE = 8  # every eighth row is used for the colours
BATCH = 256  # images in memory at once


@dataclass
class Sums:
    """Sums over images.

    Attributes
    ----------
    images
        How many.
    pixels
        Their sum: int64 (H,W,C).
    products
        The sum of the products of two channels, over the pixels of every `COLOUR_ROW_STRIDE`-th row: int64 (C,C).
    """

    images: int
    pixels: npt.NDArray[np.int64]
    products: npt.NDArray[np.int64]

    @classmethod
    def none(cls, shape: Shape) -> Self:
        """Return the sums over no images of that shape."""
        return cls(0, np.zeros(shape, np.int64), np.zeros((shape[2], shape[2]), np.int64))

    @classmethod
    def of(cls, pixels: Pixels) -> Self:
        """Return the sums over images, uint8 (N,H,W,C), at most 2^24 of them."""
        # Products of bytes, and 2^53 / 255^2 of them, are exact in float64, for which there is a fast product: of
        # whole planes, since a matrix product of three columns is slow.
        planes = pixels[:, ::COLOUR_ROW_STRIDE].reshape(-1, pixels.shape[3]).T.astype(np.float64, order="C")
        products = np.array([[a @ b for b in planes] for a in planes])
        small = np.uint16 if len(pixels) * 255 < 1 << 16 else np.uint32
        return cls(len(pixels), pixels.sum(axis=0, dtype=small).astype(np.int64), products.astype(np.int64))

    def add(self, other: Self) -> None:
        """Add the sums over other images."""
        self.images += other.images
        self.pixels += other.pixels
        self.products += other.products

    def mean(self) -> Mean:
        """Return the mean image: float32 (H,W,C)."""
        return (self.pixels / self.images).astype(np.float32)

    def principal(self) -> Colours:
        """Return the mean colour and the principal axes of the colours."""
        height, width, channels = self.pixels.shape
        rows = self.pixels[::COLOUR_ROW_STRIDE]
        n, total = self.images * rows.shape[0] * width, rows.sum(axis=(0, 1)).tolist()
        # In Python's integers, since the difference of two large numbers is taken before anything is rounded.
        covariance = np.array(
            [
                [(n * int(self.products[i, j]) - total[i] * total[j]) / n**2 for j in range(channels)]
                for i in range(channels)
            ]
        )
        variances, vectors = np.linalg.eigh(covariance)
        largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(channels)]
        mean = self.pixels.sum(axis=(0, 1)) / (self.images * height * width)
        return Colours(mean, np.sqrt(np.maximum(variances, 0)), vectors * np.sign(largest))
