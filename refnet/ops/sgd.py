r"""Stochastic gradient descent with momentum and weight decay, in the paper's form.

Source
------
Paper, section 5: ``v <- 0.9 v - 0.0005 lr w - lr g`` and ``w <- w + v``, where g is the gradient averaged over
the batch; code2012 ``src/weights.cu`` is the same.

Step
----
::

    v <- momentum * v - weight_decay * lr * w - lr * g
    w <- w + v

Both terms of the new v read the old w. ``steps_`` does this to one parameter after the other; a backend may do all
of them at once, since none reads another.

Shapes
------
w, v and g have one shape, any shape. ``steps_`` takes lists of them, and a weight decay for each parameter.

Decisions
---------
The learning rate stands inside v, so lowering it does not shrink the momentum gathered so far at once (PyTorch
keeps it outside; the two agree while lr is constant). Which parameters decay is the caller's business: in the
paper's recipe weights do and biases do not.

No backward: nothing is differentiated through the update.
"""

from collections.abc import Sequence
from math import inf

from refnet.ops._rules import Floats, Shape, require, require_same, require_value

INTERFACE = ("step_", "steps_")


def step__shapes(w: Shape, v: Shape, g: Shape, *, lr: float, momentum: float, weight_decay: float) -> tuple[Shape, ...]:
    """Shape rule: nothing is returned. Raises ``ArgumentError`` for a rate that is negative or not finite."""
    require_same("sgd", w=w, v=v, g=g)
    for name, rate in {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}.items():
        require_value("sgd", 0 <= rate < inf, f"{name} must be finite and at least 0, it is {rate}")
    return ()


def step_(w: Floats, v: Floats, g: Floats, *, lr: float, momentum: float, weight_decay: float) -> None:
    """Update w and v in place."""
    v *= momentum
    v -= weight_decay * lr * w
    v -= lr * g
    w += v


def steps__shapes(
    w: Sequence[Shape],
    v: Sequence[Shape],
    g: Sequence[Shape],
    *,
    lr: float,
    momentum: float,
    weight_decays: Sequence[float],
) -> tuple[Shape, ...]:
    """Shape rule: that of ``step_`` for each parameter. Raises ``ShapeError`` for lists that differ in length, too."""
    for name, values in {"v": v, "g": g, "weight_decays": weight_decays}.items():
        require("sgd", len(values) == len(w), f"{name} must be as many as w, {len(w)}, they are {len(values)}")
    for one, velocity, gradient, decay in zip(w, v, g, weight_decays, strict=True):
        step__shapes(one, velocity, gradient, lr=lr, momentum=momentum, weight_decay=decay)
    return ()


def steps_(
    w: list[Floats],
    v: list[Floats],
    g: list[Floats],
    *,
    lr: float,
    momentum: float,
    weight_decays: Sequence[float],
) -> None:
    """Update each w and v in place."""
    for one, velocity, gradient, decay in zip(w, v, g, weight_decays, strict=True):
        step_(one, velocity, gradient, lr=lr, momentum=momentum, weight_decay=decay)
