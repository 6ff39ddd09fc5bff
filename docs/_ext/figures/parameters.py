"""The layers of the paper's network: their share of all parameters, and of all multiply-adds of a forward pass.

Almost all parameters are in fully connected layers; almost all work is in convolutions.
"""

from math import prod

import numpy as np
from matplotlib.figure import Figure

from figures.style import BLUE, ORANGE
from refnet import nets


def draw(figure: Figure) -> None:
    """Draw both shares as bars, layer by layer."""
    parameters: dict[str, int] = {}
    macs: dict[str, int] = {}
    for node in nets.get("paper").plan(columns=2).nodes:
        if node.params:
            name = node.layer.name
            parameters[name] = parameters.get(name, 0) + sum(map(prod, node.params.values()))
            macs[name] = macs.get(name, 0) + node.macs()
    places = np.arange(len(parameters))
    axis = figure.subplots()
    for shift, sums, colour, label in ((-0.2, parameters, BLUE, "parameters"), (0.2, macs, ORANGE, "multiply-adds")):
        shares = 100 * np.array(list(sums.values())) / sum(sums.values())
        axis.bar(places + shift, shares, width=0.38, color=colour, label=label)
    axis.set_xticks(places, list(parameters))
    axis.set(ylabel="%")
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper left")
