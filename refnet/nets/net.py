"""A network as data: its layers, the size of its images, and its training recipe."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from refnet.network.plan import Layer, Plan, apart, split

NAME = re.compile(r"\w[\w .+-]*")  # because the name is part of the name of a run folder


@dataclass(frozen=True)
class Net:
    """A network.

    Attributes
    ----------
    input_shape
        (C,H,W) of the crops that it reads.
    image_size
        Height and width of the square images from which crops are cut, in pixels.
    layers
        Its layers, made by the functions of :mod:`refnet.network.plan`.
    inits
        The names of its initialisations; the first is the default.
    recipe
        The settings with which it is trained by default: values for keys of :class:`refnet.config.Config`.
    data
        The name of the data set on which it is trained by default; None if the user must name one.
    flip
        Whether training may mirror images: the mirror image must show the same class.
    """

    name: str
    input_shape: tuple[int, int, int]
    image_size: int
    layers: tuple[Layer, ...]
    inits: tuple[str, ...] = ("default",)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = None
    flip: bool = False

    @property
    def crop(self) -> tuple[int, int]:
        """Height and width of the crops that it reads."""
        return self.input_shape[1], self.input_shape[2]

    @property
    def outputs(self) -> int:
        """The number of classes."""
        return self.layers[-1].width

    @property
    def columns(self) -> int:
        """The number of columns in its recipe; two by default, as in the paper."""
        columns: int = self.recipe.get("columns", 2)
        return columns

    def plan(self, columns: int, *, exchange: bool = True) -> Plan:
        """Return the plan for a number of columns. With ``exchange=False`` no convolution reads the other column."""
        return split(self.layers if exchange else apart(self.layers), columns, self.input_shape)


def malformed(net: Any) -> str | None:
    """Return what is wrong with the attributes of a network, and what is allowed; None if nothing is wrong.

    Whether the layers fit each other is not checked here, but in `split`.
    """
    return next(_faults(net), None)


def _faults(net: Any) -> Iterator[str]:
    """Yield what is wrong. Only the first message is reliable: later checks need what it is about."""
    if not isinstance(net, Net):
        yield f"net={net!r} is not allowed; it must be a refnet.nets.Net"
    name, layers, shape = _of_any_type(net, "name", "layers", "input_shape")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield f"the net's name={name!r} is not allowed; use letters, digits, spaces and . _ + -"
    if not isinstance(layers, tuple | list) or not layers:
        yield f"the net {name} has layers={layers!r}; it must be a tuple of at least one layer"
    for layer in layers:
        if not isinstance(layer, Layer):
            yield f"the net {name} has a layer {layer!r}; make it with a function of refnet.network.plan"
        if not _is_count(layer.width, least=0):
            yield f"the layer {layer.name} has width={layer.width!r}; it must be a whole number of at least 1"
    if not isinstance(shape, tuple | list) or len(shape) != 3 or not all(map(_is_count, shape)):
        yield f"the net {name} has input_shape={shape!r}; it must be (channels, height, width)"
    if not _is_count(net.image_size):
        yield f"the net {name} has image_size={net.image_size!r}; it must be a whole number of at least 1"


def _of_any_type(net: Any, *attributes: str) -> Iterator[Any]:
    return (getattr(net, attribute) for attribute in attributes)


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
