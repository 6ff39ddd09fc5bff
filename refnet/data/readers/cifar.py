"""CIFAR-10 in its binary version: ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``.

Source
------
A. Krizhevsky, *Learning multiple layers of features from tiny images* (2009), and the page of the data set. A record
is one byte, the label, and 3072 bytes, the red, green and blue planes of 32x32 pixels.

Decisions
---------
Validation is a tenth of each class of the training images, drawn by a fixed key. The Python version is refused: its
files are pickles, and opening a pickle runs the code in it.
"""

import hashlib
from pathlib import Path

import numpy as np

from refnet.data.archive import open_file, read_bytes
from refnet.data.source import ArrayPictures, Source, deal
from refnet.errors import DataError
from refnet.terminal.printable import printable

SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
ARCHIVED = "cifar-10-batches-bin"  # the folder in the archive
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MAX_BYTES = 1 << 30  # of a file; the real ones have 31 million
PICKLES = ("data_batch_1", "test_batch", "batches.meta", "cifar-10-batches-py")


def recognise(data: str, names: frozenset[str]) -> bool:
    """Tell whether a folder holds the binary files, or the folder that the archive makes.

    Raises ``DataError`` for the Python version, and for a single file that is a pickle.
    """
    _refuse_pickle(Path(data))
    if not names.isdisjoint((*TRAIN, TEST, ARCHIVED)):
        return True
    if not names.isdisjoint(PICKLES):
        raise DataError(
            f"{printable(data)} is the Python version of CIFAR-10, whose files are pickles, and to open a pickle is to "
            "run what it says: get the binary version (refnet data fetch cifar10)"
        )
    return False


def _refuse_pickle(path: Path) -> None:
    """Raise ``DataError`` for a single file that begins as a pickle does."""
    try:
        with open_file(path) as file:
            begins = file.read(2)
    except (DataError, OSError):  # the reader that lists it says what is wrong with it
        return
    if begins[:1] == b"\x80" and begins[1:] in {b"\2", b"\3", b"\4", b"\5"}:
        raise DataError(
            f"{printable(path)} is a pickle, and to open a pickle is to run what it says: give a folder of images, or "
            "CIFAR-10's binary version (refnet data fetch cifar10)"
        )


def read(data: str) -> Source:
    """Read the six files.

    Raises
    ------
    DataError
        A file is missing, is not a whole number of records, or holds a label above 9.
    """
    root = Path(data)
    folder = root if any((root / name).exists() for name in (*TRAIN, TEST)) else root / ARCHIVED
    train, validation = deal(str(folder), _pictures(folder, TRAIN), CLASSES, held_out=1, share=10)
    return Source(
        name="cifar10",
        where=data,
        layout="CIFAR-10, binary version, a tenth of each training class held out to validate",
        classes=CLASSES,
        words=CLASSES,
        train=train,
        validation=validation,
        test=_pictures(folder, (TEST,)),
    )


def _pictures(folder: Path, names: tuple[str, ...]) -> ArrayPictures:
    content = b"".join(_content(folder / name) for name in names)
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    planes = records[:, 1:].reshape(-1, 3, SIDE, SIDE)
    file = str(folder / (names[0] if len(names) == 1 else "data_batch_*.bin"))
    return ArrayPictures(
        records[:, 0].astype(np.int64),
        np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),
        file,
        hashlib.sha256(content).hexdigest(),
    )


def _content(path: Path) -> bytes:
    content = read_bytes(path, MAX_BYTES)
    if not content or len(content) % RECORD:
        raise DataError(
            f"{printable(path)} has {len(content):,} bytes, which is not a number of records of {RECORD:,}: it is cut "
            "short or no CIFAR-10 file; get it again (refnet data fetch cifar10)"
        )
    labels = content[::RECORD]
    if max(labels) >= len(CLASSES):
        raise DataError(
            f"{printable(path)}: a label is {max(labels)}, but CIFAR-10 has labels 0..9: it is damaged, or another "
            "data set; get it again (refnet data fetch cifar10)"
        )
    return content
