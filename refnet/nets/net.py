"""What a network brings along: its layers, what it reads, and the recipe it is trained with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refnet.network.plan import Layer, Plan, apart, split


@dataclass(frozen=True)
class Net:
    """A network by name.

    Attributes
    ----------
    input_shape
        (C,H,W) of a crop.
    image_size
        Side of the square image that crops are taken from.
    inits
        Names of its initialisations; the first is the default.
    recipe
        Its values for the keys of :class:`refnet.config.Config`.
    data
        The data it is trained on where none is named; None where it has none.
    flip
        Whether the mirror image of a picture shows the same thing.
    """

    name: str
    input_shape: tuple[int, int, int]
    image_size: int
    layers: tuple[Layer, ...]
    inits: tuple[str, ...]
    recipe: Mapping[str, Any]
    data: str | None
    flip: bool

    @property
    def crop(self) -> tuple[int, int]:
        """Height and width of what it reads."""
        return self.input_shape[1], self.input_shape[2]

    @property
    def outputs(self) -> int:
        """How many classes it can tell apart."""
        return self.layers[-1].width

    def plan(self, columns: int, *, exchange: bool = True) -> Plan:
        """Split it into columns; without exchange, no convolution reads the other column."""
        return split(self.layers if exchange else apart(self.layers), columns, self.input_shape)
