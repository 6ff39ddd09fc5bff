"""The forward and the backward pass of a network.

The forward pass runs a plan node by node. It records a *tape*: for each node a function, its *backprop*, which computes
the gradients of the node's inputs and parameters from the gradient of its output. The backward pass calls these
functions from the last node to the first, which is the chain rule.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from refnet.backend.interface import Array, Backend
from refnet.errors import ShapeError
from refnet.network.layers import LAYERS, Backprop, Pass, RandomKey
from refnet.network.plan import IMAGE, Crossing, Node, Plan
from refnet.ops.augment import Draws


@dataclass(frozen=True)
class NodeRun:
    """A node of a plan that has run forward.

    Attributes
    ----------
    inputs
        The arrays that it read, in order.
    params
        Its parameters by letter.
    output
        The array that it returned.
    backprop
        The function that computes its backward pass, see :mod:`refnet.network.layers`.
    """

    node: Node
    inputs: Sequence[Array]
    params: Mapping[str, Array]
    output: Array
    backprop: Backprop


@dataclass
class Tape:
    """The record of a forward pass, from which `backward` computes the gradients.

    Attributes
    ----------
    output
        The last node's output, (N,K).
    nodes
        Each node with its backprop, in the order they ran. ``backward`` empties it, so that the memory of each
        activation is freed as soon as it has been used.
    crossings
        Every array that was copied from one column to another.
    """

    backend: Backend
    output: Array
    nodes: list[tuple[Node, Backprop]]
    crossings: list[Crossing]


def place(plan: Plan, images: npt.NDArray[Any], backend: Backend) -> list[Array]:
    """Return the images (N,C,H,W) once for each column: copied to column 0, and from there to the others."""
    return _spread(plan, backend.asarray(images), backend)


def place_bytes(
    plan: Plan, images: npt.NDArray[Any], mean: npt.NDArray[Any], draws: Draws, backend: Backend
) -> list[Array]:
    """Return augmented crops (N,C,h,w, float32), once for each column: computed in column 0, then copied.

    The images are (N,H,W,C, uint8), the mean image is (H,W,C, float32); (C,h,w) is the plan's input shape.
    """
    return crop(plan, backend.asarray(images), backend.asarray(mean), draws, backend)


def crop(plan: Plan, images: Array, mean: Array, draws: Draws, backend: Backend) -> list[Array]:
    """Return the crops of `place_bytes`, for images and a mean image that are already on column 0's device."""
    placed_draws = [backend.asarray(array) for array in draws]
    crops = backend.augment.forward(images, mean, *placed_draws, size=plan.input_shape[1:])
    return _spread(plan, crops, backend)


def _spread(plan: Plan, images: Array, backend: Backend) -> list[Array]:
    return [backend.move(images, column) for column in range(plan.columns)]


def place_params(plan: Plan, host: Mapping[str, npt.NDArray[Any]], backend: Backend) -> dict[str, Array]:
    """Copy each parameter to its column's device. Raises ``ShapeError`` for names or shapes that do not fit."""
    check_params(plan, host)
    return {
        f"{node.name}.{letter}": backend.asarray(host[f"{node.name}.{letter}"], node.column)
        for node in plan.nodes
        for letter in node.params
    }


def check_params(plan: Plan, params: Mapping[str, Any]) -> None:
    """Check parameters against the plan. Raises ``ShapeError`` that names the first missing, misshapen or extra one."""
    expected = plan.param_shapes()
    for name, shape in expected.items():
        if name not in params:
            raise ShapeError(f"parameter {name} {shape} is missing")
        if tuple(params[name].shape) != shape:
            raise ShapeError(f"parameter {name} must have shape {shape}, it has {tuple(params[name].shape)}")
    extra = sorted(set(params) - set(expected))
    if extra:
        raise ShapeError(f"parameter {extra[0]} belongs to no layer of this network")


