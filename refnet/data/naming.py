"""Readable names of classes, such as ImageNet's WNIDs: n01440764 is "tench, Tinca tinca".

ILSVRC2012's devkit has these words. An image folder may have them in a file next to the class folders, one class per
line: its name, a blank or tab, the words. The file has one of the names in `FILES`. A class without words is called by
its name.
"""

import codecs
import os
from collections.abc import Sequence
from pathlib import Path

from refnet.data.archive import read_bytes

FILES = ("synset_words.txt", "LOC_synset_mapping.txt", "words.txt")  # Caffe's, Kaggle's, ImageNet's own
MAX_BYTES = 1 << 26  # ImageNet's own file, of 82,000 classes, has 3 million


def read_words(folders: Sequence[Path], classes: Sequence[str]) -> tuple[str, ...]:
    """Return the words for each class, from a file in the first of some folders that has one.

    Raises ``DataError`` if it cannot be read.
    """
    by_class: dict[str, str] = {}
    files = (folder / name for folder in folders for name in FILES)
    path = next((file for file in files if os.path.exists(file)), None)  # noqa: PTH110 - False where it may not look
    if path:
        content = read_bytes(path, MAX_BYTES)
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as Windows' PowerShell writes it
        lines = content.decode("utf-16" if utf16 else "utf-8-sig", errors="replace").splitlines()
        pairs = (line.split(maxsplit=1) for line in lines)
        by_class = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    return tuple(by_class.get(name, name) for name in classes)


def captions(classes: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """Return a caption for each class: the first of its words, "tench", or its own name."""
    return tuple(word if word == name else word.partition(",")[0] for name, word in zip(classes, words, strict=True))


def names(classes: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """Return a unique name for each class (ImageNet has two cranes): "n01440764 tench"."""
    short = captions(classes, words)
    return tuple(name if name == word else f"{name} {word}" for name, word in zip(classes, short, strict=True))
