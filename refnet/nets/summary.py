"""The summary of a network: shapes, parameters, multiply-adds, memory and exchanged bytes, computed from its plan."""

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from refnet.nets import Net
from refnet.network.plan import IMAGE, Crossing, Node, crossings
from refnet.ops import chapter
from refnet.ops._rules import Shape

FLOAT_BYTES = 4


@dataclass(frozen=True)
class LayerSummary:
    """One layer in one column. Numbers are for one image, except `activation_bytes`.

    Attributes
    ----------
    reads
        The nodes whose outputs it reads; if it reads a gather, all nodes whose outputs the gather concatenates.
    input_shape, output_shape
        (C,H,W), or (K,) after a fully connected layer.
    parameters
        Number of parameters.
    macs
        Multiply-adds of the forward pass.
    activation_bytes
        Bytes that the layer allocates for the batch: its output, its residuals (LRN's scale, max-pooling's indices of
        one byte), and the concatenation of all columns' channels if it reads one.
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
    """A network in numbers; see :class:`LayerSummary` for the units."""

    net: str
    columns: int
    batch: int
    rows: tuple[LayerSummary, ...]
    crossings: tuple[Crossing, ...]

    def total(self, attribute: str, op: str | None = None) -> int:
        """Return the sum of an attribute over all layers, or over those of one op."""
        return sum(getattr(row, attribute) for row in self.rows if op in (None, row.op))

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as a dict for JSON."""
        by_op = {op: {name: self.total(name, op) for name in ("parameters", "macs")} for op in ("conv2d", "linear")}
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
    """Return the summary of a network. Raises ``ShapeError`` if it cannot be split into that number of columns."""
    plan = net.plan(columns)
    gathers = {node.name: node for node in plan.nodes if node.layer.op == "gather"}
    rows = tuple(_row(node, gathers, batch) for node in plan.nodes if node.name not in gathers)
    return Summary(net.name, columns, batch, rows, tuple(crossings(plan, batch)))


def _row(node: Node, gathers: dict[str, Node], batch: int) -> LayerSummary:
    reads = tuple(
        name for source in node.inputs for name in (gathers[source].inputs if source in gathers else (source,))
    )
    residuals = getattr(chapter(node.layer.op), "RESIDUALS", {})  # each has the shape of the output
    element_bytes = FLOAT_BYTES + sum(np.dtype(dtype).itemsize for dtype in residuals.values())
    allocated = element_bytes * prod(node.shape)
    gathered = sum(FLOAT_BYTES * prod(gathers[name].shape) for name in node.inputs if name in gathers)
    return LayerSummary(
        layer=node.layer.name,
        op=node.layer.op,
        column=node.column,
        reads=reads,
        input_shape=node.shapes[0],
        output_shape=node.shape,
        parameters=sum(prod(shape) for shape in node.params.values()),
        macs=node.macs(),
        activation_bytes=(allocated + gathered) * batch,
    )


def reads_in_words(row: LayerSummary) -> str:
    """Return what a layer reads: ``"image"``, ``"own"`` (its column) or ``"all"`` columns."""
    if row.reads == (IMAGE,):
        return IMAGE
    return "all" if len(row.reads) > 1 else "own"
