"""Convert the images of a Python caller to the form that a trained network takes."""

from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np
from PIL import Image

from refnet import files
from refnet.data import arrays, image_files
from refnet.data.dataset import Pixels
from refnet.errors import DataError
from refnet.evaluation.trained import Trained


def pixels_of(trained: Trained, images: Any) -> Pixels:
    """Return images as the network takes them: uint8 (N,H,W,C).

    Images are a path of a file or folder, a pattern such as ``"photos/*.jpg"``, a PIL image, an array (H,W), (H,W,C),
    (N,H,W) or (N,H,W,C), or a list or iterator of these. Raises ``DataError`` for a file that cannot be read and an
    array of another form.
    """
    if isinstance(images, str | PathLike):
        return np.stack([trained.read(path) for path in image_files.listed(files.expanded(images)).paths])
    if isinstance(images, Image.Image):
        return trained.fit(images)[None]
    if isinstance(images, list | tuple | Iterator):
        pixels_of_each = [pixels_of(trained, image) for image in images]
        if not pixels_of_each:
            raise DataError("images is an empty list; give at least one image")
        return np.concatenate(pixels_of_each)
    array = np.asarray(images)
    arrays.check_bytes(array, "images")
    pixels = arrays.stacked(array[None] if is_single(array) else array, "images")
    if pixels.shape[1:] == trained.image_shape:
        return pixels
    return np.stack([trained.fit(Image.fromarray(a[..., 0] if a.shape[2] == 1 else a)) for a in pixels])


def is_single(images: Any) -> bool:
    """Tell whether images are a single image; an array of three axes is one image if the last has 1 or 3 channels."""
    if isinstance(images, list | tuple | Iterator):
        return False
    if isinstance(images, str | PathLike):
        return not image_files.is_several(files.expanded(images))
    shape: tuple[int, ...] = () if isinstance(images, Image.Image) else np.shape(images)
    return len(shape) < 3 or (len(shape) == 3 and shape[-1] in (1, 3))
