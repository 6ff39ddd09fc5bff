"""What the tests of the Python interface share: quick settings, and labelled images."""

import numpy as np
from PIL import Image

QUICK = {"backend": "numpy", "progress": False}


def folder_of_pets(root, size=(12, 9)):
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", size, (40 * number, 0, 200)).save(root / name / f"{number}.png")
    return root


def blank_images(count=20, shape=(4, 4), classes=2):
    """Return black images, and labels that run through the classes."""
    return np.zeros((count, *shape), np.uint8), np.arange(count) % classes
