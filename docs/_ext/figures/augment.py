"""Above: an image, and four random crops of it; a frame in the image shows where the crop of that colour was cut.

Each epoch picks new places, and mirrors half of the time. The network also subtracts the mean image, which is left out
here to keep the colours recognisable. Below: the colour noise alone, ten times stronger than the paper's, to be
visible. The numbers are what it adds to red, green and blue. (The image is drawn by a few lines of NumPy.)
"""

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, GREEN, ORANGE, SOFT, bare, frame
from refnet.data.crops import Augmentation
from refnet.data.dataset import Pixels
from refnet.data.statistics import Sums
from refnet.ops import augment

SIDE, CROP = 64, 52


def draw(figure: Figure) -> None:
    """Draw random crops, some mirrored, and shifted colours."""
    picture = scene()
    colours = Sums.of(picture[None]).principal()
    figure.set_size_inches(6.6, 2.9)
    axes = figure.subplots(2, 5)
    for axis in axes[:, 0]:
        axis.imshow(picture, interpolation="none")
        bare(axis)
    axes[0, 0].set_title("the image")
    axes[1, 0].set_title("the image")
    crops = Augmentation(crop=(CROP, CROP), flip=True)
    noise = Augmentation(crop=(SIDE, SIDE), flip=False, colour_noise=1.0)
    for place, edge in enumerate((BLUE, ORANGE, GREEN, SOFT)):
        for way, axis in zip((crops, noise), axes[:, place + 1], strict=True):
            draws = way.draw(np.array([0]), shape=picture.shape, colours=colours, seed=3, epoch=place + 1)
            seen = augment.forward(picture[None], np.zeros(picture.shape, np.float32), *draws, size=way.crop)[0]
            axis.imshow(seen.transpose(1, 2, 0).clip(0, 255).astype(np.uint8), interpolation="none")
            bare(axis)
            if way is crops:
                frame(axes[0, 0], *draws.offsets[0], CROP, edge)
                axis.spines[:].set(color=edge, linewidth=2)
                axis.set_title("mirrored" if draws.flips[0] else "not mirrored")
            else:
                axis.set_title(" ".join(f"{shift:+.0f}" for shift in draws.shifts[0]), fontsize=8.5)


def scene() -> Pixels:
    """Draw a house under a low sun: uint8 (64,64,3)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    picture = np.stack([150 + y, 190 + 0.5 * y, 235 - 0.6 * y], axis=-1)  # the sky, warmer towards the horizon
    picture[(x - 48) ** 2 + (y - 15) ** 2 < 40] = 255, 226, 120
    picture[y > 44 - 9 * np.sin(x / 11)] = 92, 138, 88
    picture[y > 50 + 4 * np.sin(x / 9 + 2)] = 122, 160, 84
    picture[(abs(x - 20) < 10) & (y > 32) & (y < 54)] = 232, 214, 190
    picture[(abs(x - 20) < 1.3 * (y - 21)) & (y > 21) & (y <= 33)] = 168, 70, 52
    picture[(abs(x - 17) < 3) & (y > 42) & (y < 54)] = 110, 74, 50
    picture[(abs(x - 25) < 3) & (abs(y - 40) < 3)] = 96, 130, 160
    return picture.clip(0, 255).astype(np.uint8)
