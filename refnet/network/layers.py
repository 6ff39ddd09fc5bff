"""The layers: each runs its op forward, and returns the output with the function that runs it backward.

A layer takes its node, the arrays that the node reads, its parameters by letter and the pass it is part of. It returns
``(y, backprop)``; ``backprop(dy)`` returns the gradient of each input, in order, and of each parameter by its letter.
The arrays that backprop needs are kept in its closure, and freed with it. Ops raise ``ShapeError`` and
``ArgumentError``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from refnet.backend.capabilities import exchanged_bytes, sent
from refnet.backend.interface import Array, Backend
from refnet.network.plan import IMAGE, Crossing, Node
from refnet.randomness import Purpose

Inputs: TypeAlias = Sequence[Array]
Params: TypeAlias = Mapping[str, Array]
Backprop: TypeAlias = Callable[[Array], tuple[Sequence[Array | None], Params]]
LayerResult: TypeAlias = tuple[Array, Backprop]


@dataclass(frozen=True)
class RandomKey:
    """The key of a training pass's random numbers: the seed, the step, and the number of the batch's first sample."""

    seed: int
    step: int
    sample: int = 0


@dataclass(frozen=True)
class Pass:
    """One pass through the network.

    Attributes
    ----------
    random_key
        Selects the random numbers of a training pass; None in a test pass.
    crossings
        The list to which every array that moves from one column to another is added.
    """

    backend: Backend
    random_key: RandomKey | None = None
    crossings: list[Crossing] = field(default_factory=list)


def conv2d(node: Node, inputs: Inputs, params: Params, pass_: Pass) -> LayerResult:
    """Run a convolution: (N,C,H,W) to (N,K,P,Q). The gradient with respect to the image is not computed (None)."""
    (x,), w, op, options = inputs, params["w"], pass_.backend.conv2d, node.layer.options

    def backprop(dy: Array) -> tuple[Sequence[Array | None], Params]:
        dx, dw, db = op.backward(dy, x, w, **options, need_dx=node.inputs != (IMAGE,))
        return (dx,), {"w": dw, "b": db}

    return op.forward(x, w, params["b"], **options), backprop


def linear(_: Node, inputs: Inputs, params: Params, pass_: Pass) -> LayerResult:
    """Run a fully connected layer: (N,D) or (N,C,H,W) to (N,K)."""
    (x,), w, op = inputs, params["w"], pass_.backend.linear

    def backprop(dy: Array) -> tuple[Sequence[Array], Params]:
        dx, dw, db = op.backward(dy, x, w)
        return (dx,), {"w": dw, "b": db}

    return op.forward(x, w, params["b"]), backprop


def conv2d_relu(node: Node, inputs: Inputs, params: Params, pass_: Pass) -> LayerResult:
    """Run a convolution and its ReLU, shapes as in `conv2d`. The gradient with respect to the image is None."""
    (x,), w, op, options = inputs, params["w"], pass_.backend.conv2d_relu, node.layer.options
    y = op.forward(x, w, params["b"], **options)

    def backprop(dy: Array) -> tuple[Sequence[Array | None], Params]:
        dx, dw, db = op.backward(dy, y, x, w, **options, need_dx=node.inputs != (IMAGE,))
        return (dx,), {"w": dw, "b": db}

    return y, backprop


def linear_relu(_: Node, inputs: Inputs, params: Params, pass_: Pass) -> LayerResult:
    """Run a fully connected layer and its ReLU, shapes as in `linear`."""
    (x,), w, op = inputs, params["w"], pass_.backend.linear_relu
    y = op.forward(x, w, params["b"])

    def backprop(dy: Array) -> tuple[Sequence[Array], Params]:
        dx, dw, db = op.backward(dy, y, x, w)
        return (dx,), {"w": dw, "b": db}

    return y, backprop


def relu(_: Node, inputs: Inputs, __: Params, pass_: Pass) -> LayerResult:
    """Run rectified linear units; the output has the shape of the input."""
    op = pass_.backend.relu
    y = op.forward(*inputs)
    return y, lambda dy: ((op.backward(dy, y),), {})


def tanh(_: Node, inputs: Inputs, __: Params, pass_: Pass) -> LayerResult:
    """Run tanh units; the output has the shape of the input."""
    op = pass_.backend.tanh
    y = op.forward(*inputs)
    return y, lambda dy: ((op.backward(dy, y),), {})


def lrn(node: Node, inputs: Inputs, _: Params, pass_: Pass) -> LayerResult:
    """Run local response normalisation over the column's own feature maps: (N,C,H,W) to the same shape."""
    (x,), op, options = inputs, pass_.backend.lrn, node.layer.options
    y, scale = op.forward(x, **options)
    return y, lambda dy: ((op.backward(dy, x, y, scale, **options),), {})


