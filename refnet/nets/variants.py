"""A network with something changed, so that the effect can be seen.

Every variant keeps the layers in their places: a layer's place is its word in a Philox counter, so weights whose shape
stays are drawn alike, and so is dropout. A layer that is to be without effect is given the options under which it has
none, instead of being left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from refnet.network.plan import Layer


def tanh(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Let every unit saturate (paper, section 3.1)."""
    return tuple(
        replace(layer, op="tanh", name=layer.name.replace("relu", "tanh")) if layer.op == "relu" else layer
        for layer in layers
    )


def no_lrn(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Let no map damp others (paper, section 3.3); the constant k^-beta, which the first weights expect, stays."""
    return _changed(layers, "lrn", alpha=0.0)


def strong_lrn(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Let maps damp their neighbours where activations are tens: alpha is the paper's for hundreds, times 100."""
    return _changed(layers, "lrn", alpha=0.01)


def plain_pooling(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Pool 2x2 pixels every 2, without overlap (paper, section 3.4), within the image, which gives the same shapes."""
    return _changed(layers, "maxpool", size=2, stride=2, ceil=False)


def no_dropout(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Silence no unit (paper, section 4.2)."""
    return _changed(layers, "dropout", drop=0.0)


def half(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Halve the kernels of each convolution but the last (paper, section 3.2, footnote)."""
    *most, _ = [layer.name for layer in layers if layer.op == "conv2d"]
    return tuple(replace(layer, width=layer.width // 2) if layer.name in most else layer for layer in layers)


def _changed(layers: tuple[Layer, ...], op: str, **options: Any) -> tuple[Layer, ...]:
    return tuple(replace(layer, options={**layer.options, **options}) if layer.op == op else layer for layer in layers)


VARIANTS: Mapping[str, Callable[[tuple[Layer, ...]], tuple[Layer, ...]]] = {
    "tanh": tanh,
    "no-lrn": no_lrn,
    "strong-lrn": strong_lrn,
    "plain-pooling": plain_pooling,
    "no-dropout": no_dropout,
    "half": half,
}
