"""Variants of a network: each changes one property, so that its effect can be measured.

A variant keeps the index of every layer, because the index is part of the layer's random key. So weights of an
unchanged shape have the same initial values, and dropout drops the same units. A layer is therefore not removed, but
gets options with which it has no effect.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from refnet.network.plan import Layer


def tanh(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Replace ReLU by tanh, which saturates (paper, section 3.1)."""
    return tuple(
        replace(layer, op="tanh", name=layer.name.replace("relu", "tanh")) if layer.op == "relu" else layer
        for layer in layers
    )


def no_lrn(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Turn the normalisation off (paper, section 3.3) but keep its constant factor k^-beta, which weights expect."""
    return _changed(layers, "lrn", alpha=0.0)


def strong_lrn(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Normalise more strongly: 100 times the paper's alpha, for activations in the tens, not in the hundreds."""
    return _changed(layers, "lrn", alpha=0.01)


def plain_pooling(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Pool 2x2 pixels with stride 2, without overlap (paper, section 3.4); the output shapes stay the same."""
    return _changed(layers, "maxpool", size=2, stride=2, ceil=False)


def no_dropout(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Drop no units (paper, section 4.2)."""
    return _changed(layers, "dropout", drop=0.0)


def half(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Halve the number of kernels of each convolution except the last (paper, section 3.2, footnote)."""
    *halved, _ = [layer.name for layer in layers if layer.op == "conv2d"]
    return tuple(replace(layer, width=layer.width // 2) if layer.name in halved else layer for layer in layers)


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
