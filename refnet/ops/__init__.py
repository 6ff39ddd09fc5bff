"""The textbook: one chapter for each operation of the network, in the paper's order.

Every chapter is a module with the functions it lists in ``INTERFACE`` (what a backend must offer under the same
names, with the same parameters and defaults), and for each of them, ``f``, a shape rule ``f_shapes`` that takes
shapes where ``f`` takes arrays and returns the shapes of the results, and, where values can be wrong too, a value
rule ``f_values``.

A name ending in an underscore changes its arguments; every other function returns fresh arrays.
"""

from importlib import import_module
from types import ModuleType

OPS = (
    "conv2d",
    "relu",
    "tanh",
    "conv2d_relu",
    "lrn",
    "maxpool",
    "linear",
    "linear_relu",
    "augment",
    "dropout",
    "softmax_xent",
    "sgd",
    "philox",
)


def chapter(op: str) -> ModuleType:
    """Return the chapter of an op: the module of its name."""
    return import_module(f"{__name__}.{op}")


for _op in OPS:
    chapter(_op)  # so that each is an attribute of this package
