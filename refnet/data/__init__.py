"""Data sets: one function opens what a user names, whatever kind it is.

:mod:`~refnet.data.dataset` says what the trainer asks of data; :mod:`~refnet.data.digits` and
:mod:`~refnet.data.folder` read it; :mod:`~refnet.data.order` and :mod:`~refnet.data.crops` draw what differs from
epoch to epoch.
"""

from refnet.data import digits
from refnet.data.dataset import Dataset, Progress, Split, check_fits, describe
from refnet.data.fingerprint import fingerprint
from refnet.data.folder import open_folder
from refnet.errors import DataError

__all__ = ["Dataset", "Split", "check_fits", "describe", "fingerprint", "open_dataset"]


def open_dataset(what: str, *, image_size: int, channels: int, progress: Progress | None = None) -> Dataset:
    """Open the data set that a user named: "digits", or the path of an image folder ("./digits" for one so named).

    `image_size` and `channels` are the images that the net's recipe asks for; `progress` is told (done, total) while
    a folder is read. Raises ``DataError`` if there is nothing to read there or it cannot give such images.
    """
    if what != "digits":
        return open_folder(what, image_size=image_size, channels=channels, progress=progress)
    if (image_size, channels) != (digits.SIZE, digits.CHANNELS):
        raise DataError(
            f"digits: its images are {digits.SIZE}x{digits.SIZE}x{digits.CHANNELS}, the net asks for "
            f"{image_size}x{image_size}x{channels}: train the net 'digits' on them, or give a folder of images",
        )
    return digits.open_digits()