def forward(
    plan: Plan,
    params: Mapping[str, Array],
    images: Sequence[Array],
    backend: Backend,
    *,
    random_key: RandomKey | None = None,
    record: bool = True,
    watch: Callable[[Node, Array], None] | None = None,
) -> Tape:
    """Run the network forward and return its tape.

    Parameters
    ----------
    params
        Every parameter by name, on its column's device (:func:`place_params`).
    images
        The batch (N,C,H,W), once for each column (:func:`place`).
    random_key
        Selects the random numbers of a training pass; None for a test pass, in which dropout takes its expected value.
    record
        Whether to keep what ``backward`` needs; without it the tape has only the output.
    watch
        Called with each node and its output as soon as it is computed.

    Raises
    ------
    ShapeError
        The images, the parameters or the backend's columns do not fit the plan.
    """
    check_params(plan, params)
    _check_columns(plan, images, backend)
    pass_ = Pass(backend, random_key)
    tape = []
    for ran in run(plan, params, images, pass_):
        output = ran.output
        if watch:
            watch(ran.node, output)
        if record:
            tape.append((ran.node, ran.backprop))
        del ran  # so that its arrays can be freed before the next node runs
    return Tape(backend, output, tape, pass_.crossings)


def run(plan: Plan, params: Mapping[str, Array], images: Sequence[Array], pass_: Pass) -> Iterator[NodeRun]:
    """Run a plan node by node, and yield each node with what it read and returned.

    An output is freed once its last reader has run. A caller should delete each yielded node before it asks for the
    next; otherwise activations stay in memory longer than needed.
    """
    outputs: dict[str, Array] = {}
    unread = plan.readers()
    for node in plan.nodes:
        inputs = [images[node.column] if name == IMAGE else outputs[name] for name in node.inputs]
        letters = {letter: params[f"{node.name}.{letter}"] for letter in node.params}
        output, backprop = LAYERS[node.layer.op](node, inputs, letters, pass_)
        outputs[node.name] = output
        for name in node.inputs:
            unread[name] -= 1
            if not unread[name]:
                outputs.pop(name, None)
        yield NodeRun(node, inputs, letters, output, backprop)
        del inputs, output, backprop


def backward(tape: Tape, dy: Array) -> dict[str, Array]:
    """Return the gradient of every parameter by name, given the gradient dy of the output (N,K). Empties the tape.

    Raises
    ------
    ValueError
        The tape is empty.
    """
    if not tape.nodes:
        raise ValueError("the tape is empty: backward has used it already, or forward was told not to record")
    gradients: dict[str, Array] = {}
    pending: dict[str, Array] = {tape.nodes[-1][0].name: dy}
    while tape.nodes:
        node, backprop = tape.nodes.pop()
        to_inputs, to_params = backprop(pending.pop(node.name))
        gradients.update({f"{node.name}.{letter}": gradient for letter, gradient in to_params.items()})
        for name, gradient in zip(node.inputs, to_inputs, strict=True):
            if gradient is not None and name != IMAGE:
                pending[name] = tape.backend.add(pending[name], gradient) if name in pending else gradient
    return gradients


def _check_columns(plan: Plan, images: Sequence[Array], backend: Backend) -> None:
    """Raise ``ShapeError`` unless plan, backend and images agree on the columns, and the images fit the plan."""
    if sum(node.layer == plan.nodes[-1].layer for node in plan.nodes) > 1:
        raise ShapeError(f"the last layer, {plan.nodes[-1].layer.name}, is split; it must be in one column")
    if backend.columns < plan.columns:
        raise ShapeError(
            f"the network has {plan.columns} columns, backend {backend.name} was loaded for {backend.columns}"
        )
    if len(images) != plan.columns:
        raise ShapeError(f"there must be one copy of the images for each of {plan.columns} columns, not {len(images)}")
    for column, batch in enumerate(images):
        if batch.shape[0] != images[0].shape[0] or tuple(batch.shape[1:]) != plan.input_shape:
            expected = ", ".join(map(str, ("N", *plan.input_shape)))
            raise ShapeError(
                f"images of column {column} must be ({expected}) with one N for all columns, they are {batch.shape}"
            )
