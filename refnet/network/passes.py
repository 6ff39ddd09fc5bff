"""Run a plan forward, writing a tape, and the tape backward. The only code that knows the chain rule runs backwards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from refnet.backend.interface import Array, Backend
from refnet.errors import ShapeError
from refnet.network.layers import LAYERS, Backprop, Pass, RandomKey
from refnet.network.plan import IMAGE, Crossing, Node, Plan
from refnet.ops.augment import Draws


@dataclass
class Tape:
    """What a forward pass leaves behind.

    Attributes
    ----------
    output
        The last node's output, (N,K).
    nodes
        Each node with its backprop, in the order they ran. ``backward`` empties it, so that activations die as soon
        as they have been used.
    crossings
        Every array that went from one column to another.
    """

    backend: Backend
    output: Array
    nodes: list[tuple[Node, Backprop]]
    crossings: list[Crossing]


def place(plan: Plan, images: npt.NDArray[Any], backend: Backend) -> list[Array]:
    """Bring images to column 0, and from there to where the other columns read them."""
    return _spread(plan, backend.asarray(images), backend)


def place_bytes(
    plan: Plan, images: npt.NDArray[Any], mean: npt.NDArray[Any], draws: Draws, backend: Backend
) -> list[Array]:
    """Make of bytes (N,H,W,C) what each column reads: augmented in column 0, and moved to the others from there."""
    return crop(plan, backend.asarray(images), backend.asarray(mean), draws, backend)


def crop(plan: Plan, images: Array, mean: Array, draws: Draws, backend: Backend) -> list[Array]:
    """Make what each column reads, as `place_bytes` does, of bytes and a mean image that lie in column 0 already."""
    there = [backend.asarray(array) for array in draws]
    crops = backend.augment.forward(images, mean, *there, size=plan.input_shape[1:])
    return _spread(plan, crops, backend)


def _spread(plan: Plan, images: Array, backend: Backend) -> list[Array]:
    return [backend.move(images, column) for column in range(plan.columns)]


def place_params(plan: Plan, host: Mapping[str, npt.NDArray[Any]], backend: Backend) -> dict[str, Array]:
    """Copy each parameter to where its column lives. Raises ``ShapeError`` for names or shapes that do not fit."""
    check_params(plan, host)
    return {
        f"{node.name}.{letter}": backend.asarray(host[f"{node.name}.{letter}"], node.column)
        for node in plan.nodes
        for letter in node.params
    }


def check_params(plan: Plan, params: Mapping[str, Any]) -> None:
    """Hold parameters to the plan. Raises ``ShapeError`` that names the first which is missing, extra or misshapen."""
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
    """Run the network.

    Parameters
    ----------
    params
        Every parameter by name, where its column lives (:func:`place_params`).
    images
        The batch (N,C,H,W), once for each column (:func:`place`).
    random_key
        The random numbers of a training pass; None for a test pass, in which dropout takes its expected value.
    record
        Whether to keep what ``backward`` needs; without it the tape holds the output alone.
    watch
        Shown every node's output as soon as it is there.

    Raises
    ------
    ShapeError
        The images or parameters do not fit the plan.
    """
    _check_door(plan, params, images, backend)
    pass_ = Pass(backend, random_key)
    outputs: dict[str, Array] = {}
    unread = plan.readers()
    tape = []
    for node in plan.nodes:
        inputs = [images[node.column] if name == IMAGE else outputs[name] for name in node.inputs]
        letters = {letter: params[f"{node.name}.{letter}"] for letter in node.params}
        y, backprop = LAYERS[node.layer.op](node, inputs, letters, pass_)
        outputs[node.name] = y
        if watch:
            watch(node, y)
        if record:
            tape.append((node, backprop))
        del inputs, backprop
        for name in node.inputs:
            unread[name] -= 1
            if not unread[name]:
                outputs.pop(name, None)
    return Tape(backend, y, tape, pass_.crossings)


def backward(tape: Tape, dy: Array) -> dict[str, Array]:
    """Gradient of every parameter by name, given that of the output (N,K). Empties the tape.

    Raises
    ------
    ValueError
        The tape is empty.
    """
    if not tape.nodes:
        raise ValueError("the tape is empty: backward has used it already, or forward was told not to record")
    gradients: dict[str, Array] = {}
    meeting: dict[str, Array] = {tape.nodes[-1][0].name: dy}
    while tape.nodes:
        node, backprop = tape.nodes.pop()
        to_inputs, to_params = backprop(meeting.pop(node.name))
        gradients.update({f"{node.name}.{letter}": gradient for letter, gradient in to_params.items()})
        for name, gradient in zip(node.inputs, to_inputs, strict=True):
            if gradient is not None and name != IMAGE:
                meeting[name] = tape.backend.add(meeting[name], gradient) if name in meeting else gradient
    return gradients


def _check_door(plan: Plan, params: Mapping[str, Array], images: Sequence[Array], backend: Backend) -> None:
    check_params(plan, params)
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
