"""Check backward functions by central differences in float64: <dy, J v> = <gradient, v>.

For each input alone, J v is measured along a random v and, if the input is small, along every coordinate. Inputs are at
least 0.5 away from zero and differ from each other by more than a step, so that no step crosses a kink of ReLU or of
max-pooling. Numbers that are multiplied are fractions whose denominators are powers of two, so that the differences of
a linear op are exact.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from refnet.testing.call import Array

STEP = 2.0**-20  # about 1e-6, and exact in binary
MAX_COORDINATES = 40  # largest input for which every element is a direction, too
CURVED_TOLERANCE, LINEAR_TOLERANCE = 1e-6, 1e-8  # relative to |dy| |J v|, for ops that are curved or linear
ROUNDING_TOLERANCE = 4 * float(np.finfo(np.float64).eps) / STEP  # rounding error of a difference, relative to |y|


@dataclass(frozen=True)
class Differentiable:
    """A function of arrays, and how a chapter's ``backward`` is called for its gradients.

    Parameters
    ----------
    pull
        ``pull(backward, dy, *inputs)`` returns the gradient of each input, in order.
    tolerance
        Largest allowed error, relative to |dy| |J v|.
    """

    f: Callable[..., Array]
    inputs: tuple[Array, ...]
    pull: Callable[..., Any]
    tolerance: float


def check(problem: Differentiable, backward: Callable[..., Any], rng: np.random.Generator) -> None:
    """Fail unless `backward` returns the gradients that finite differences measure."""
    y = problem.f(*problem.inputs)
    dy = np.asarray(rng.integers(1, 9, y.shape) * rng.choice([-1.0, 1.0], y.shape))
    gradients = problem.pull(backward, dy, *problem.inputs)
    for i, (x, gradient) in enumerate(zip(problem.inputs, gradients, strict=True)):
        assert gradient.shape == x.shape, f"the gradient of input {i} has shape {gradient.shape}, not {x.shape}"
        for name, v in _directions(x, rng):
            jv = _difference(problem, i, v)
            measured, computed = float((dy * jv).sum()), float((gradient * v).sum())
            allowed = np.linalg.norm(dy) * (
                problem.tolerance * np.linalg.norm(jv) + ROUNDING_TOLERANCE * np.linalg.norm(y)
            )
            message = (
                f"input {i} along {name}: backward gives {computed!r}, finite differences {measured!r} ± {allowed:.1e}"
            )
            assert abs(measured - computed) <= allowed, message


def _directions(x: Array, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    yield "a random direction", rng.integers(16, 65, x.shape) / 64 * rng.choice([-1, 1], x.shape)
    for i in range(x.size if x.size <= MAX_COORDINATES else 0):
        yield f"its element {i}", np.eye(1, x.size, i).reshape(x.shape)


def _difference(problem: Differentiable, i: int, v: Array) -> Array:
    """Measure J v for the i-th input."""
    before, after = list(problem.inputs), list(problem.inputs)
    before[i], after[i] = before[i] - STEP * v, after[i] + STEP * v
    return (problem.f(*after) - problem.f(*before)) / (2 * STEP)


def spread(rng: np.random.Generator, *lengths: int) -> Array:
    """Draw distinct numbers with random signs and absolute values from 0.5 to 2."""
    size = prod(lengths)
    steps = np.linspace(0.5, 2, size) * rng.choice([-1, 1], size)
    return rng.permutation(steps).reshape(lengths)


def rounded_spread(rng: np.random.Generator, *lengths: int) -> Array:
    """Draw as `spread` does, rounded to 16 bits, so that sums of products with a step are exact in float64."""
    return np.asarray(np.round(spread(rng, *lengths) * 2**15) / 2**15)
