"""IDX files, the form of MNIST and of the sets made like it, as they are or compressed with gzip.

Source
------
Y. LeCun, C. Cortes and C. Burges, the page of MNIST. Two bytes of zero, one for the type (8 is unsigned bytes, 12 is
integers of four bytes), one for the number of axes; then the axes' lengths, each four bytes with the highest first;
then the numbers.

Names
-----
Four files, named by their distributors (:mod:`refnet.data.readers.idx_names`): ``train-images-idx3-ubyte``,
``train-labels-idx1-ubyte``, ``t10k-...`` (MNIST, Fashion-MNIST, KMNIST), ``emnist-letters-train-...`` and
``emnist-letters-test-...`` (EMNIST), ``qmnist-train-labels-idx2-int`` (QMNIST).

Decisions
---------
Validation is a tenth of each class of the training images, drawn by a fixed key. Classes are the numbers from the least
to the largest training label, so EMNIST's letters, whose labels are 1 to 26, have 26 classes. They are named by their
number, but by their characters ("Aa") where EMNIST's ``...-mapping.txt`` is beside the files. The labels of
Fashion-MNIST are recognised by their checksum, and its classes have their names ("coat").

EMNIST's images are distributed transposed. Those of files called ``emnist-...`` are transposed back, so that characters
stand upright as in any picture that is classified later. Of QMNIST's columns of labels the first, the digit, is read.
"""

import gzip
import hashlib
import zlib
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from refnet.data.archive import open_file, read_bytes
from refnet.data.readers.idx_names import Files, choose, find, refuse_numpy
from refnet.data.source import ArrayPictures, Source, deal
from refnet.errors import DataError
from refnet.terminal.printable import printable, reason

MAX_BYTES = 1 << 30  # bytes of pixels in one file
MAX_MAPPING_BYTES = 1 << 20
BYTES, INTEGERS = 8, 12  # types
DTYPES: dict[int, np.dtype[Any]] = {BYTES: np.dtype(np.uint8), INTEGERS: np.dtype(">i4")}
TRANSPOSED = "emnist"  # sets whose names begin so
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


def recognise(data: str, names: frozenset[str]) -> bool:
    """Tell whether a folder holds IDX files, or a path is the beginning of their names ("gzip/emnist-letters").

    Raises ``DataError`` for NumPy files of such sets.
    """
    if find(data, names):
        return True
    refuse_numpy(data, names)
    return False


def read(data: str) -> Source:
    """Read the four files.

    Raises
    ------
    DataError
        A file is missing, cut short, too long, or not of the right type with the right axes; there are files of several
        sets; there are not as many labels as images; or the test images have a label that the training images lack.
    """
    files = choose(data)
    upright = files.set.lower().startswith(TRANSPOSED)
    pixels, labels = _pictures(files, "train", upright=upright)
    test_pixels, test_labels = _pictures(files, "test", upright=upright)
    first, last = int(labels.min()), int(labels.max())
    wrong = test_labels[(test_labels < first) | (test_labels > last)]
    if wrong.size:
        raise DataError(
            f"{printable(files.path('test', 'labels'))}: a label is {wrong[0]}, but the training labels are "
            f"{first}..{last}: correct the labels"
        )
    if last - first >= len(labels):  # a damaged label could ask for more names than memory holds
        raise DataError(
            f"{printable(files.path('train', 'labels'))}: {len(labels):,} labels are from {first} to {last}: it is "
            "damaged, or has no classes"
        )
    fashion = hashlib.sha256(labels.astype(np.uint8).tobytes()).hexdigest() == FASHION_LABELS_SHA256
    classes = FASHION_CLASSES if fashion else _classes(files, range(first, last + 1))
    training, test = (
        ArrayPictures(numbers - first, images, str(files.path(split, "images")), _digest(images))
        for split, images, numbers in (("train", pixels, labels), ("test", test_pixels, test_labels))
    )
    train, validation = deal(data, training, classes, held_out=1, share=10)
    layout = (
        f"IDX files{f' {printable(files.set)}' * bool(files.set)}, a tenth of each training class held out to validate"
    )
    return Source(
        name="fashion-mnist" if fashion else files.name,
        where=data,
        layout=layout + "; images transposed to stand upright" * upright,
        classes=classes,
        words=classes,
        train=train,
        validation=validation,
        test=test,
    )


