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
        """The mean share of a kernel's energy that is colour rather than brightness, from 0 to 1.

        The grey part of a kernel is, at each pixel, the mean over its channels. A grey kernel has 0; a kernel whose
        channels sum to zero everywhere has 1; independent channels give about 2/3. None for grey images.
        """
        if self.weights.shape[1] == 1:
            return None
        w = self.weights.astype(np.float64)
        energy = (w**2).sum(axis=(1, 2, 3))
        grey = w.shape[1] * (w.mean(axis=1) ** 2).sum(axis=(1, 2))
        return float(np.mean(1 - grey / np.maximum(energy, 1e-300)))

    def tiles(self) -> Pixels:
        """Return each kernel as an image, uint8 (K,R,S,3 or 1): zero is mid-grey, and all have the same scale."""
        w = self.weights if self.weights.shape[1] == 3 else self.weights.mean(axis=1, keepdims=True)
        peak = float(np.abs(w).max()) or 1.0
        tiles: Pixels = np.rint(127.5 + 127.5 * w / peak).astype(np.uint8).transpose(0, 2, 3, 1)
        return tiles


def first_kernels(trained: Trained) -> list[Kernels]:
    """Return the kernels that read the image, column by column; an empty list if no convolution reads it."""
    return [
        Kernels(node.layer.name, node.column, trained.backend.to_numpy(trained.params[f"{node.name}.w"]))
        for node in trained.plan.nodes
        if node.inputs == (IMAGE,) and node.layer.op == "conv2d"
    ]


def grid(tiles: Pixels, across: int, gap: int = 1, zoom: int = 1, ground: int = 255) -> Pixels:
    """Return one image (H,W,c) of tiles (n,h,w,c) in rows, `across` in each, with gaps of `gap` pixels."""
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    count, height, width, channels = tiles.shape
    down = -(-count // across)
    out = np.full((down * (height + gap) - gap, across * (width + gap) - gap, channels), ground, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // across * (height + gap), number % across * (width + gap)
        out[top : top + height, left : left + width] = tile
    return out
