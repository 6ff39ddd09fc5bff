"""A network node by node, each with the arrays that it reads, for timing or comparing single layers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.backend.interface import Backend
from refnet.network import passes
from refnet.network.initial import initialise
from refnet.network.layers import LAYERS, LayerResult, Pass, RandomKey
from refnet.network.plan import Node, Plan

Host = npt.NDArray[Any]
RANDOM_KEY = RandomKey(seed=0, step=1)
# So small a learning rate that any number of steps hardly changes the parameters.
SGD_OPTIONS: dict[str, Any] = {"lr": 1e-6, "momentum": 0.9, "weight_decay": 5e-4}


@dataclass(frozen=True)
class Visit:
    """One node of a plan, and the arrays that it reads, on the host.

    Attributes
    ----------
    inputs
        The arrays that it reads, in order.
    params
        Its parameters by letter.
    dy
        A gradient of its output, drawn at random.
    """

    node: Node
    inputs: tuple[Host, ...]
    params: Mapping[str, Host]
    dy: Host

    def run(
        self, backend: Backend, random_key: RandomKey | None = RANDOM_KEY, node: Node | None = None
    ) -> Callable[[], LayerResult]:
        """Copy everything to a backend and return the layer's forward pass there, or that of `node` in its place."""
        node = node or self.node
        inputs = [backend.asarray(a, column) for a, column in zip(self.inputs, node.sources, strict=True)]
        params = {letter: backend.asarray(a, node.column) for letter, a in self.params.items()}
        pass_ = Pass(backend, random_key)
        return lambda: LAYERS[node.layer.op](node, inputs, params, pass_)


def images_of(plan: Plan, batch: int) -> npt.NDArray[np.float32]:
    """Return random images (batch,C,H,W) with values like those of a crop minus the mean image."""
    return np.random.default_rng(0).uniform(-120, 135, (batch, *plan.input_shape)).astype(np.float32)


def labels_of(plan: Plan, batch: int) -> npt.NDArray[np.int64]:
    """Return a random label for each image: int64 (batch,)."""
    return np.random.default_rng(1).integers(0, plan.nodes[-1].shape[0], batch)


def walk(plan: Plan, backend: Backend, batch: int) -> Iterator[Visit]:
    """Yield every node in order, with the activations of a training pass through newly drawn parameters.

    `backend` computes the activations.
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
