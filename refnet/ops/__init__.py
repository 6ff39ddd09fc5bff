"""The operations of the network: one chapter per operation, with its mathematics and its NumPy source."""

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
