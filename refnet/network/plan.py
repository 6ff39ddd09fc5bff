"""A network as pure data, and its plan: the layers split into columns.

A network is a tuple of :class:`Layer`. :func:`split` turns it into a :class:`Plan`: for each layer one :class:`Node`
per column. Before a layer that reads all columns come further nodes, the *gathers*: each joins the outputs of all
columns in one column. Columns are part of what the network computes (paper, section 3.2 and figure 2); the backend
decides on which device a column runs.
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
    name
        The name of the layer, such as ``conv1``.
    op
        The name of the chapter that it runs (:mod:`refnet.ops`).
    reads
        "own": the output of the same column; "all": the outputs of all columns. The first layer reads the image.
    width
        Number of kernels or outputs, all columns together; 0 for a layer without parameters.
    kernel
        Height and width of a kernel in pixels; 0 for a layer without kernels.
    options
        The hyper-parameters of its op.
    sigma
        Standard deviation of the initial weights, which are normally distributed with mean 0.
    bias
        Initial value of every bias.
    columns
        "split": the layer is in every column of the plan; "one": only in the first column (the paper's fc8).
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
    """Return a convolutional layer of `width` kernels of `kernel` x `kernel` pixels, all columns together."""
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
    """Return a fully connected layer of `width` outputs, all columns together."""
    return Layer(name, "linear", reads, width, sigma=sigma, bias=bias, columns=columns)


def relu(name: str) -> Layer:
    """Return a layer of rectified linear units (ReLU)."""
    return Layer(name, "relu")


def tanh(name: str) -> Layer:
    """Return a layer of tanh units."""
    return Layer(name, "tanh")


def lrn(name: str, *, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> Layer:
    """Return a layer of local response normalisation; the defaults are the paper's (section 3.3)."""
    return Layer(name, "lrn", options={"n": n, "k": k, "alpha": alpha, "beta": beta})


def rnorm(name: str, *, n: int = 3, k: float = 1.0, alpha: float = 5e-5 / 9, beta: float = 0.75) -> Layer:
    """Return a layer of response normalisation within each map; the defaults are those of cuda-convnet's 18pct net."""
    return Layer(name, "rnorm", options={"n": n, "k": k, "alpha": alpha, "beta": beta})


def maxpool(name: str, *, size: int = 3, stride: int = 2, ceil: bool = True) -> Layer:
    """Return a max-pooling layer; the defaults are the paper's, windows that overlap (section 3.4)."""
    return Layer(name, "maxpool", options={"size": size, "stride": stride, "ceil": ceil})


def avgpool(name: str, *, size: int = 3, stride: int = 2, ceil: bool = True) -> Layer:
    """Return an average-pooling layer; the defaults are those of cuda-convnet's networks for CIFAR-10."""
    return Layer(name, "avgpool", options={"size": size, "stride": stride, "ceil": ceil})


def dropout(name: str, *, drop: float = 0.5) -> Layer:
    """Return a dropout layer; the default is the paper's (section 4.2)."""
    return Layer(name, "dropout", options={"drop": drop})


@dataclass(frozen=True)
class Node:
    """One layer's work in one column, or a gather before it.

    Attributes
    ----------
    name
        The names of the layer and the column: ``conv2@0``.
    index
        The index of the layer in the network, which is also part of its random key.
    inputs
        Names of the nodes whose outputs it reads, or ``image``.
    shapes
        The shape of each input for one sample.
    sources
        The column of each input.
    shape
        The shape of its output for one sample.
    params
        The shape of each parameter by its letter, ``w`` or ``b``. The full name of such a parameter is ``conv2@0.w``.
    first
        The index of its first kernel or feature among those of all columns.
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
        """Return the number of multiply-adds of its forward pass for one sample: outputs times weights of a filter.

        A filter is the weights that have one bias.
        """
        if "w" not in self.params:
            return 0
        return prod(self.shape) * prod(self.params["w"]) // prod(self.params["b"])


@dataclass(frozen=True)
class Plan:
    """The nodes of a network in the order in which they run. The output of the last one is the network's.

    Attributes
    ----------
    columns
        The number of columns.
    input_shape
        (C,H,W) of one image.
    nodes
        The nodes.
    """

    columns: int
    input_shape: Shape
    nodes: tuple[Node, ...]

    def param_shapes(self) -> dict[str, Shape]:
        """Return the shape of every parameter by its full name."""
        return {f"{node.name}.{letter}": shape for node in self.nodes for letter, shape in node.params.items()}

    def column_by_column(self) -> "Plan":
        """Return the plan with each column's nodes one after another between gathers; it computes the same numbers."""
        nodes: list[Node] = []
        for _, group in groupby(self.nodes, lambda node: node.layer.op == "gather"):
            nodes += sorted(group, key=lambda node: node.column)
        return replace(self, nodes=tuple(nodes))

    def readers(self) -> dict[str, int]:
        """Return the number of nodes that read each output, by its name."""
        counts = dict.fromkeys((IMAGE, *(node.name for node in self.nodes)), 0)
        for node in self.nodes:
            for name in node.inputs:
                counts[name] += 1
        return counts


