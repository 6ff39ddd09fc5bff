"""The operations of the network: one chapter per operation, with its mathematics and its NumPy source."""

from importlib import import_module
from types import ModuleType

OPS = (
    "conv2d",
    "relu",
    "tanh",
    "conv2d_relu",
    "lrn",
    "rnorm",
    "maxpool",
    "avgpool",
    "linear",
    "linear_relu",
    "augment",
    "dropout",
    "softmax_xent",
    "sgd",
    "philox",
)


def chapter(op: str) -> ModuleType:
    """Return the chapter of an op: the module of that name. Raises ``ModuleNotFoundError`` if there is none.

    Its functions are those listed in ``INTERFACE``. A backend must offer each of them under the same name, with the
    same parameters and defaults. For each function ``f`` the chapter also defines a shape rule ``f_shapes``: it takes
    shapes where ``f`` takes arrays, checks that they fit together, and returns the shapes of the results. Where the
    values of arguments can be wrong too, it defines a value rule ``f_values`` that checks them. Functions whose names
    end in an underscore change the arguments named in ``CHANGES`` in place; all others return new arrays. The
    decorator ``checked`` applies both rules to the arguments of each call.

    Two constants are optional. ``RESIDUALS`` maps the name of each array that ``forward`` returns for ``backward``,
    besides its result, to a dtype. ``SHORT_NAME`` is the op's name in the drawing of a network.

    A chapter whose op has parameters defines ``param_shapes(x, width, kernel, **options)``. It returns the shape of
    each parameter by letter, in the order in which ``forward`` takes them, for a layer of that width and kernel size
    (:class:`refnet.network.plan.Layer`) that reads an array of shape x. Every filter has one bias.
    """
    return import_module(f"{__name__}.{op}")


def __getattr__(name: str) -> ModuleType:
    """Import a chapter when it is first used, so that listing a network's layers and recipe does not import NumPy."""
    if name in OPS:
        return chapter(name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
