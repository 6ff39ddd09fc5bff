"""The fingerprint of a data set, by which a resumed run can tell whether its data have changed."""

import hashlib

import numpy as np

from refnet.data.dataset import Dataset


def fingerprint(dataset: Dataset) -> str:
    """Hash the classes' names, the images' shape, every label, and the mean image: SHA-256 in hexadecimal.

    No image is read. A training image that is replaced shows in the mean, one that is added or removed in the labels;
    another validation or test image of the same class does not show. Where the data lie does not count.
    """
    digest = hashlib.sha256(repr((dataset.classes, dataset.image_shape)).encode())
    for split in (dataset.train, dataset.validation, dataset.test):
        digest.update(np.int64(len(split)).tobytes())
        digest.update(np.ascontiguousarray(split.labels, np.int64).tobytes())
    digest.update(np.ascontiguousarray(dataset.mean, np.float32).tobytes())
    return digest.hexdigest()