def _classes(files: Files, labels: range) -> tuple[str, ...]:
    """Return the name of each label: its characters in EMNIST's table, or its number."""
    numbers = tuple(map(str, labels))
    table = files.folder / f"{files.set}-mapping.txt"
    if not (files.set and table.exists()):
        return numbers
    named = {}
    for line in read_bytes(table, MAX_MAPPING_BYTES).decode("ascii", errors="replace").splitlines():
        label, *codes = line.split()[:3] or [""]
        characters = "".join(chr(int(code)) for code in codes if code.isascii() and code.isdigit() and len(code) < 4)
        if characters.isprintable() and characters:
            named[label] = characters
    classes = tuple(named.get(number, number) for number in numbers)
    return classes if len(set(classes)) == len(classes) else numbers


def _digest(pixels: npt.NDArray[np.uint8]) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _pictures(files: Files, split: str, *, upright: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read the images of a split, uint8 (n,H,W,1), and their labels, int64 (n,)."""
    path, path_of_labels = files.path(split, "images"), files.path(split, "labels")
    pixels = _read_file(path, BYTES, axes=3)
    table = path_of_labels.name.lower().removesuffix(".gz").endswith("int")
    numbers = _read_file(path_of_labels, INTEGERS, axes=2)[:, 0] if table else _read_file(path_of_labels, BYTES, axes=1)
    if len(pixels) != len(numbers):
        raise DataError(
            f"{printable(path)} has {len(pixels):,} images, {printable(path_of_labels)} has {len(numbers):,} labels: "
            "they do not belong together; get both again"
        )
    pixels = np.ascontiguousarray(pixels.transpose(0, 2, 1)) if upright else pixels
    return pixels[..., None], numbers.astype(np.int64)


def _read_file(path: Path, kind: int, *, axes: int) -> npt.NDArray[Any]:
    """Read the array in one file. Raises ``DataError`` unless it has this type and number of axes."""
    dtype = DTYPES[kind]
    try:
        with open_file(path) as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = gzip.GzipFile(fileobj=file) if compressed else file
            head = stream.read(4 + 4 * axes)
            if len(head) < 4 + 4 * axes or head[:4] != bytes([0, 0, kind, axes]):
                numbers = "bytes" if kind == BYTES else "integers"
                raise DataError(
                    f"{printable(path)} is not an IDX file of {numbers} with {axes} axes: "
                    f"it begins with {head[:4].hex()}"
                )
            shape = tuple(int.from_bytes(head[4 * i : 4 * i + 4]) for i in range(1, axes + 1))
            size = prod(shape) * dtype.itemsize
            if min(shape) == 0 or size > MAX_BYTES:
                raise DataError(f"{printable(path)} is damaged: its header promises {'x'.join(map(str, shape))} bytes")
            content = _at_most(stream, size + 1)
    except OSError as error:  # gzip's own errors too
        raise DataError(f"{printable(path)} cannot be read: {error.strerror or reason(error)}; get it again") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{printable(path)} is damaged or cut short ({reason(error)}): get it again") from error
    if len(content) != size:
        has = "more" if len(content) > size else f"{len(content):,}"
        raise DataError(
            f"{printable(path)}: its header promises {size:,} bytes ({'x'.join(map(str, shape))}), but it has "
            f"{has}: get it again"
        )
    return np.frombuffer(content, dtype).reshape(shape)


def _at_most(stream: gzip.GzipFile | BinaryIO, count: int) -> bytes:
    """Return up to `count` bytes; memory grows with the bytes read, not with the size that the header promises."""
    whole = bytearray()
    while len(whole) < count and (part := stream.read(min(1 << 20, count - len(whole)))):
        whole += part
    return bytes(whole)
