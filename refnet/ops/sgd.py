"""Stochastic gradient descent (SGD) with momentum and weight decay, in the paper's form.

Source
------
Paper, section 5: ``v <- 0.9 v - 0.0005 lr w - lr g`` and ``w <- w + v``, where g is the gradient averaged over
the batch. The authors' program (code2012, ``src/weights.cu``) does the same.

Step
----
With w a parameter, v its velocity (the momentum variable) and g its gradient::

    v <- momentum * v - weight_decay * lr * w - lr * g
    w <- w + v

The first line uses w before the update. ``step_`` does this to one parameter. ``steps_`` does it to a list of
parameters, one after the other; a backend may do all of them at once, since no update depends on another.

Shapes
------
w, v and g all have the same shape, which may be any shape. ``steps_`` takes lists of them, and a list with the weight
decay of each parameter.

Decisions
---------
- The learning rate multiplies the gradient before it enters v, so lowering lr does not at once shrink the velocity
  gathered so far. (PyTorch multiplies v by lr instead; the two are equal while lr is constant.)
- The caller decides which parameters decay: in the paper's recipe weights do and biases do not.

There is no backward: nothing is differentiated through the update.
"""

from collections.abc import Sequence
from math import inf

from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape, require, require_same, require_value

INTERFACE = ("step_", "steps_")
CHANGES = ("w", "v")


def step__shapes(w: Shape, v: Shape, g: Shape, *, lr: float, momentum: float, weight_decay: float) -> tuple[Shape, ...]:
    """Return no shapes, since nothing is returned.

    Raises ``ShapeError`` if shapes differ, and ``ArgumentError`` for an lr, momentum or weight decay that is negative
    or not finite.
    """
    require_same("sgd", w=w, v=v, g=g)
    for name, rate in {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}.items():
        require_value("sgd", 0 <= rate < inf, f"{name} must be finite and at least 0, it is {rate}")
    return ()


@checked
def step_(w: Floats, v: Floats, g: Floats, *, lr: float, momentum: float, weight_decay: float) -> None:
    """Update one parameter w and its velocity v in place."""
    _update(w, v, g, lr, momentum, weight_decay)


def steps__shapes(
    w: Sequence[Shape],
    v: Sequence[Shape],
    g: Sequence[Shape],
    *,
    lr: float,
    momentum: float,
    weight_decays: Sequence[float],
) -> tuple[Shape, ...]:
    """Return no shapes, since nothing is returned.

    Raises ``ShapeError`` if the lists differ in length, and errors as ``step_`` does for each parameter.
    """
    for name, values in {"v": v, "g": g, "weight_decays": weight_decays}.items():
        require("sgd", len(values) == len(w), f"{name} must be as long as w, {len(w)}, it has {len(values)} entries")
    for weights, velocity, gradient, decay in zip(w, v, g, weight_decays, strict=True):
        step__shapes(weights, velocity, gradient, lr=lr, momentum=momentum, weight_decay=decay)
    return ()


@checked
def steps_(
    w: list[Floats],
    v: list[Floats],
    g: list[Floats],
    *,
    lr: float,
    momentum: float,
    weight_decays: Sequence[float],
) -> None:
    """Update every parameter in w and its velocity in v in place."""
    for weights, velocity, gradient, decay in zip(w, v, g, weight_decays, strict=True):
        _update(weights, velocity, gradient, lr, momentum, decay)


def _update(w: Floats, v: Floats, g: Floats, lr: float, momentum: float, weight_decay: float) -> None:
    v *= momentum
    v -= weight_decay * lr * w
    v -= lr * g
    w += v
