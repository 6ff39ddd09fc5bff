"""Decode one image file into pixels.

Source
------
Paper, section 2: "we first rescaled the image such that the shorter side was of length 256, and then cropped out
the central 256x256 patch from the resulting image".

Decisions
---------
The type of a file is detected from its content, not its name (ImageNet holds a PNG named .JPEG and 22 CMYK JPEGs); only
the formats of ``FORMATS`` are tried, and no other decoder of Pillow ever sees the file. Of a file with several images
the first is read. EXIF orientation is ignored, as is usual for ImageNet, and so is all other metadata. Colours become
RGB or gray. Of gray with 9 to 16 bits the upper 8 are kept (Pillow alone clips); floating-point numbers and integers of
32 bits have no stated white and are refused. Transparent pixels are composed on white, because the colour stored under
them is often noise; digits, which are light on dark, are composed on black.

Rescaling and cropping are one step: the centred largest square is resampled to size x size, so a very long image is
never enlarged beyond that square. The filter is Pillow's bicubic, which widens with the reduction (antialiasing); the
paper names none. A square of the right size passes unchanged.

A header that promises more than 178,956,970 pixels is refused before memory is asked for (Pillow's guard against
"decompression bombs", twice its ``MAX_IMAGE_PIXELS``), and so is a TIFF with a tile as large.
"""

import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, BinaryIO, Final

import numpy as np
from PIL import Image, UnidentifiedImageError, features
from PIL.TiffImagePlugin import TiffImageFile

from refnet.data.archive import Place, open_place
from refnet.data.dataset import Pixels
from refnet.data.png_metadata import without_metadata
from refnet.data.unread_formats import AVIF, CAMERA, HEAD_BYTES, unread_format
from refnet.errors import DataError
from refnet.terminal.printable import printable, reason

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", *(["AVIF"] if features.check("avif") else []))
FORMATS_IN_WORDS: Final = "JPEG, PNG, BMP, WebP, TIFF, GIF, PPM, PGM, PBM, AVIF"
MODES = {1: "L", 3: "RGB"}  # channels to Pillow's name for them
WHITE: Final = 255
READ_MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I"})
MAX_PIXELS: Final = 178_956_970
# Tags of TIFF 6.0, and DNG's version.
SUBFILE_TYPE, BITS_PER_SAMPLE, PHOTOMETRIC, TILE_SIDES, DNG_VERSION = 254, 258, 262, (322, 323), 50706

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or Python prints Pillow's errors, which are ours to report


def read(place: Place, size: int, channels: int) -> Pixels:
    """Decode a file and cut out its centre: uint8 (size, size, channels).

    Raises ``DataError`` naming the file if it cannot be read, is no image, is too large, damaged or cut short.
    """
    with opened(place) as image:
        return centre_square(image, size, channels)


def opened(place: Place) -> AbstractContextManager[Image.Image]:
    """Open an image file.

    Raises ``DataError``, which names the file, for any fault in it, now or while it is decoded.
    """
    return _opened(str(place), lambda: open_place(place))


def opened_bytes(content: bytes, name: str) -> AbstractContextManager[Image.Image]:
    """Open the bytes of an image file as `opened` does; `name` is what messages call it."""
    return _opened(name, lambda: io.BytesIO(content))


