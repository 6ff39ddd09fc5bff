"""A network in training, and one step of it: forward, backward, update (paper, section 5)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, TypeAlias, cast

import numpy as np

from refnet.backend.interface import Array, Backend
from refnet.config import Config
from refnet.data.dataset import Labels
from refnet.errors import NumericError
from refnet.network import passes
from refnet.network.initial import initialise
from refnet.network.layers import RandomKey
from refnet.network.plan import Node, Plan
from refnet.runs.checkpoint import Checkpoint

Halves: TypeAlias = tuple[
    Callable[[Sequence[Array], Array, int], tuple[Array, Any]],  # images, labels, step -> loss, what the second needs
    Callable[[Any, float], None],  # that, lr
]


@dataclass
class Model:
    """A network in training: its plan, what the steps change in place, and the two halves of a step."""

    plan: Plan
    config: Config
    backend: Backend
    params: dict[str, Array]
    velocities: dict[str, Array]
    halves: Halves


def begin(plan: Plan, config: Config, backend: Backend) -> Model:
    """Draw the first parameters and lay them, and velocities of zero, where their columns live."""
    host = initialise(plan, config.seed)
    params = passes.place_params(plan, host, backend)
    velocities = passes.place_params(plan, {name: np.zeros_like(a) for name, a in host.items()}, backend)
    return model_of(plan, config, backend, params, velocities)


def restore(plan: Plan, config: Config, checkpoint: Checkpoint, backend: Backend) -> Model:
    """Lay the arrays of a checkpoint where their columns live."""
    params = passes.place_params(plan, checkpoint.params, backend)
    return model_of(plan, config, backend, params, passes.place_params(plan, checkpoint.velocities, backend))


def model_of(
    plan: Plan, config: Config, backend: Backend, params: dict[str, Array], velocities: dict[str, Array]
) -> Model:
    """Put a network together from parameters and velocities that are in their places."""
    halves = _halves(plan, config, backend, params, velocities)
    if config.graph:
        halves = cast("Any", backend).graphed(*halves)
    return Model(plan, config, backend, params, velocities, halves)


def _halves(
    plan: Plan, config: Config, backend: Backend, params: dict[str, Array], velocities: dict[str, Array]
) -> Halves:
    """Write a step as two functions that touch arrays through the backend alone.

    Between them the loss is looked at: a step whose loss is not finite changes nothing. Nor does one whose gradients
    are not; a recorded step (`config.graph`) is repeated as a whole and cannot look at them. It has the steps of a
    column side by side, since a record changes devices at a cost.
    """
    if config.graph:
        plan = plan.column_by_column()

    def forward(images: Sequence[Array], labels: Array, step: int) -> tuple[Array, Any]:
        tape = passes.forward(plan, params, images, backend, random_key=RandomKey(config.seed, step))
        loss, p = backend.softmax_xent.forward(tape.output, labels)
        return loss, (tape, p, labels)

    def backward(kept: Any, lr: float) -> None:
        tape, p, labels = kept
        gradients = passes.backward(tape, backend.softmax_xent.backward(p, labels))
        if not config.graph:
            _check(gradients, backend, config, lr)
        update(plan, params, velocities, gradients, backend, lr, config)

    return forward, backward


def update(
    plan: Plan,
    params: Mapping[str, Array],
    velocities: Mapping[str, Array],
    gradients: Mapping[str, Array],
    backend: Backend,
    lr: float,
    config: Config,
) -> None:
    """Change parameters and velocities in place, all of a column at once."""
    for column in range(plan.columns):
        names = [f"{node.name}.{letter}" for node in plan.nodes if node.column == column for letter in node.params]
        w, v, g = ([arrays[name] for name in names] for arrays in (params, velocities, gradients))
        # Paper: weights decay, biases do not.
        decays = [config.weight_decay if name.endswith(".w") else 0.0 for name in names]
        backend.sgd.steps_(w, v, g, lr=lr, momentum=config.momentum, weight_decays=decays)


def train_step(model: Model, images: Sequence[Array], labels: Labels, lr: float, step: int) -> float:
    """Forward, backward, update; returns the batch's mean loss. The images lie where each column reads them.

    Raises
    ------
    NumericError
        The loss or a gradient is NaN or infinite; the message names the layer where that began. The parameters are
        those before the step.
    """
    backend = model.backend
    forward, backward = model.halves
    batch_loss, kept = forward(images, backend.asarray(labels), step)
    loss = float(backend.to_numpy(batch_loss))
    if not isfinite(loss):
        where = _first_not_finite(model, images, RandomKey(model.config.seed, step))
        raise NumericError(f"the loss is {loss}; {where}; a lower --lr than {lr:g} may keep it finite")
    backward(kept, lr)
    return loss


def batch_that_fits(plan: Plan, total: int | None, config: Config) -> int:
    """Estimate the largest batch for which a device has room, below the one for which it has none; 0 for none.

    A parameter has a velocity and a gradient beside it, and a step holds every activation, and as much again for
    gradients and what ops lay out for themselves. The columns share the device or have one each.
    """
    devices = len(set(config.devices)) or 1
    fixed = 3 * 4 * sum(prod(shape) for shape in plan.param_shapes().values())
    image = 2 * 4 * sum(prod(node.shape) for node in plan.nodes)
    room = config.batch - 1 if total is None else int((0.9 * total * devices - fixed) // image)
    return max(0, min(room, config.batch // 2))


def _check(gradients: Mapping[str, Array], backend: Backend, config: Config, lr: float) -> None:
    """Raise ``NumericError`` with the first gradient, from the last layer backwards, that is not finite.

    To look at every gradient would bring as many bytes to the host as the network has. A layer's bias gradient is the
    sum of all that reached the layer, so NaN and infinity on the way back show in it, and a few thousand numbers tell.
    What they do not tell is a weight gradient that overflows by itself: it makes the next loss not finite, and is not
    saved. A run that leaves steps out has no next loss to wait for, so there every gradient is looked at.
    """
    for name, gradient in gradients.items():
        if (config.non_finite == "skip" or name.endswith(".b")) and not _is_finite(gradient, backend):
            raise NumericError(f"the gradient of {name} is not finite; a lower --lr than {lr:g} may keep it finite")


def _first_not_finite(model: Model, images: Sequence[Array], random_key: RandomKey) -> str:
    """Run forward once more, with the same random numbers, and say where a number was first not finite."""
    found: list[str] = []
    if not all(_is_finite(a, model.backend) for a in images):
        return "the images are not finite"

    def watch(node: Node, y: Array) -> None:
        if found:
            return
        for name in (f"{node.name}.{letter}" for letter in node.params):
            if not _is_finite(model.params[name], model.backend):
                found.append(f"parameter {name} is the first that is not finite")
                return
        if not _is_finite(y, model.backend):
            found.append(f"layer {node.name} is the first whose output is not finite")

    passes.forward(model.plan, model.params, images, model.backend, random_key=random_key, record=False, watch=watch)
    return found[0] if found else "every layer's output is finite"


def _is_finite(a: Array, backend: Backend) -> bool:
    return bool(np.isfinite(backend.to_numpy(a)).all())
