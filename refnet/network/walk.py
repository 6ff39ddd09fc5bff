"""Go through a network layer by layer, with what each reads at hand: for whoever times or compares single layers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.backend.interface import Backend
from refnet.network import passes
from refnet.network.initial import initialise
from refnet.network.layers import LAYERS, Layered, Pass, RandomKey
from refnet.network.plan import Node, Plan

Host = npt.NDArray[Any]
RANDOM_KEY = RandomKey(seed=0, step=1)
# So small a rate that no number of steps leads astray.
RATES: dict[str, Any] = {"lr": 1e-6, "momentum": 0.9, "weight_decay": 5e-4}


@dataclass(frozen=True)
class Visit:
    """One node of a plan, and what it reads, on the host.

    Attributes
    ----------
    inputs
        The arrays that it reads, in order.
    params
        Its parameters by letter.
    dy
        A gradient of its output, drawn.
    """

    node: Node
    inputs: tuple[Host, ...]
    params: Mapping[str, Host]
    dy: Host

    def run(
        self, backend: Backend, random_key: RandomKey | None = RANDOM_KEY, node: Node | None = None
    ) -> Callable[[], Layered]:
        """Bring everything to a backend, and return the layer's forward pass there (`node`: as if it were another)."""
        node = node or self.node
        inputs = [backend.asarray(a, column) for a, column in zip(self.inputs, node.sources, strict=True)]
        params = {letter: backend.asarray(a, node.column) for letter, a in self.params.items()}
        pass_ = Pass(backend, random_key)
        return lambda: LAYERS[node.layer.op](node, inputs, params, pass_)


def images_of(plan: Plan, batch: int) -> npt.NDArray[np.float32]:
    """Draw pixels as a crop minus the mean image has them: (batch,C,H,W)."""
    return np.random.default_rng(0).uniform(-120, 135, (batch, *plan.input_shape)).astype(np.float32)


def labels_of(plan: Plan, batch: int) -> npt.NDArray[np.int64]:
    """Draw a label for each image."""
    return np.random.default_rng(1).integers(0, plan.nodes[-1].shape[0], batch)


def walk(plan: Plan, backend: Backend, batch: int) -> Iterator[Visit]:
    """Visit every node in order, with the activations of a training pass through freshly drawn parameters.

    The activations are those that `backend` computes.
    """
    params = passes.place_params(plan, initialise(plan, seed=0), backend)
    images = passes.place(plan, images_of(plan, batch), backend)
    rng = np.random.default_rng(2)
    for ran in passes.run(plan, params, images, Pass(backend, RANDOM_KEY)):
        yield Visit(
            ran.node,
            tuple(backend.to_numpy(a) for a in ran.inputs),
            {letter: backend.to_numpy(a) for letter, a in ran.params.items()},
            rng.standard_normal((batch, *ran.node.shape), np.float32),
        )
