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

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from refnet.data.archive import Place, open_place
from refnet.data.dataset import Pixels
from refnet.errors import DataError
from refnet.terminal.printable import printable, reason

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
MODES = {1: "L", 3: "RGB"}  # channels to Pillow's name for them


def read(place: Place, size: int, channels: int) -> Pixels:
    """Decode a file and cut out its centre: uint8 (size, size, channels).

    Raises ``DataError`` naming the file if it cannot be read, is no image, is too large, damaged or cut short.
    """
    with opened(place) as image:
        return centre_square(image, size, channels)


def opened(place: Place) -> AbstractContextManager[Image.Image]:
    """Open an image file. Whatever is wrong with it, now or while it is decoded, is a ``DataError`` that names it."""
    return _opened(str(place), lambda: open_place(place))


def opened_bytes(content: bytes, name: str) -> AbstractContextManager[Image.Image]:
    """Open the bytes of an image file as `opened` does; `name` is what messages call it."""
    return _opened(name, lambda: io.BytesIO(content))


def centre_square(image: Image.Image, size: int, channels: int) -> Pixels:
    """Cut out the largest centred square of an image and resample it: uint8 (size, size, channels)."""
    square = min(image.size)
    left, top = ((side - square) // 2 for side in image.size)
    box = (left, top, left + square, top + square)
    resized = _convert(image, MODES[channels]).resize((size, size), Image.Resampling.BICUBIC, box)
    return np.asarray(resized).reshape(size, size, channels)


def fault(place: Place) -> str | None:
    """Check a file's header, without decoding: what is wrong with it, or None."""
    try:
        with opened(place):
            return None
    except DataError as error:
        return str(error)


class _Quiet:
    """Silences Pillow while any thread is in it.

    Pillow warns of corrupt EXIF, palettes with transparency and large images. All of these are read, or refused with
    an error of our own, so the warnings would tell a user nothing. Python's list of filters belongs to the process: one
    entry is put into it by the first thread that comes, and taken out by the last that leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters: list[Any] = []
        self._entry: Any = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._filters = warnings.filters  # type: ignore[assignment] # typed as what cannot be changed
                self._entry = self._filters[0]

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                with suppress(ValueError):  # somebody has set filters of his own meanwhile
                    self._filters.remove(self._entry)


_quiet = _Quiet()


@contextmanager
def _opened(path: str, open_it: Callable[[], BinaryIO]) -> Iterator[Image.Image]:
    """Open an image and turn whatever goes wrong, now or while it is decoded, into a ``DataError``."""
    try:
        with _quiet, open_it() as file, Image.open(file, formats=FORMATS) as image:
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{printable(path)} is not an image refnet reads (JPEG, PNG, BMP, WebP): convert or remove it",
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{printable(path)} is too large to decode ({error}): shrink or remove it") from error
    except Exception as error:  # a damaged file can raise almost anything inside Pillow
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{printable(path)} cannot be read: {error.strerror}; repair or remove it") from error
        raise DataError(f"{printable(path)} is damaged or cut short ({reason(error)}): replace or remove it") from error


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """Give an image in a mode; one that is in it is not copied, as Pillow would."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)