def rnorm(node: Node, inputs: Inputs, _: Params, pass_: Pass) -> LayerResult:
    """Run response normalisation within each feature map: (N,C,H,W) to the same shape."""
    (x,), op, options = inputs, pass_.backend.rnorm, node.layer.options
    y, scale = op.forward(x, **options)
    return y, lambda dy: ((op.backward(dy, x, y, scale, **options),), {})


def maxpool(node: Node, inputs: Inputs, _: Params, pass_: Pass) -> LayerResult:
    """Run max-pooling: (N,C,H,W) to (N,C,P,Q). Only the shape of x is kept for the backward pass."""
    (x,), op, options = inputs, pass_.backend.maxpool, node.layer.options
    y, which = op.forward(x, **options)
    x_shape = x.shape
    return y, lambda dy: ((op.backward(dy, which, x_shape=x_shape, **options),), {})


def avgpool(node: Node, inputs: Inputs, _: Params, pass_: Pass) -> LayerResult:
    """Run average pooling: (N,C,H,W) to (N,C,P,Q). Only the shape of x is kept for the backward pass."""
    (x,), op, options = inputs, pass_.backend.avgpool, node.layer.options
    x_shape = x.shape
    return op.forward(x, **options), lambda dy: ((op.backward(dy, x_shape=x_shape, **options),), {})


def dropout(node: Node, inputs: Inputs, _: Params, pass_: Pass) -> LayerResult:
    """Drop units at random in training, use the expected value in a test pass; the shape stays the same."""
    (x,), op, options = inputs, pass_.backend.dropout, node.layer.options
    if pass_.random_key is None:
        return op.expected(x, **options), lambda dy: ((op.expected(dy, **options),), {})
    random: dict[str, Any] = {
        "key": (pass_.random_key.seed, Purpose.DROPOUT),
        "counter": (pass_.random_key.step, node.index, pass_.random_key.sample, node.first),
    }
    return op.forward(x, **options, **random), lambda dy: ((op.backward(dy, **options, **random),), {})


def gather(node: Node, inputs: Inputs, _: Params, pass_: Pass) -> LayerResult:
    """Join every column's channels in this column; backward returns to each column the gradient of its own channels.

    Joining is linear, y = sum over c of E_c x_c, where E_c puts column c's channels in their place among all. Its
    adjoint selects them again: dx_c = E_cᵀ dy, a slice.
    """
    backend, here = pass_.backend, node.column
    for name, x, column in zip(node.inputs, inputs, node.sources, strict=True):
        if column != here:
            pass_.crossings.append(Crossing(node.layer.name, name, column, here, exchanged_bytes(x, backend)))
    widths = [x.shape[1] for x in inputs]

    def backprop(dy: Array) -> tuple[Sequence[Array], Params]:
        slices = zip(backend.split(dy, widths), node.sources, strict=True)
        return [dx if column == here else sent(dx, column, backend, gradient=True) for dx, column in slices], {}

    parts = zip(inputs, node.sources, strict=True)
    return backend.concat([x if column == here else sent(x, here, backend) for x, column in parts]), backprop


LAYER_FUNCTIONS = (
    conv2d,
    linear,
    conv2d_relu,
    linear_relu,
    relu,
    tanh,
    lrn,
    rnorm,
    maxpool,
    avgpool,
    dropout,
    gather,
)

LAYERS: Mapping[str, Callable[[Node, Inputs, Params, Pass], LayerResult]] = {
    layer.__name__: layer for layer in LAYER_FUNCTIONS
}
