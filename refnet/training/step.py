"""One training step: forward, backward, reduce, update (paper, section 5)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from refnet.backend.capabilities import Recording
from refnet.backend.interface import Array, Backend
from refnet.backend.wrapped import unwrapped
from refnet.data.dataset import Labels
from refnet.errors import ConfigError, NumericError
from refnet.network import passes
from refnet.network.initial import initialise
from refnet.network.layers import RandomKey
from refnet.network.plan import Node, Plan
from refnet.terminal.spelling import setting

Gradients: TypeAlias = dict[str, Array]
Halves: TypeAlias = tuple[Callable[..., tuple[Array, Any]], Callable[[Any, float], None]]
Host: TypeAlias = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class StepSettings:
    """The hyper-parameters of a training step; the defaults are the paper's (section 5).

    Attributes
    ----------
    seed
        Selects, with the number of the step, the units that dropout drops.
    non_finite
        "stop": check the loss and the bias gradients for NaN and infinity. "skip": check every gradient, so that a
        step with such a gradient can be left out.
    graph
        Whether the backend records the step once and then repeats the recording. Then no gradient is checked.
    """

    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0
    non_finite: Literal["stop", "skip"] = "stop"
    graph: bool = False


@dataclass(frozen=True)
class _Scored:
    """The results of the forward pass that the backward pass needs: the tape, the probabilities (N,K), the labels."""

    tape: passes.Tape
    p: Array
    labels: Array


def _unchanged(gradients: Gradients) -> Gradients:
    return gradients


@dataclass
class TrainingStep:
    """A network in training: its parameters and velocities, which `take` changes in place.

    Attributes
    ----------
    params, velocities
        Every parameter by name, and its velocity, on its column's device.
    reduce
        Combines the gradients with those of other processes before the update; by default it returns them as they are.
    """

    plan: Plan
    backend: Backend
    params: dict[str, Array]
    velocities: dict[str, Array]
    settings: StepSettings = StepSettings()
    reduce: Callable[[Gradients], Gradients] = _unchanged
    _recorded: Halves | None = field(default=None, init=False, repr=False)
    _ordered: Plan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Let the backend record the step, where the settings ask for it. Raises ``ConfigError`` if it cannot."""
        self._ordered = self.plan
        if self.settings.graph:
            # A record changes devices at a cost, so the nodes of a column come one after the other.
            self._ordered = self.plan.column_by_column()
            inner = unwrapped(self.backend)
            if not isinstance(inner, Recording):
                raise ConfigError(f"backend {self.backend.name} records no steps; leave {setting('graph', True)} out")
            self._recorded = inner.graphed(self.forward, self.finish)

    @property
    def halves(self) -> Halves:
        """The two halves of a step, recorded or not: ``forward(images, labels, step)`` and ``finish(kept, lr)``.

        Between them `take` checks the loss, so a step whose loss is not finite changes nothing. They touch arrays
        through the backend alone, so that it can record them.
        """
        return self._recorded or (self.forward, self.finish)

    def take(self, images: Sequence[Array], labels: Labels, lr: float, step: int) -> float:
        """Take the training step number `step` and return the mean loss of the batch.

        Parameters
        ----------
        images
            The batch (N,C,H,W), once for each column, on its device.

        Raises
        ------
        NumericError
            The loss or a gradient is NaN or infinite; the message names the layer where that began. The parameters are
            those before the step.
        """
        forward, finish = self.halves
        batch_loss, kept = forward(images, self.backend.asarray(labels), step)
        loss = float(self.backend.to_numpy(batch_loss))
        if not isfinite(loss):
            where = self._first_not_finite(images, step)
            raise NumericError(f"the loss is {loss}; {where}; a lower {setting('lr')} than {lr:g} may keep it finite")
        finish(kept, lr)
        return loss

    def forward(self, images: Sequence[Array], labels: Array, step: int) -> tuple[Array, _Scored]:
        """Return the mean loss of the batch, on the device, and what `backward` needs."""
        key = RandomKey(self.settings.seed, step)
        tape = passes.forward(self._ordered, self.params, images, self.backend, random_key=key)
        loss, p = self.backend.softmax_xent.forward(tape.output, labels)
        return loss, _Scored(tape, p, labels)

    def backward(self, kept: _Scored) -> Gradients:
        """Return the gradient of every parameter by name."""
        return passes.backward(kept.tape, self.backend.softmax_xent.backward(kept.p, kept.labels))

    def update(self, gradients: Gradients, lr: float) -> None:
        """Change parameters and velocities in place, all of a column at once. Weights decay, biases do not (paper)."""
        momentum, weight_decay = self.settings.momentum, self.settings.weight_decay
        for column in range(self.plan.columns):
            nodes = [node for node in self.plan.nodes if node.column == column]
            names = [f"{node.name}.{letter}" for node in nodes for letter in node.params]
            w, v, g = ([arrays[name] for name in names] for arrays in (self.params, self.velocities, gradients))
            decays = [weight_decay if name.endswith(".w") else 0.0 for name in names]
            self.backend.sgd.steps_(w, v, g, lr=lr, momentum=momentum, weight_decays=decays)

    def finish(self, kept: _Scored, lr: float) -> None:
        """Run the backward pass, then reduce, check and apply the gradients.

        Raises ``NumericError`` if a gradient is not finite.
        """
        gradients = self.reduce(self.backward(kept))
        if not self.settings.graph:
            self._check(gradients, lr)
        self.update(gradients, lr)

    def _check(self, gradients: Gradients, lr: float) -> None:
        """Raise ``NumericError`` with the first gradient, from the last layer backwards, that is not finite.

        Checking every gradient would copy as many bytes to the host as the network has parameters. A layer's bias
        gradient is the sum of all gradients that reach the layer, so NaN and infinity in any of them show in it, and a
        few thousand numbers are enough. A weight gradient that overflows on its own does not show there. It makes the
        next loss NaN or infinite, which stops the run before anything is saved. A run that leaves such steps out would
        continue with these weights, so it checks every gradient.
        """
        check_weights = self.settings.non_finite == "skip"
        for name, gradient in gradients.items():
            if (check_weights or name.endswith(".b")) and not _is_finite(gradient, self.backend):
                raise NumericError(
                    f"the gradient of {name} is not finite; a lower {setting('lr')} than {lr:g} may keep it finite"
                )

    def _first_not_finite(self, images: Sequence[Array], step: int) -> str:
        """Run forward once more, with the same random numbers, and return where a number was first not finite."""
        findings: list[str] = []
        if not all(_is_finite(a, self.backend) for a in images):
            return "the images are not finite"

        def watch(node: Node, y: Array) -> None:
            if findings:
                return
            for name in (f"{node.name}.{letter}" for letter in node.params):
                if not _is_finite(self.params[name], self.backend):
                    findings.append(f"parameter {name} is the first that is not finite")
                    return
            if not _is_finite(y, self.backend):
                findings.append(f"layer {node.name} is the first whose output is not finite")

        key = RandomKey(self.settings.seed, step)
        passes.forward(self.plan, self.params, images, self.backend, random_key=key, record=False, watch=watch)
        return findings[0] if findings else "every layer's output is finite"


def begin(plan: Plan, backend: Backend, settings: StepSettings = StepSettings()) -> TrainingStep:
    """Return the step of a new network: first parameters drawn from the seed, and velocities of zero."""
    host = initialise(plan, settings.seed)
    return restore(plan, backend, host, {name: np.zeros_like(a) for name, a in host.items()}, settings)


def restore(
    plan: Plan, backend: Backend, params: Host, velocities: Host, settings: StepSettings = StepSettings()
) -> TrainingStep:
    """Return the step of a network whose parameters and velocities are on the host. Raises ``ShapeError``."""
    placed, moving = (passes.place_params(plan, host, backend) for host in (params, velocities))
    return TrainingStep(plan, backend, placed, moving, settings)


def _is_finite(a: Array, backend: Backend) -> bool:
    return bool(np.isfinite(backend.to_numpy(a)).all())
