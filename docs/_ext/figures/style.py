"""Shared by all figures: colours for light and dark pages, arrays shown as pixels, and the digits."""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from refnet.data.opening import open_dataset

Floats = npt.NDArray[np.float64]

INK, SOFT, FAINT, RULE = "#1e2328", "#5a636c", "#b4bbc2", "#dfdcd6"
BLUE, ORANGE, GREEN = "#1f5fa8", "#b8520a", "#1d7a5f"
COLOURS = (  # on a light page, on a dark one
    (INK, "#e6e8ea"),
    (SOFT, "#a2abb3"),
    (FAINT, "#565f68"),
    (RULE, "#353b41"),
    (BLUE, "#7db4f0"),
    (ORANGE, "#f0a25e"),
    (GREEN, "#6fcfae"),
)
STYLE = {
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "svg.hashsalt": "refnet",  # the same bytes at every build
}
SIGNED = LinearSegmentedColormap.from_list("signed", [ORANGE, "#f4f2ee", BLUE])


def pixels(axis: Any, picture: Any, *, signed: bool = False, top: float | None = None) -> None:
    """Show an array as pixels: grey from 0 to `top`, or orange below 0 and blue above."""
    picture = np.asarray(picture)
    top = float(np.abs(picture).max()) if top is None else top
    shades = {"cmap": SIGNED, "vmin": -top, "vmax": top} if signed else {"cmap": "gray", "vmin": 0, "vmax": top}
    axis.imshow(picture, interpolation="none", **shades)
    bare(axis)


def bare(axis: Any) -> None:
    """Remove ticks and grid from an axis, and give it a thin frame."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(visible=True, color=RULE)
    axis.grid(visible=False)


def frame(axis: Any, row: int, column: int, side: int, colour: str, inset: float = 0) -> None:
    """Draw a frame around a square of pixels, `inset` pixels inside its edge."""
    corner, side = (column - 0.5 + inset, row - 0.5 + inset), side - 2 * inset
    axis.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=2, clip_on=False))


def digits() -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the embedded training images, (1297,8,8) of 0..16, and their labels."""
    train = open_dataset("digits", image_size=10, channels=1).train
    return train.pixels[:, 1:-1, 1:-1, 0].astype(np.float64), train.labels
