"""What a network is made of: shapes, parameters, multiply-adds, memory and what crosses, from the plan alone."""

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from refnet.nets import Net
from refnet.network.plan import IMAGE, Crossing, Node, crossings
from refnet.ops import chapter
from refnet.ops._rules import Shape

FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class LayerSummary:
    """One layer's work in one column, for one image unless it says batch.

    Attributes
    ----------
    reads
        The nodes whose outputs it works on; through a gather, all that the gather brings together.
    input_shape, output_shape
        (C,H,W), or (K,) after a fully connected layer.
    parameters
        How many numbers are learned.
    macs
        Multiply-adds of the forward pass.
    activation_bytes
        What the layer makes, for the batch: the copy of all columns' channels that it reads (if it does), its output,
        and its residuals (LRN's scale, one byte for each pooled value).
    """

    layer: str
    op: str
    column: int
    reads: tuple[str, ...]
    input_shape: Shape
    output_shape: Shape
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class Summary:
    """A network in figures; see :class:`LayerSummary` for the units."""

    net: str
    columns: int
    batch: int
    rows: tuple[LayerSummary, ...]
    crossings: tuple[Crossing, ...]

    def total(self, figure: str, op: str | None = None) -> int:
        """Sum a figure over all rows, or over those of one op."""
        return sum(getattr(row, figure) for row in self.rows if op in (None, row.op))

    def as_dict(self) -> dict[str, Any]:
        """Give the summary ready for JSON."""
        by_op = {
            op: {figure: self.total(figure, op) for figure in ("parameters", "macs")} for op in ("conv2d", "linear")
        }
        return {
            "net": self.net,
            "columns": self.columns,
            "batch": self.batch,
            "parameters": self.total("parameters"),
            "macs": self.total("macs"),
            "activation_bytes": self.total("activation_bytes"),
            **by_op,
            "layers": [asdict(row) for row in self.rows],
            "crossings": [asdict(crossing) for crossing in self.crossings],
        }


def summarise(net: Net, columns: int, batch: int) -> Summary:
    """Plan the network and count. Raises ``ShapeError`` where it does not fit that number of columns."""
    plan = net.plan(columns)
    gathers = {node.name: node for node in plan.nodes if node.layer.op == "gather"}
    rows = tuple(_row(node, gathers, batch) for node in plan.nodes if node.name not in gathers)
    return Summary(net.name, columns, batch, rows, tuple(crossings(plan, batch)))


def _row(node: Node, gathers: dict[str, Node], batch: int) -> LayerSummary:
    reads = tuple(
        name for source in node.inputs for name in (gathers[source].inputs if source in gathers else (source,))
    )
    residuals = getattr(chapter(node.layer.op), "RESIDUALS", {})  # each has the shape of the output
    made = (FLOAT + sum(np.dtype(dtype).itemsize for dtype in residuals.values())) * prod(node.shape)
    gathered = sum(FLOAT * prod(gathers[name].shape) for name in node.inputs if name in gathers)
    return LayerSummary(
        layer=node.layer.name,
        op=node.layer.op,
        column=node.column,
        reads=reads,
        input_shape=node.shapes[0],
        output_shape=node.shape,
        parameters=sum(prod(shape) for shape in node.params.values()),
        macs=node.macs(),
        activation_bytes=(made + gathered) * batch,
    )


def reads_in_words(row: LayerSummary) -> str:
    """Say whether a layer reads the image, its own column, or all of them."""
    if row.reads == (IMAGE,):
        return IMAGE
    return "all" if len(row.reads) > 1 else "own"