@dataclass(frozen=True)
class Crossing:
    """One array that is copied from one column to another in a forward pass.

    Attributes
    ----------
    into
        The layer that reads the copy.
    of
        The node whose output is copied.
    source
        The column that sends these activations, and in the backward pass receives their gradient.
    target
        The column that receives the activations.
    nbytes
        Number of bytes of the activations; their gradient has as many.
    """

    into: str
    of: str
    source: int
    target: int
    nbytes: int


def split(layers: tuple[Layer, ...], columns: int, input_shape: Shape) -> Plan:
    """Return the plan of a network that is split into a number of columns.

    Parameters
    ----------
    input_shape
        (C,H,W) of one image; each column reads the whole image.

    Raises
    ------
    ShapeError
        A layer does not fit its input, its width does not divide among the columns, two layers have one name, or the
        output of a column would not be read. Also if there are no layers or less than one column.
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
    """Return the layers with every layer that has kernels reading only its own column; the others are unchanged."""
    return tuple(replace(layer, reads="own") if layer.kernel else layer for layer in layers)


def crossings(plan: Plan, batch: int, itemsize: int = 4) -> list[Crossing]:
    """Return the arrays copied between columns in a forward pass; in a training step their gradients are copied back.

    `itemsize` is the number of bytes of one number: 4 for float32.
    """
    return [
        Crossing(node.layer.name, name, source, node.column, batch * prod(shape) * itemsize)
        for node in plan.nodes
        for name, shape, source in zip(node.inputs, node.shapes, node.sources, strict=True)
        if source != node.column
    ]


def _source(latest: list[Node], layer: Layer, index: int, column: int) -> Node:
    """Return the node that a column of a layer reads: its own latest node, or a gather of all columns."""
    if layer.reads == "own" or latest[0].name == IMAGE or (len(latest) == 1 and column == 0):
        return latest[column]
    return _gather(latest, layer, index, column)


def _gather(latest: list[Node], layer: Layer, index: int, column: int) -> Node:
    """Return the node that joins every column's output in one column, along the channels."""
    shapes = tuple(node.shape for node in latest)
    shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    names = tuple(node.name for node in latest)
    sources = tuple(node.column for node in latest)
    name = f"{layer.name}.gather@{column}"
    return Node(name, Layer(layer.name, "gather"), index, column, names, shapes, sources, shape)


def _node(layer: Layer, index: int, column: int, holders: int, source: Node) -> Node:
    name = f"{layer.name}@{column}"
    if layer.width % holders:
        raise ShapeError(f"{name}: its {layer.width} kernels or outputs do not divide among {holders} columns")
    try:
        params = _param_shapes(layer, layer.width // holders, source.shape)
        shape = _output_shape(layer, source.shape, params)
    except (ShapeError, ArgumentError) as error:
        raise type(error)(f"{name}, which reads {source.name}: {error.message}") from None
    first = column * prod(shape) if not layer.width else column * (layer.width // holders)
    return Node(name, layer, index, column, (source.name,), (source.shape,), (column,), shape, params, first)


def _param_shapes(layer: Layer, width: int, source: Shape) -> dict[str, Shape]:
    """Return the shapes of a layer's parameters in one column, by letter, from its chapter."""
    rule = getattr(ops.chapter(layer.op), "param_shapes", None)
    return rule((1, *source), width, layer.kernel, **layer.options) if rule else {}


def _output_shape(layer: Layer, source: Shape, params: Mapping[str, Shape]) -> Shape:
    """Return the output shape for one sample, by the shape rule of the op (that of a test pass, if it has its own)."""
    chapter = ops.chapter(layer.op)
    rule = chapter.expected_shapes if "expected" in chapter.INTERFACE else chapter.forward_shapes
    y, *_ = rule((1, *source), *params.values(), **layer.options)
    shape: Shape = y[1:]
    return shape
