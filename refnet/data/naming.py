"""Readable names of classes, such as ImageNet's WNIDs: n01440764 is "tench, Tinca tinca".

ILSVRC2012's devkit has the words. A tree of images may have them in a file beside its folders, one class in a line: its
name, a blank or tab, the words. Such files go by the names of `FILES`. Where there are no words for a class, its name
serves as such.
"""

import codecs
from collections.abc import Sequence
from pathlib import Path

from refnet.data.archive import read_bytes

FILES = ("synset_words.txt", "LOC_synset_mapping.txt", "words.txt")  # Caffe's, Kaggle's, ImageNet's own
MAX_BYTES = 1 << 26  # ImageNet's own file, of 82,000 classes, has 3 million


def read_words(root: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """Find the words for classes in a file in a folder. Raises ``DataError`` if it is there and cannot be read."""
    by_class: dict[str, str] = {}
    path = next((root / name for name in FILES if (root / name).exists()), None)
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
