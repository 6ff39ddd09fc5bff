"""Pictures in the form of a data set that has a form of its own, such as the digits: 8x8 pixels from 0 to 16.

A network that was trained on such a data set needs other pictures in that form, whatever they are read from.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from PIL import Image

from refnet.data import decode
from refnet.data.dataset import Indices, Labels, Pixels
from refnet.data.source import SPLITS, ArrayPictures, FilePictures, Pictures, Source

Fit: TypeAlias = Callable[[Image.Image], Pixels]


@dataclass(frozen=True, eq=False)
class FittedPictures:
    """Pictures that `fit` converts. Arrays that have the shape asked for are in the form already."""

    pictures: Pictures
    fit: Fit

    @property
    def labels(self) -> Labels:
        """See `Pictures.labels`."""
        return self.pictures.labels

    def __len__(self) -> int:
        return len(self.pictures)

    def where(self, index: int) -> str:
        """See `Pictures.where`."""
        return self.pictures.where(index)

    def image(self, index: int, size: int, channels: int) -> Pixels:
        """See `Pictures.image`."""
        if isinstance(self.pictures, FilePictures):
            with decode.opened(self.pictures.paths[index]) as image:
                return self.fit(image)
        if isinstance(self.pictures, ArrayPictures) and self.pictures.pixels.shape[1:] != (size, size, channels):
            pixels = self.pictures.pixels[index]
            return self.fit(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
        return self.pictures.image(index, size, channels)

    def token(self, index: int) -> str:
        """See `Pictures.token`."""
        return self.pictures.token(index)

    def take(self, indices: Indices) -> "FittedPictures":
        """See `Pictures.take`."""
        return FittedPictures(self.pictures.take(indices), self.fit)


def fitted(source: Source, fit: Fit | None) -> Source:
    """Return a source whose pictures are converted by `fit`; the source itself without it."""
    if fit is None:
        return source
    converted = {name: FittedPictures(pictures, fit) for name, pictures in source.splits.items()}
    train, validation, test = (converted[source.same_as(name)] for name in SPLITS)
    return replace(source, train=train, validation=validation, test=test)
