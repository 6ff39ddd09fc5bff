"""Cases of :mod:`refnet.ops.conv2d_relu`: those of conv2d, followed by ReLU."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refnet.ops import conv2d, relu
from refnet.testing.call import Array, Options, Sizes, Values
from refnet.testing.cases import conv2d as plain
from refnet.testing.cases._case import Given
from refnet.testing.gradients import Differentiable
from refnet.testing.strategies import shape

Function = Callable[..., Any]


def rectified(forward: Function) -> Function:
    """Return a forward function that applies ReLU to the result of the given one."""
    return lambda *arrays, **options: relu.forward(forward(*arrays, **options))


def through_relu(backward: Function) -> Function:
    """Return a backward function that takes the gradient through ReLU, then calls the given one."""
    return lambda dy, y, *arrays, **options: backward(relu.backward(dy, y), *arrays, **options)


def with_output(make: Callable[[Sizes, Options, Values], Given], letters: str) -> Function:
    """Return a function that makes the given arguments with y, a possible output of ReLU, after dy."""

    def arguments(sizes: Sizes, options: Options, values: Values) -> Given:
        given = make(sizes, options, values)
        y = relu.forward(values(*shape(sizes, letters)))
        return {"dy": given.pop("dy"), "y": y, **given}

    return arguments


def _forward_allowed(given: Given, options: Options, _expected: tuple[Any, ...], precision: str) -> tuple[Any, ...]:
    """Return the bound of the convolution: ReLU never increases the difference of two numbers."""
    return plain.forward_allowed(given, options, (conv2d.forward(*given.values(), **options),), precision)


def _backward_allowed(given: Given, options: Options, expected: tuple[Any, ...], precision: str) -> tuple[Any, ...]:
    dsum: Array = relu.backward(given["dy"], given["y"])
    return plain.backward_allowed({"dy": dsum, "x": given["x"], "w": given["w"]}, options, expected, precision)


def rectified_problem(plain: Differentiable) -> Differentiable:
    """Return a differentiable op with ReLU after its sums.

    x and w are rounded to quarters and b to odd multiples of 1/32, so no sum is nearer than 1/32 to 0, where ReLU has
    no derivative.
    """
    x, w, b = plain.inputs

    def f(x: Array, w: Array, b: Array) -> Array:
        y: Array = relu.forward(plain.f(x, w, b))
        return y

    def pull(backward: Function, dy: Array, x: Array, w: Array, b: Array) -> Any:
        return plain.pull(lambda dy, *others, **options: backward(dy, f(x, w, b), *others, **options), dy, x, w, b)

    inputs = np.round(4 * x) / 4, np.round(4 * w) / 4, np.round(16 * b) / 16 + 1 / 32
    return Differentiable(f, inputs, pull, plain.tolerance)


_FORWARD, _BACKWARD = plain.CASES

CASES = (
    replace(
        _FORWARD,
        op="conv2d_relu",
        allowed=_forward_allowed,
        mutants={
            "ReLU forgotten": conv2d.forward,
            "bias after ReLU": lambda x, w, b, **options: (
                relu.forward(conv2d.forward(x, w, 0 * b, **options)) + b[:, None, None]
            ),
        }
        | {name: rectified(mutant) for name, mutant in _FORWARD.mutants.items()},
    ),
    replace(
        _BACKWARD,
        op="conv2d_relu",
        make=with_output(_BACKWARD.make, "NKPQ"),
        allowed=_backward_allowed,
        differentiable=lambda *drawn: rectified_problem(plain.differentiable(*drawn)),
        mutants={
            "ReLU forgotten": lambda dy, _y, x, w, **options: conv2d.backward(dy, x, w, **options),
            "multiplied by y": lambda dy, y, x, w, **options: conv2d.backward(dy * y, x, w, **options),
        }
        | {name: through_relu(mutant) for name, mutant in _BACKWARD.mutants.items()},
        refusals={
            "dy must have the shape of y": {"dy": (2, 4, 4, 7), "y": (2, 4, 4, 8), "x": plain.X, "w": plain.W}
            | plain.FLAT,
            "w must have x's 3 channels": {"dy": (2, 4, 4, 8), "y": (2, 4, 4, 8), "x": plain.X, "w": (4, 2, 2, 2)}
            | plain.FLAT,
        },
    ),
)
