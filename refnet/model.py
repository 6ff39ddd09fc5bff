"""A network in training, and one step of it: forward, backward, update (paper, section 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from refnet import network
from refnet.backend import Array, Backend
from refnet.checkpoint import Checkpoint
from refnet.config import Config
from refnet.data.crops import Crops
from refnet.data.dataset import Labels
from refnet.errors import NumericError
from refnet.initial import initialise
from refnet.layers import Draw
from refnet.plan import Plan, Step


@dataclass
class Model:
    """A network in training: its plan, and what the steps change in place."""

    plan: Plan
    backend: Backend
    params: dict[str, Array]
    velocities: dict[str, Array]


def begin(plan: Plan, config: Config, backend: Backend) -> Model:
    """Draw the first parameters and lay them, and velocities of zero, where their columns live."""
    host = initialise(plan, config.seed)
    params = network.place_params(plan, host, backend)
    velocities = network.place_params(plan, {name: np.zeros_like(a) for name, a in host.items()}, backend)
    return Model(plan, backend, params, velocities)


def restore(plan: Plan, checkpoint: Checkpoint, backend: Backend) -> Model:
    """Lay the arrays of a checkpoint where their columns live."""
    params = network.place_params(plan, checkpoint.params, backend)
    return Model(plan, backend, params, network.place_params(plan, checkpoint.velocities, backend))


def train_step(model: Model, crops: Crops, labels: Labels, config: Config, lr: float, step: int) -> float:
    """Forward, backward, update; returns the batch's mean loss.

    Raises
    ------
    NumericError
        The loss or a gradient is NaN or infinite; the message names the layer where that began. The parameters are
        those before the step.
    """
    backend = model.backend
    images = network.place(model.plan, crops, backend)
    truth = backend.asarray(labels)
    draw = Draw(config.seed, step)
    tape = network.forward(model.plan, model.params, images, backend, draw=draw)
    batch_loss, p = backend.softmax_xent.forward(tape.output, truth)
    loss = float(backend.to_numpy(batch_loss))
    if not isfinite(loss):
        where = _first_not_finite(model, images, draw)
        raise NumericError(f"the loss is {loss}; {where}; a lower --lr than {lr:g} may keep it finite")
    gradients = network.backward(tape, backend.softmax_xent.backward(p, truth))
    _check(gradients, backend, config, lr)
    for name, gradient in gradients.items():
        decay = config.weight_decay if name.endswith(".w") else 0.0  # paper: weights decay, biases do not
        backend.sgd.step_(
            model.params[name],
            model.velocities[name],
            gradient,
            lr=lr,
            momentum=config.momentum,
            weight_decay=decay,
        )
    return loss


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


def _first_not_finite(model: Model, images: Sequence[Array], draw: Draw) -> str:
    """Run forward once more, with the same random numbers, and say where a number was first not finite."""
    found: list[str] = []
    if not all(_is_finite(a, model.backend) for a in images):
        return "the images are not finite"

    def watch(step: Step, y: Array) -> None:
        if found:
            return
        for name in (f"{step.name}.{letter}" for letter in step.params):
            if not _is_finite(model.params[name], model.backend):
                found.append(f"parameter {name} is the first that is not finite")
                return
        if not _is_finite(y, model.backend):
            found.append(f"layer {step.name} is the first whose output is not finite")

    network.forward(model.plan, model.params, images, model.backend, draw=draw, record=False, watch=watch)
    return found[0] if found else "every layer's output is finite"


def _is_finite(a: Array, backend: Backend) -> bool:
    return bool(np.isfinite(backend.to_numpy(a)).all())
