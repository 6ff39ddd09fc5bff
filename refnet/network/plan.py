"""A network as pure data, and what becomes of it when its channels are split into columns.

A network is a tuple of :class:`Layer`. ``split`` turns it into a :class:`Plan`: for each layer one :class:`Node`
per column and, before a layer that reads all columns, a gather for each column that needs it. Columns are part of
what the network computes (paper, section 3.2 and figure 2); on which device a column runs is the backend's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import prod
from typing import Any, Literal, TypeAlias

from refnet import ops
from refnet.errors import ArgumentError, ShapeError

Reads = Literal["own", "all"]
Shape: TypeAlias = tuple[int, ...]

IMAGE = "image"


@dataclass(frozen=True)
class Layer:
    """One layer of a network, over all its columns.

    Attributes
    ----------
    op
        The chapter that it runs.
    reads
        "own": what the same column made; "all": what every column made. A layer after the image reads the image.
    width
        Number of filters or outputs, all columns together; 0 for a layer without parameters.
    kernel
        Side of a filter in pixels; 0 for a layer without filters.
    options
        The hyper-parameters of its op.
    sigma
        The first weights are normal with mean 0 and this standard deviation.
    bias
        The first biases are this constant.
    columns
        "split": as many as the plan has; "one": the first column alone holds the layer (the paper's fc8).
    """

    name: str
    op: str
    reads: Reads = "own"
    width: int = 0
    kernel: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    sigma: float = 0.0
    bias: float = 0.0
    columns: Literal["split", "one"] = "split"


def conv(
    name: str,
    width: int,
    kernel: int,
    *,
    stride: int = 1,
    pad: int = 0,
    ceil: bool = False,
    reads: Reads = "own",
    sigma: float,
    bias: float,
) -> Layer:
    """Write a convolutional layer."""
    options = {"stride": stride, "pad": pad, "ceil": ceil}
    return Layer(name, "conv2d", reads, width, kernel, options, sigma, bias)


def linear(
    name: str,
    width: int,
    *,
    reads: Reads = "all",
    sigma: float,
    bias: float,
    columns: Literal["split", "one"] = "split",
) -> Layer:
    """Write a fully connected layer."""
    return Layer(name, "linear", reads, width, sigma=sigma, bias=bias, columns=columns)


def relu(name: str) -> Layer:
    """Write a layer of rectified linear units."""
    return Layer(name, "relu")


def tanh(name: str) -> Layer:
    """Write a layer of tanh units."""
    return Layer(name, "tanh")


def lrn(name: str, *, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> Layer:
    """Write a local response normalisation; the defaults are the paper's (section 3.3)."""
    return Layer(name, "lrn", options={"n": n, "k": k, "alpha": alpha, "beta": beta})


def maxpool(name: str, *, size: int = 3, stride: int = 2, ceil: bool = True) -> Layer:
    """Write an overlapping max-pooling; the defaults are the paper's (section 3.4)."""
    return Layer(name, "maxpool", options={"size": size, "stride": stride, "ceil": ceil})


def dropout(name: str, *, drop: float = 0.5) -> Layer:
    """Write dropout; the default is the paper's (section 4.2)."""
    return Layer(name, "dropout", options={"drop": drop})


@dataclass(frozen=True)
class Node:
    """One layer's work in one column, or a gather before it.

    Attributes
    ----------
    name
        The layer and the column, ``conv2@0``.
    index
        The layer's place in the network: its word in a Philox counter.
    inputs
        Names of the nodes whose outputs it reads, or ``image``.
    shapes
        Their shapes for one sample, in the same order.
    sources
        The columns they live in, in the same order.
    shape
        Its output's shape for one sample.
    params
        Shape of each parameter by its letter; the parameter is called ``conv2@0.w`` in a run and in a checkpoint.
    first
        The place of its first filter or feature among those of all columns.
    """

    name: str
    layer: Layer
    index: int
    column: int
    inputs: tuple[str, ...]
    shapes: tuple[Shape, ...]
    sources: tuple[int, ...]
    shape: Shape
    params: Mapping[str, Shape] = field(default_factory=dict)
    first: int = 0

    def macs(self) -> int:
        """Multiply-adds of its forward pass for one sample: each weight once for each place it is applied at."""
        if "w" not in self.params:
            return 0
        places = prod(self.shape[1:])
        return prod(self.params["w"]) * places


@dataclass(frozen=True)
class Plan:
    """What to run, in order. The last node's output is the network's."""

    columns: int
    input_shape: Shape
    nodes: tuple[Node, ...]

    def param_shapes(self) -> dict[str, Shape]:
        """Shape of every parameter by its full name."""
        return {f"{node.name}.{letter}": shape for node in self.nodes for letter, shape in node.params.items()}

    def column_by_column(self) -> "Plan":
        """Put the nodes of a column side by side, as far as a gather lets them: the same numbers in another order."""
        nodes: list[Node] = []
        for _, group in groupby(self.nodes, lambda node: node.layer.op == "gather"):
            nodes += sorted(group, key=lambda node: node.column)
        return replace(self, nodes=tuple(nodes))

    def readers(self) -> dict[str, int]:
        """How many nodes read each output."""
        counts = dict.fromkeys((IMAGE, *(node.name for node in self.nodes)), 0)
        for node in self.nodes:
            for name in node.inputs:
                counts[name] += 1
        return counts


@dataclass(frozen=True)
class Crossing:
    """One array that went from one column to another.

    Attributes
    ----------
    into
        The layer that reads it.
    of
        The node that made it.
    source
        The column that activations leave, and their gradients reach.
    target
        The column that activations reach.
    nbytes
        Bytes that travelled one way.
    """

    into: str
    of: str
    source: int
    target: int
    nbytes: int


def split(layers: tuple[Layer, ...], columns: int, input_shape: Shape) -> Plan:
    """Plan the network for a number of columns.

    Parameters
    ----------
    input_shape
        (C,H,W) of one image; each column reads the whole image.

    Raises
    ------
    ShapeError
        A layer does not fit what it reads, its width does not divide among the columns, it has another's name, or it
        would leave out what other columns made. Also for no layers, and for less than one column.
    """
    if not layers:
        raise ShapeError("a network needs at least one layer")
    if columns < 1:
        raise ShapeError(f"a network cannot be split into {columns} columns; there must be at least 1")
    names = [layer.name for layer in layers]
    for name in names:
        if names.count(name) > 1:
            raise ShapeError(f"two layers are called {name}; each needs a name of its own, since parameters bear it")
    nodes: list[Node] = []
    latest = [Node(IMAGE, Layer(IMAGE, IMAGE), -1, column, (), (), (), input_shape) for column in range(columns)]
    for index, layer in enumerate(layers):
        holders = 1 if layer.columns == "one" or (layer.reads == "own" and len(latest) == 1) else columns
        if holders < len(latest) and layer.reads == "own" and latest[0].name != IMAGE:
            raise ShapeError(f"{layer.name} is in one column and reads its own, so the others' work is lost; read all")
        sources = [_source(latest, layer, index, column) for column in range(holders)]
        latest = [_node(layer, index, column, holders, source) for column, source in enumerate(sources)]
        # All gathers come before the nodes that read them, so that a backend can overlap copies with work.
        nodes += [source for source in sources if source.layer.op == "gather"]
        nodes += latest
    return Plan(columns, input_shape, tuple(nodes))


def apart(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Let every convolution read its own column alone: the columns first meet in the fully connected layers."""
    return tuple(replace(layer, reads="own") if layer.op == "conv2d" else layer for layer in layers)


def crossings(plan: Plan, batch: int, itemsize: int = 4) -> list[Crossing]:
    """List what will cross between the columns in one forward pass; the gradients of a training step mirror it."""
    return [
        Crossing(node.layer.name, name, source, node.column, batch * prod(shape) * itemsize)
        for node in plan.nodes
        for name, shape, source in zip(node.inputs, node.shapes, node.sources, strict=True)
        if source != node.column
    ]


def _source(latest: list[Node], layer: Layer, index: int, column: int) -> Node:
    """Say what a column of a layer reads: its own latest node, or a gather of all."""
    if layer.reads == "own" or latest[0].name == IMAGE or (len(latest) == 1 and column == 0):
        return latest[column]
    return _gather(latest, layer, index, column)


def _gather(latest: list[Node], layer: Layer, index: int, column: int) -> Node:
    """Bring every column's output to one column and join them along the channels."""
    shapes = tuple(node.shape for node in latest)
    shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    names = tuple(node.name for node in latest)
    sources = tuple(node.column for node in latest)
    name = f"{layer.name}.gather@{column}"
    return Node(name, Layer(layer.name, "gather"), index, column, names, shapes, sources, shape)


def _node(layer: Layer, index: int, column: int, holders: int, source: Node) -> Node:
    name = f"{layer.name}@{column}"
    if layer.width % holders:
        raise ShapeError(f"{name}: its {layer.width} filters or outputs do not divide among {holders} columns")
    params = _param_shapes(layer, layer.width // holders, source.shape)
    try:
        shape = _output_shape(layer, source.shape, params)
    except (ShapeError, ArgumentError) as error:
        raise type(error)(f"{name}, which reads {source.name}: {error}") from None
    first = column * prod(shape) if not layer.width else column * (layer.width // holders)
    return Node(name, layer, index, column, (source.name,), (source.shape,), (column,), shape, params, first)


def _param_shapes(layer: Layer, width: int, source: Shape) -> dict[str, Shape]:
    if layer.op == "conv2d":
        return {"w": (width, source[0], layer.kernel, layer.kernel), "b": (width,)}
    if layer.op == "linear":
        return {"w": (width, prod(source)), "b": (width,)}
    return {}


def _output_shape(layer: Layer, source: Shape, params: Mapping[str, Shape]) -> Shape:
    """Ask the chapter's own shape rule, with a batch of one: that of a test pass, where the op has another there."""
    chapter = ops.chapter(layer.op)
    rule = chapter.expected_shapes if "expected" in chapter.INTERFACE else chapter.forward_shapes
    y, *_ = rule((1, *source), *params.values(), **layer.options)
    shape: Shape = y[1:]
    return shape
