"""Check backward functions by central differences in float64: <dy, J v> = <gradient, v>.

For each input alone, J v is measured along a random v and, where the input is small, along every coordinate. Inputs
stay half a unit from zero and further from each other than a step reaches, so that none crosses a kink of ReLU or of
max-pooling. Where numbers are multiplied they are fractions with a power of two below, so that the differences of a
linear op are exact.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from refnet import ops
from refnet.testing.call import Array, Options, Sizes
from refnet.testing.strategies import shape

STEP = 2.0**-20  # 1e-6, but for being exact in binary
FEW = 40  # elements of which each one is a direction
CURVED, LINEAR = 1e-6, 1e-8  # relative to |dy| |J v|
ROUNDING = 4 * float(np.finfo(np.float64).eps) / STEP  # of a difference, relative to |y|


@dataclass(frozen=True)
class Differentiable:
    """A function of arrays, and how its gradients follow from a chapter's ``backward``.

    Parameters
    ----------
    pull
        ``pull(backward, dy, *inputs)``: the gradient of each input, in order.
    """

    f: Callable[..., Array]
    inputs: tuple[Array, ...]
    pull: Callable[..., Any]
    tolerance: float


def check(problem: Differentiable, backward: Callable[..., Any], rng: np.random.Generator) -> None:
    """Fail unless `backward` gives the gradients that differences measure."""
    y = problem.f(*problem.inputs)
    dy = np.asarray(rng.integers(1, 9, y.shape) * rng.choice([-1.0, 1.0], y.shape))
    gradients = problem.pull(backward, dy, *problem.inputs)
    for i, (x, gradient) in enumerate(zip(problem.inputs, gradients, strict=True)):
        assert gradient.shape == x.shape, f"the gradient of input {i} has shape {gradient.shape}, not {x.shape}"
        for name, v in _directions(x, rng):
            jv = _difference(problem, i, v)
            measured, told = float((dy * jv).sum()), float((gradient * v).sum())
            allowed = np.linalg.norm(dy) * (problem.tolerance * np.linalg.norm(jv) + ROUNDING * np.linalg.norm(y))
            message = f"input {i} along {name}: backward says {told!r}, differences say {measured!r} ± {allowed:.1e}"
            assert abs(measured - told) <= allowed, message


def _directions(x: Array, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    yield "a random direction", rng.integers(16, 65, x.shape) / 64 * rng.choice([-1, 1], x.shape)
    for i in range(x.size if x.size <= FEW else 0):
        yield f"its element {i}", np.eye(1, x.size, i).reshape(x.shape)


def _difference(problem: Differentiable, i: int, v: Array) -> Array:
    """Measure J v for the i-th input."""
    before, after = list(problem.inputs), list(problem.inputs)
    before[i], after[i] = before[i] - STEP * v, after[i] + STEP * v
    return (problem.f(*after) - problem.f(*before)) / (2 * STEP)


def spread(rng: np.random.Generator, *lengths: int) -> Array:
    """Draw different numbers of either sign, from half to two."""
    size = prod(lengths)
    steps = np.linspace(0.5, 2, size) * rng.choice([-1, 1], size)
    return rng.permutation(steps).reshape(lengths)


def short(rng: np.random.Generator, *lengths: int) -> Array:
    """Draw the same, rounded to 16 bits, so that sums of products with a step are exact in float64."""
    return np.asarray(np.round(spread(rng, *lengths) * 2**15) / 2**15)


def _conv2d(sizes: Sizes, options: Options, rng: np.random.Generator) -> Differentiable:
    inputs = tuple(short(rng, *shape(sizes, letters)) for letters in ("NCHW", "KCRS", "K"))
    window = {name: options[name] for name in ("stride", "pad", "ceil")}
    return Differentiable(
        lambda x, w, b: ops.conv2d.forward(x, w, b, **window),
        inputs,
        lambda backward, dy, x, w, _b: backward(dy, x, w, **window),
        LINEAR,
    )


def _conv2d_relu(sizes: Sizes, options: Options, rng: np.random.Generator) -> Differentiable:
    return _rectified(_conv2d(sizes, options, rng))


def _linear_relu(sizes: Sizes, options: Options, rng: np.random.Generator) -> Differentiable:
    return _rectified(_linear(sizes, options, rng))


def _rectified(plain: Differentiable) -> Differentiable:
    """Put ReLU after sums of products. With inputs of quarters and biases of odd 32nds no sum comes near its kink."""
    x, w, b = plain.inputs

    def f(x: Array, w: Array, b: Array) -> Array:
        return ops.relu.forward(plain.f(x, w, b))

    def pull(backward: Callable[..., Any], dy: Array, x: Array, w: Array, b: Array) -> Any:
        return plain.pull(lambda dy, *others, **options: backward(dy, f(x, w, b), *others, **options), dy, x, w, b)

    inputs = np.round(4 * x) / 4, np.round(4 * w) / 4, np.round(16 * b) / 16 + 1 / 32
    return Differentiable(f, inputs, pull, plain.tolerance)


def _relu(sizes: Sizes, _options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    return Differentiable(ops.relu.forward, (x,), lambda backward, dy, x: [backward(dy, ops.relu.forward(x))], LINEAR)


def _tanh(sizes: Sizes, _options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    return Differentiable(ops.tanh.forward, (x,), lambda backward, dy, x: [backward(dy, ops.tanh.forward(x))], CURVED)


def _lrn(sizes: Sizes, options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    return Differentiable(
        lambda x: ops.lrn.forward(x, **options)[0],
        (x,),
        lambda backward, dy, x: [backward(dy, x, *ops.lrn.forward(x, **options), **options)],
        CURVED,
    )


def _maxpool(sizes: Sizes, options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    window = {name: options[name] for name in ("size", "stride", "ceil")}

    def pull(backward: Callable[..., Any], dy: Array, x: Array) -> list[Array]:
        return [backward(dy, ops.maxpool.forward(x, **window)[1], x_shape=x.shape, **window)]

    return Differentiable(lambda x: ops.maxpool.forward(x, **window)[0], (x,), pull, LINEAR)


def _linear(sizes: Sizes, _options: Options, rng: np.random.Generator) -> Differentiable:
    x = short(rng, *shape(sizes, "NCHW" if "C" in sizes else "ND"))
    return Differentiable(
        ops.linear.forward,
        (x, short(rng, *shape(sizes, "KD")), short(rng, *shape(sizes, "K"))),
        lambda backward, dy, x, w, _b: backward(dy, x, w),
        LINEAR,
    )


def _dropout(sizes: Sizes, options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    return Differentiable(
        lambda x: ops.dropout.forward(x, **options),
        (x,),
        lambda backward, dy, _x: [backward(dy, **options)],
        LINEAR,
    )


def _softmax_xent(sizes: Sizes, _options: Options, rng: np.random.Generator) -> Differentiable:
    labels = rng.integers(0, sizes["K"], sizes["N"])
    return Differentiable(
        lambda z: ops.softmax_xent.forward(z, labels)[0],
        (spread(rng, *shape(sizes, "NK")),),
        lambda backward, dy, z: [dy * backward(ops.softmax_xent.forward(z, labels)[1], labels)],
        CURVED,
    )


DIFFERENTIABLE: dict[str, Callable[[Sizes, Options, np.random.Generator], Differentiable]] = {
    "conv2d": _conv2d,
    "relu": _relu,
    "tanh": _tanh,
    "conv2d_relu": _conv2d_relu,
    "lrn": _lrn,
    "maxpool": _maxpool,
    "linear": _linear,
    "linear_relu": _linear_relu,
    "dropout": _dropout,
    "softmax_xent": _softmax_xent,
}
