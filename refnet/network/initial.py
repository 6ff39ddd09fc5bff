"""The initial weights and biases of a network (paper, section 5)."""

from math import prod

import numpy as np
import numpy.typing as npt

from refnet import randomness
from refnet.network.plan import Plan
from refnet.randomness import Purpose


def initialise(plan: Plan, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Return every parameter by name: float32, on the host.

    Weights are normally distributed with mean 0 and the layer's sigma; biases are constant. The random numbers of a
    kernel depend on its index among the kernels of all columns, so no two columns start with the same weights. Where
    each place has kernels of its own, those of the next place are numbered after those of all columns in the last one.
    """
    params = {}
    for node in plan.nodes:
        if "w" not in node.params:
            continue
        shape, (kernels, *places) = node.params["w"], node.params["b"]
        size = prod(shape) // prod(node.params["b"])
        firsts = (place * node.layer.width + node.first for place in range(prod(places)))
        counters = ((0, node.index, first, 0) for first in firsts)
        numbers = np.concatenate(
            [randomness.normal(kernels, size, key=(seed, Purpose.INITIAL), counter=counter) for counter in counters]
        )
        params[f"{node.name}.w"] = (node.layer.sigma * numbers).astype(np.float32).reshape(shape)
        params[f"{node.name}.b"] = np.full(node.params["b"], node.layer.bias, np.float32)
    return params
