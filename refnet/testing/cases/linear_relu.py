"""Cases of :mod:`refnet.ops.linear_relu`: those of linear, followed by ReLU."""

from dataclasses import replace
from typing import Any

from refnet.ops import linear, relu
from refnet.testing.call import Options
from refnet.testing.cases import linear as plain
from refnet.testing.cases._case import Case, Given
from refnet.testing.cases.conv2d_relu import rectified, rectified_problem, through_relu, with_output


def _forward_allowed(given: Given, options: Options, _expected: tuple[Any, ...], precision: str) -> tuple[Any, ...]:
    return plain.forward_allowed(given, options, (linear.forward(*given.values()),), precision)


def _backward_allowed(given: Given, options: Options, expected: tuple[Any, ...], precision: str) -> tuple[Any, ...]:
    dsum = relu.backward(given["dy"], given["y"])
    return plain.backward_allowed({"dy": dsum, "x": given["x"], "w": given["w"]}, options, expected, precision)


_FORWARD, _BACKWARD = plain.CASES

CASES: tuple[Case, ...] = (
    replace(
        _FORWARD,
        op="linear_relu",
        allowed=_forward_allowed,
        mutants={
            "ReLU forgotten": linear.forward,
            "bias after ReLU": lambda x, w, b: relu.forward(linear.forward(x, w, 0 * b)) + b,
        }
        | {name: rectified(mutant) for name, mutant in _FORWARD.mutants.items()},
    ),
    replace(
        _BACKWARD,
        op="linear_relu",
        make=with_output(_BACKWARD.make, "NK"),
        allowed=_backward_allowed,
        differentiable=lambda *drawn: rectified_problem(plain.differentiable(*drawn)),
        mutants={
            "ReLU forgotten": lambda dy, _y, x, w: linear.backward(dy, x, w),
            "multiplied by y": lambda dy, y, x, w: linear.backward(dy * y, x, w),
        }
        | {name: through_relu(mutant) for name, mutant in _BACKWARD.mutants.items()},
        refusals={
            "dy must have the shape of y": {"dy": (2, 4), "y": (2, 3), "x": (2, 4), "w": (3, 4)},
            "w must have x's 5 columns": {"dy": (2, 3), "y": (2, 3), "x": (2, 5), "w": (3, 4)},
        },
    ),
)