def centre_square(image: Image.Image, size: int, channels: int, background: int = WHITE) -> Pixels:
    """Cut out the largest centred square of an image and resample it: uint8 (size, size, channels).

    `background` is the gray, 0..255, that transparent pixels are composed on.
    """
    square = min(image.size)
    left, top = ((side - square) // 2 for side in image.size)
    box = (left, top, left + square, top + square)
    resized = _convert(image, MODES[channels], background).resize((size, size), Image.Resampling.BICUBIC, box)
    return np.asarray(resized).reshape(size, size, channels)


class _Quiet:
    """Silences Pillow while any thread is in it.

    Pillow warns of corrupt EXIF, palettes with transparency and large images. All of these are read, or refused with
    an error of our own, so the warnings would tell a user nothing. Python's list of filters belongs to the process: one
    entry is added by the first thread that enters and removed by the last that leaves.
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
                with suppress(ValueError):  # other code has replaced the filters meanwhile
                    self._filters.remove(self._entry)


_quiet = _Quiet()


@contextmanager
def _opened(path: str, open_it: Callable[[], BinaryIO]) -> Iterator[Image.Image]:
    """Open an image and turn whatever goes wrong, now or while it is decoded, into a ``DataError``."""
    head = b""
    try:
        with _quiet, open_it() as file:
            head = file.read(HEAD_BYTES)
            if unread_format(head) == CAMERA:
                raise UnidentifiedImageError  # noqa: TRY301 # its first image, which Pillow reads, is a thumbnail
            with Image.open(without_metadata(file), formats=FORMATS) as image:
                _check(image, path)
                yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        form = unread_format(head)
        if form == AVIF and "AVIF" in FORMATS:
            raise DataError(f"{printable(path)} is damaged or cut short (AVIF): replace or remove it") from error
        what = f"is {form}, which refnet cannot read" if form else "is not an image refnet reads"
        remedy = "convert it to PNG, for example with 'magick FILE FILE.png'," if form else "convert"
        raise DataError(f"{printable(path)} {what} ({FORMATS_IN_WORDS}): {remedy} or remove it") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{printable(path)} is too large to decode ({error}): shrink or remove it") from error
    except Exception as error:  # a damaged file can raise almost anything inside Pillow
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{printable(path)} cannot be read: {error.strerror}; repair or remove it") from error
        raise DataError(f"{printable(path)} is damaged or cut short ({reason(error)}): replace or remove it") from error


def _check(image: Image.Image, path: str) -> None:
    """Raise for an image that Pillow opens but that would be too large, or whose pixels would be misread."""
    if isinstance(image, TiffImageFile):
        width, height = (image.tag_v2.get(tag, 1) for tag in TILE_SIDES)
        if width * height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"a tile of {width} x {height} pixels exceeds the limit of {MAX_PIXELS}")
        if DNG_VERSION in image.tag_v2 or image.tag_v2.get(SUBFILE_TYPE, 0) & 1:
            raise DataError(
                f"{printable(path)} begins with a thumbnail, as raw files of cameras do: convert it to PNG with the "
                f"camera's or a photo program, or remove it"
            )
    numbers = image.mode == "I" and isinstance(image, TiffImageFile)
    if numbers or (image.mode not in READ_MODES and not image.mode.startswith("I;16")):
        raise DataError(
            f"{printable(path)} has pixels of the kind {image.mode} (32-bit numbers, or unusual colours), "
            f"which have no stated range: convert it to 8 or 16 bits, or remove it"
        )


def _convert(image: Image.Image, mode: str, background: int) -> Image.Image:
    """Return an image in a mode, on a background; one that needs no change is not copied, as Pillow would."""
    if image.mode.startswith("I"):
        return _eight_bits(image, background).convert(mode)
    converted = image if image.mode == mode else image.convert(mode)
    if not image.has_transparency_data:
        return converted
    alpha = (image if image.mode in {"LA", "RGBA"} else image.convert("RGBA")).getchannel("A")
    composed = Image.new(mode, image.size, (background,) * len(mode))
    composed.paste(converted, mask=alpha)
    return composed


def _eight_bits(image: Image.Image, background: int) -> Image.Image:
    """Return the upper 8 of the 9 to 16 bits of a gray image, in mode L."""
    bits, inverted = 16, False
    if isinstance(image, TiffImageFile):
        bits, inverted = image.tag_v2[BITS_PER_SAMPLE][0], image.tag_v2[PHOTOMETRIC] == 0
    numbers = np.asarray(image)
    gray = (numbers >> bits - 8).astype(np.uint8)
    if inverted:
        gray = 255 - gray
    if isinstance(transparent := image.info.get("transparency"), int):
        gray[numbers == transparent] = background
    return Image.fromarray(gray)
