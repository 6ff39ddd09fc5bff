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
    """Return the chapter of an op: the module of its name.

    Its functions are those listed in ``INTERFACE``, which every backend offers under the same names, with the same
    parameters and defaults. For each function ``f`` there is a shape rule ``f_shapes``, which takes shapes where ``f``
    takes arrays and returns the shapes of the results, and, where values can be wrong too, a value rule ``f_values``.
    A name that ends in an underscore changes its arguments; every other function returns new arrays.

    Two constants are optional: ``RESIDUALS``, the dtype of each array that ``forward`` returns for ``backward`` beside
    its result, by name; and ``SHORT_NAME``, the op's name in the drawing of a network.
    """
    return import_module(f"{__name__}.{op}")


for _op in OPS:
    chapter(_op)  # so that each is an attribute of this package
