"""A split whose images are in one folder, with their classes in a file, as tiny-imagenet's ``val/``.

The file ends in ``_annotations.txt`` and is next to the folder ``images``. It has one image per line: the name of its
file, a tab or blank, its class; the rest of the line (a bounding box in tiny-imagenet) is not read.
"""

from pathlib import Path

from refnet.data.archive import read_bytes
from refnet.data.readers.walk import Walk
from refnet.errors import DataError
from refnet.terminal.printable import printable

IMAGES = "images"
MAX_BYTES = 1 << 26  # of the file; tiny-imagenet's has 400 kB


def only_images(walk: Walk, folder: Path) -> bool:
    """Tell whether ``images`` is the only folder in the folder of a split, without folders in it."""
    inner = walk.folders(folder)
    return [entry.name for entry in inner] == [IMAGES] and not walk.folders(Path(inner[0].path))


def annotations(folder: Path) -> Path | None:
    """Return the file with the classes of the images, or None."""
    return min(folder.glob("*_annotations.txt"), default=None)


def list_annotated(walk: Walk, folder: Path, file: Path) -> dict[str, list[str]]:
    """List the images of each class, both sorted. Raises ``DataError`` for an image whose class is not in the file."""
    lines = read_bytes(file, MAX_BYTES).decode(errors="replace").splitlines()
    class_of = {words[0]: words[1] for words in (line.split() for line in lines) if len(words) > 1}
    listing: dict[str, list[str]] = {}
    for image in walk.images(folder / IMAGES):
        name = Path(image).name
        if name not in class_of:
            raise DataError(f"{printable(file)} has no class for {printable(image)}: add a line, or remove the image")
        listing.setdefault(class_of[name], []).append(image)
    return dict(sorted(listing.items()))
