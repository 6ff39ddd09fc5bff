"""Names of the image formats that refnet does not read, so that a message can say what a file is.

Pillow reads some of them, with decoders that have not been hardened against damaged files, or reads a part only: camera
files are TIFFs whose first image is often a thumbnail.
"""

from typing import Final

HEAD_BYTES: Final = 1024
AVIF: Final = "AVIF (needs Pillow 11.3 or later)"
CAMERA: Final = "a camera's raw file"
_SIGNATURES: Final = (  # where, bytes, name
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"\0\0\1\0", "an icon"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (128, b"DICM", "DICOM"),
    (8, b"CR\2", CAMERA),
    (0, b"FUJIFILMCCD-RAW", CAMERA),
    (0, b"IIRO", CAMERA),
    (0, b"IIU\0", CAMERA),
    (4, b"ftypcrx", CAMERA),
    (4, b"ftypavi", AVIF),
    *((4, b"ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")),
)


def unread_format(head: bytes) -> str | None:
    """Return the name of the format that a file's first `HEAD_BYTES` bytes show, or None if it is unknown."""
    for start, signature, name in _SIGNATURES:
        if head.startswith(signature, start):
            return name
    return "SVG" if b"<svg" in head else None
