"""The first layer's kernels as pictures, column by column: the paper's figure 3."""

from dataclasses import dataclass

import numpy as np

from refnet.data.dataset import Pixels
from refnet.evaluation.trained import Floats, Trained
from refnet.network.plan import IMAGE


@dataclass(frozen=True, eq=False)
class Kernels:
    """The first layer's kernels of one column: float32 (K,C,R,S)."""

    layer: str
    column: int
    weights: Floats

    @property
    def colour(self) -> float | None:
        """How colourful they are: the mean share of a kernel's energy that is not grey.

        The grey part of a kernel has at each pixel the mean of its channels in all of them. A kernel that sees no
        colour has 0, one whose channels cancel out everywhere has 1; independent channels give 2/3. None where there
        is one channel.
        """
        if self.weights.shape[1] == 1:
            return None
        w = self.weights.astype(np.float64)
        energy = (w**2).sum(axis=(1, 2, 3))
        grey = w.shape[1] * (w.mean(axis=1) ** 2).sum(axis=(1, 2))
        return float(np.mean(1 - grey / np.maximum(energy, 1e-300)))

    def tiles(self) -> Pixels:
        """Give each as a picture (K,R,S,C or 1) with 0 in the middle of the range and one scale for all of them."""
        w = self.weights if self.weights.shape[1] == 3 else self.weights.mean(axis=1, keepdims=True)
        peak = float(np.abs(w).max()) or 1.0
        tiles: Pixels = np.rint(127.5 + 127.5 * w / peak).astype(np.uint8).transpose(0, 2, 3, 1)
        return tiles


def first_kernels(trained: Trained) -> list[Kernels]:
    """Find the kernels that read the image, in the order of their columns; none where no convolution does."""
    return [
        Kernels(node.layer.name, node.column, trained.backend.to_numpy(trained.params[f"{node.name}.w"]))
        for node in trained.plan.nodes
        if node.inputs == (IMAGE,) and node.layer.op == "conv2d"
    ]


def grid(tiles: Pixels, across: int, gap: int = 1, zoom: int = 1, ground: int = 255) -> Pixels:
    """Lay tiles (n,h,w,c) in rows with a gap between them: (H,W,c)."""
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    count, height, width, channels = tiles.shape
    down = -(-count // across)
    out = np.full((down * (height + gap) - gap, across * (width + gap) - gap, channels), ground, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // across * (height + gap), number % across * (width + gap)
        out[top : top + height, left : left + width] = tile
    return out
