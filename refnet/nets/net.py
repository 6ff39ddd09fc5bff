"""A network as data: its layers, the images it reads, and the recipe it is trained with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from refnet.network.plan import Layer, Plan, apart, split


@dataclass(frozen=True)
class Net:
    """A network.

    Attributes
    ----------
    input_shape
        (C,H,W) of a crop.
    image_size
        Side of the square image that crops are taken from.
    inits
        The names of its initialisations; the first is the default.
    recipe
        Its own defaults for keys of the configuration (:class:`refnet.config.Config`).
    data
        The data it is trained on by default; None if the user must name them.
    flip
        Whether the mirror image of an image shows the same class, so that training may mirror images.
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
        """Height and width of the images that it reads."""
        return self.input_shape[1], self.input_shape[2]

    @property
    def outputs(self) -> int:
        """How many classes it can tell apart."""
        return self.layers[-1].width

    @property
    def columns(self) -> int:
        """How many columns its recipe splits it into; by default two, as the paper."""
        columns: int = self.recipe.get("columns", 2)
        return columns

    def plan(self, columns: int, *, exchange: bool = True) -> Plan:
        """Return the plan for a number of columns; without exchange, no convolution reads the other column."""
        return split(self.layers if exchange else apart(self.layers), columns, self.input_shape)
