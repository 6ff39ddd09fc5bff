"""The textbook: one chapter for each operation of the network, in the paper's order.

Every chapter is a module with the functions it lists in ``INTERFACE`` (what a backend must offer under the same
names, with the same parameters and defaults), and for each of them, ``f``, a shape rule ``f_shapes`` that takes
shapes where ``f`` takes arrays and returns the shapes of the results, and, where values can be wrong too, a value
rule ``f_values``.

A name ending in an underscore changes its arguments; every other function returns fresh arrays.
"""

from refnet.ops import (
    augment,
    conv2d,
    conv2d_relu,
    dropout,
    linear,
    linear_relu,
    lrn,
    maxpool,
    philox,
    relu,
    sgd,
    softmax_xent,
    tanh,
)

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

__all__ = [
    "OPS",
    "augment",
    "conv2d",
    "conv2d_relu",
    "dropout",
    "linear",
    "linear_relu",
    "lrn",
    "maxpool",
    "philox",
    "relu",
    "sgd",
    "softmax_xent",
    "tanh",
]
