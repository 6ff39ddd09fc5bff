"""Remove the metadata of a PNG file.

Pillow refuses a PNG whose compressed texts or colour profile unpack to more than 1 MiB. refnet uses neither, so it
leaves them out, and Pillow never unpacks them. A chunk with a wrong checksum is kept: Pillow then reports the damage.
"""

import io
import zlib
from typing import BinaryIO, Final

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_METADATA: Final = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})


def without_metadata(file: BinaryIO) -> BinaryIO:
    """Return `file` itself, or a copy in memory without texts and colour profile if it is a PNG that has any."""
    file.seek(0)
    ranges = _ranges_of_metadata(file) if file.read(len(_SIGNATURE)) == _SIGNATURE else []
    file.seek(0)
    if not ranges:
        return file
    pieces = []
    for start, stop in ranges:
        pieces.append(file.read(start - file.tell()))
        file.seek(stop)
    return io.BytesIO(b"".join([*pieces, file.read()]))


def _ranges_of_metadata(file: BinaryIO) -> list[tuple[int, int]]:
    """Return the byte ranges (start, stop) of the metadata chunks before the first incomplete chunk."""
    ranges = []
    start = file.tell()
    while len(head := file.read(8)) == 8:  # length and name
        name, length = head[4:], int.from_bytes(head[:4], "big")
        stop = start + 8 + length + 4
        if name in _METADATA:
            content, checksum = file.read(length), file.read(4)
            if checksum == zlib.crc32(content, zlib.crc32(name)).to_bytes(4, "big"):
                ranges.append((start, stop))
        elif name == b"IEND":
            break
        file.seek(stop)
        start = stop
    return ranges
