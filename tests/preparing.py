"""A tree of small images, prepared and looked at: what tests of the prepared form share."""

import numpy as np
from PIL import Image

from refnet.data import decode, prepare
from refnet.data.opening import open_dataset, read_source
from refnet.data.parallel import Reading
from refnet.errors import DataError
from refnet.terminal.progress import Quiet

SIZE = 12
IMAGE = SIZE * SIZE * 3
COUNTS = {"train/a": 70, "train/b": 30, "val/a": 9, "val/b": 11}


def tree(root, counts):
    """Write PNGs of which no two are alike."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (15, 13, 3), np.uint8)).save(root / name / f"{number:03}.png")
    return root


def run(source, to, *, threads=2, bad="few", timeout=60.0, size=SIZE, channels=3):
    return prepare.prepare(
        read_source(str(source)),
        to,
        size=size,
        channels=channels,
        reading=Reading(threads, timeout, bad),
        show=Quiet(),
    )


def opened(root, size=SIZE, channels=3):
    return open_dataset(str(root), image_size=size, channels=channels)


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*")}


def everything(split):
    return split.images(np.arange(len(split)))


def fault(place):
    """Return what is wrong with an image's header, or None; the pixels are not decoded."""
    try:
        with decode.opened(place):
            return None
    except DataError as error:
        return str(error)
