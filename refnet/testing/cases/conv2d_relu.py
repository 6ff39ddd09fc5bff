"""Cases of :mod:`refnet.ops.conv2d_relu`: those of conv2d, rectified."""

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
    """Put ReLU after a forward function."""
    return lambda *arrays, **options: relu.forward(forward(*arrays, **options))


def through_relu(backward: Function) -> Function:
    """Put ReLU's gradient before a backward function."""
    return lambda dy, y, *arrays, **options: backward(relu.backward(dy, y), *arrays, **options)


def with_output(make: Callable[[Sizes, Options, Values], Given], letters: str) -> Function:
    """Put an output that ReLU may have made after dy."""

    def arguments(sizes: Sizes, options: Options, values: Values) -> Given:
        given = make(sizes, options, values)
        y = relu.forward(values(*shape(sizes, letters)))
        return {"dy": given.pop("dy"), "y": y, **given}

    return arguments


def _forward_allowed(given: Given, options: Options, _expected: tuple[Any, ...], precision: str) -> tuple[Any, ...]:
    """Rectified numbers differ by no more than the numbers did."""
    return plain.forward_allowed(given, options, (conv2d.forward(*given.values(), **options),), precision)


def _backward_allowed(given: Given, options: Options, expected: tuple[Any, ...], precision: str) -> tuple[Any, ...]:
    through: Array = relu.backward(given["dy"], given["y"])
    return plain.backward_allowed({"dy": through, "x": given["x"], "w": given["w"]}, options, expected, precision)


def rectified_problem(plain: Differentiable) -> Differentiable:
    """Put ReLU after sums of products. With inputs of quarters and biases of odd 32nds no sum comes near its kink."""
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
            "not rectified": conv2d.forward,
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
