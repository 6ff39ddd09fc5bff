"""One image file to pixels.

Source
------
Paper, section 2: "we first rescaled the image such that the shorter side was of length 256, and then cropped out
the central 256x256 patch from the resulting image".

Decisions
---------
A file is what its bytes say, not its name (ImageNet holds a PNG named .JPEG and 22 CMYK JPEGs); four formats are
tried and no other decoder of Pillow ever sees the file. EXIF orientation is ignored, as is usual for ImageNet.
Colours become RGB or gray; alpha is dropped, and of 16 bits the upper 8 are kept (Pillow alone clips).

Rescaling and cropping are one step: the centred largest square is resampled to size x size, so that a very long
image never grows. The filter is Pillow's bicubic, which widens with the reduction (antialiasing); the paper names
none. A square of the right size passes unchanged.

A header that promises more than 178,956,970 pixels is refused before memory is asked for (Pillow's guard against
"decompression bombs", twice its ``MAX_IMAGE_PIXELS``).
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from refnet.data.dataset import Pixels, shown
from refnet.errors import DataError

Result = TypeVar("Result")

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
MODES = {1: "L", 3: "RGB"}  # channels to Pillow's name for them
WORKERS = min(8, os.cpu_count() or 1)

_quiet = threading.Lock()  # Python's warning filters belong to the process


def read(path: str, size: int, channels: int) -> Pixels:
    """Decode a file and cut out its centre: uint8 (size, size, channels).

    Raises ``DataError`` naming the file if it cannot be read, is no image, is too large, damaged or cut short.
    """
    with _opened(path) as image:
        square = min(image.size)
        left, top = ((side - square) // 2 for side in image.size)
        box = (left, top, left + square, top + square)
        resized = _convert(image, MODES[channels]).resize((size, size), Image.Resampling.BICUBIC, box)
        return np.asarray(resized).reshape(size, size, channels)


def fault(path: str) -> str | None:
    """Look at a file's header, without decoding: what is wrong with it, or None."""
    try:
        with _opened(path):
            return None
    except DataError as error:
        return str(error)


def each(work: Callable[[str], Result], paths: Sequence[str]) -> list[Result]:
    """Do the work for every file, several at a time (Pillow decodes outside Python's lock); results in order.

    Pillow warns of corrupt EXIF, palettes with transparency and large images. All of these are read, or refused
    with an error of our own, so the warnings would tell a user nothing.
    """
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(work, paths))


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """Open an image and turn whatever goes wrong, now or while it is decoded, into a ``DataError``."""
    try:
        with Path(path).open("rb") as file, Image.open(file, formats=FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        raise DataError(
            f"{shown(path)} is not an image refnet reads (JPEG, PNG, BMP, WebP): convert or remove it",
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{shown(path)} is too large to decode ({error}): shrink or remove it") from error
    except Exception as error:  # a damaged file can raise almost anything inside Pillow
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{shown(path)} cannot be read: {error.strerror}; mend or remove it") from error
        reason = str(error) or type(error).__name__
        raise DataError(f"{shown(path)} is damaged or cut short ({reason}): replace or remove it") from error


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert(mode)
