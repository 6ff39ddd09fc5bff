"""The fingerprint of a data set, which tells a resumed run whether its data have changed."""

import hashlib

import numpy as np

from refnet.data.dataset import Dataset


def fingerprint(dataset: Dataset) -> str:
    """Return the SHA-256, in hexadecimal, of the classes' names, the images' shape, every label and the mean image.

    No image is read. A replaced training image changes the mean; an added or removed one changes the labels. A
    validation or test image replaced by another of its class is not noticed. The location of the data does not matter.
    """
    digest = hashlib.sha256(repr((dataset.classes, dataset.image_shape)).encode())
    for split in (dataset.train, dataset.validation, dataset.test):
        digest.update(np.int64(len(split)).tobytes())
        digest.update(np.ascontiguousarray(split.labels, np.int64).tobytes())
    digest.update(np.ascontiguousarray(dataset.mean, np.float32).tobytes())
    return digest.hexdigest()
