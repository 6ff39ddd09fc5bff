"""IDX files, the form of MNIST and Fashion-MNIST, as they are or compressed with gzip.

Source
------
Y. LeCun, C. Cortes and C. Burges, the page of MNIST. Two bytes of zero, one for the type (8 is unsigned bytes), one
for the number of axes; then the axes' lengths, each four bytes with the highest first; then the numbers.

Decisions
---------
Validation is a tenth of each class of the training images, drawn by a fixed key. Classes are named by their digit. The
labels of Fashion-MNIST are recognised by their checksum, and its classes have their names ("coat").
"""

import gzip
import hashlib
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from refnet.data.archive import open_file
from refnet.data.source import ArrayPictures, Source, deal
from refnet.errors import DataError
from refnet.terminal.printable import printable, reason

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MAX_BYTES = 1 << 30  # bytes of pixels in one file
FASHION_LABELS_SHA256 = "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7"
FASHION_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def recognise(data: str, names: frozenset[str]) -> bool:  # noqa: ARG001 - the names are enough
    """Tell whether a folder holds IDX files."""
    return any(not names.isdisjoint(_spellings(name)) for pair in NAMES.values() for name in pair)


def read(data: str) -> Source:
    """Read the four files.

    Raises
    ------
    DataError
        A file is missing, cut short, too long, or not of unsigned bytes with the right axes; there are not as many
        labels as images; or the test images have a label that the training images lack.
    """
    root = Path(data)
    training, test = _pictures(root, *NAMES["train"]), _pictures(root, *NAMES["test"])
    count = int(training.labels.max()) + 1
    if test.labels.max() >= count:
        raise DataError(
            f"{printable(root / NAMES['test'][1])}: a label is {test.labels.max()}, but the training labels are "
            f"0..{count - 1}: correct the labels"
        )
    digits = tuple(str(number) for number in range(count))
    fashion = hashlib.sha256(training.labels.astype(np.uint8).tobytes()).hexdigest() == FASHION_LABELS_SHA256
    classes = FASHION_CLASSES if fashion else digits
    train, validation = deal(data, training, classes, held_out=1, share=10)
    return Source(
        name="fashion-mnist" if fashion else root.resolve().name,
        where=data,
        layout="IDX files, a tenth of each training class held out to validate",
        classes=classes,
        words=classes,
        train=train,
        validation=validation,
        test=test,
    )


def _spellings(name: str) -> list[str]:
    """Return the names that a file may have: with "-idx" or ".idx", compressed or not."""
    return [f"{spelling}{end}" for spelling in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]


def _pictures(root: Path, images: str, labels: str) -> ArrayPictures:
    pixels, path = _read_file(root, images, axes=3)
    numbers, path_of_labels = _read_file(root, labels, axes=1)
    if len(pixels) != len(numbers):
        raise DataError(
            f"{printable(path)} has {len(pixels):,} images, {printable(path_of_labels)} has {len(numbers):,} labels: "
            "they do not belong together; get both again"
        )
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return ArrayPictures(numbers.astype(np.int64), pixels[..., None], str(path), digest)


def _read_file(root: Path, name: str, axes: int) -> tuple[npt.NDArray[np.uint8], Path]:
    """Read one file; return its array and its path."""
    path = next((root / spelling for spelling in _spellings(name) if (root / spelling).exists()), None)
    if path is None:
        raise DataError(f"{printable(root)} has no {name} (nor {name}.gz): put all four files there")
    try:
        with open_file(path) as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = gzip.GzipFile(fileobj=file) if compressed else file
            head = stream.read(4 + 4 * axes)
            if len(head) < 4 + 4 * axes or head[:4] != bytes([0, 0, 8, axes]):
                raise DataError(
                    f"{printable(path)} is no IDX file of bytes with {axes} axes: it begins with {head[:4].hex()}"
                )
            shape = tuple(int.from_bytes(head[4 * i : 4 * i + 4]) for i in range(1, axes + 1))
            if min(shape) == 0 or prod(shape) > MAX_BYTES:
                raise DataError(
                    f"{printable(path)} says that it holds {'x'.join(map(str, shape))} bytes: it is damaged"
                )
            content = _at_most(stream, prod(shape) + 1)
    except OSError as error:  # gzip's own errors too
        raise DataError(f"{printable(path)} cannot be read: {error.strerror or reason(error)}; get it again") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{printable(path)} is damaged or cut short ({reason(error)}): get it again") from error
    if len(content) != prod(shape):
        has = "more" if len(content) > prod(shape) else f"{len(content):,}"
        raise DataError(
            f"{printable(path)} says that {prod(shape):,} bytes follow ({'x'.join(map(str, shape))}), but it has "
            f"{has}: get it again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape), path


def _at_most(stream: gzip.GzipFile | BinaryIO, count: int) -> bytes:
    """Return up to `count` bytes; memory grows with the bytes read, not with the size that the header promises."""
    whole = bytearray()
    while len(whole) < count and (part := stream.read(min(1 << 20, count - len(whole)))):
        whole += part
    return bytes(whole)
