"""Time single layers in this process: the layers of column 0, the loss and the update.

A row is one direction of one layer: forward or backward. If an op's backward can omit the gradient of its input
(``need_dx``), its two halves are rows, too: the weight gradient is timed, and the time of the data gradient is the
rest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from refnet import ops
from refnet.backend.interface import Backend, nbytes
from refnet.backend.wrapped import Tapped, arrays_in
from refnet.bench.timing import Timing, Work, in_rounds
from refnet.network.plan import IMAGE, Node, Plan
from refnet.network.walk import SGD_OPTIONS, Visit, labels_of, walk
from refnet.terminal.progress import Show

Host = npt.NDArray[Any]
Amounts = Mapping[str, tuple[int, int]]  # operations and bytes by direction
DATA, WEIGHT = "data gradient", "weight gradient"


class LayerContender(Protocol):
    """A contender, layer by layer. Each method returns functions to time, by direction."""

    name: str

    def layer(self, visit: Visit) -> dict[str, Work]:
        """Return the functions of a layer by direction; empty if the contender has no such layer."""

    def loss(self, z: Host, labels: Host) -> dict[str, Work]:
        """Return the functions of the loss of scores (N,K)."""

    def update(self, params: Mapping[str, Host]) -> dict[str, Work]:
        """Return the function that updates all parameters."""


@dataclass(frozen=True)
class LayerTiming:
    """One direction of one layer.

    Attributes
    ----------
    flops
        Floating-point operations of its products, two for each multiply-add; 0 for an op without products.
    nbytes
        Bytes of the arrays that it reads and writes, each counted once.
    timings
        Times by contender.
    """

    layer: str
    op: str
    direction: str
    flops: int
    nbytes: int
    timings: Mapping[str, Timing]


class BackendLayers:
    """A backend of refnet as a contender."""

    def __init__(self, backend: Backend) -> None:
        self.name = backend.name
        self._backend = backend

    def layer(self, visit: Visit) -> dict[str, Work]:
        """Return the functions of a layer by direction."""
        forward = visit.run(self._backend)
        dy = self._backend.asarray(visit.dy, visit.node.column)
        works = {"forward": self._synchronised(forward), "backward": self._backprop(forward, dy)}
        if has_halves(visit.node):
            # A layer that reads the image does not compute the gradient of its input.
            without_dx = visit.run(self._backend, node=replace(visit.node, inputs=(IMAGE,)))
            works[WEIGHT] = self._backprop(without_dx, dy)
        return works

    def loss(self, z: Host, labels: Host) -> dict[str, Work]:
        """Return the functions of the loss."""
        op, scores, correct = self._backend.softmax_xent, self._backend.asarray(z), self._backend.asarray(labels)
        _, p = op.forward(scores, correct)
        return {
            "forward": self._synchronised(lambda: op.forward(scores, correct)),
            "backward": self._synchronised(lambda: op.backward(p, correct)),
        }

    def update(self, params: Mapping[str, Host]) -> dict[str, Work]:
        """Return the function that updates all parameters."""
        asarray, op = self._backend.asarray, self._backend.sgd
        w, v, g = ([asarray(make(a)) for a in params.values()] for make in (np.array, np.zeros_like, np.ones_like))
        decays = [SGD_OPTIONS["weight_decay"]] * len(w)
        rates = {"lr": SGD_OPTIONS["lr"], "momentum": SGD_OPTIONS["momentum"], "weight_decays": decays}
        return {"update": self._synchronised(lambda: op.steps_(w, v, g, **rates))}

    def _backprop(self, forward: Callable[[], Any], dy: Any) -> Work:
        _, backprop = forward()
        return self._synchronised(lambda: backprop(dy))

    def _synchronised(self, work: Work) -> Work:
        def synchronised() -> None:
            work()
            self._backend.synchronize()

        return synchronised


def time_ops(
    plan: Plan, batch: int, backend: Backend, contenders: Sequence[LayerContender], rounds: int, show: Show
) -> list[LayerTiming]:
    """Return the times of every layer of column 0, the loss and the update; `backend` computes the activations.

    If contenders have the same name (PyTorch in two memory layouts), each row has the time of the faster one.
    """
    nodes = [node for node in plan.nodes if node.column == 0]
    rows: list[LayerTiming] = []

    def add(layer: str, op: str, counted: Amounts, works: Sequence[Mapping[str, Work]]) -> None:
        timings = _timings(counted, [contender.name for contender in contenders], works, rounds)
        rows.extend(LayerTiming(layer, op, name, *amount, timings[name]) for name, amount in counted.items())

    with show.task("layers", len(nodes) + 2) as advance:
        done = 0
        for visit in walk(plan, backend, batch):
            if visit.node.column:
                continue
            layer, op = visit.node.name.partition("@")[0], visit.node.layer.op
            add(layer, op, amounts(visit, backend), [contender.layer(visit) for contender in contenders])
            done += 1
            advance(done, remark=layer)
        z = np.random.default_rng(3).standard_normal((batch, *plan.nodes[-1].shape), np.float32)
        labels, once = labels_of(plan, batch), (0, 2 * z.nbytes)
        add("loss", "softmax_xent", {"forward": once, "backward": once}, [c.loss(z, labels) for c in contenders])
        advance(done + 1, remark="loss")
        params = {
            f"{node.name}.{letter}": np.full(shape, 0.01, np.float32)
            for node in nodes
            for letter, shape in node.params.items()
        }
        moved = 5 * sum(a.nbytes for a in params.values())  # w, v and g are read, w and v written
        add("update", "sgd", {"update": (0, moved)}, [contender.update(params) for contender in contenders])
    return rows


def _timings(
    directions: Iterable[str], names: Sequence[str], works: Sequence[Mapping[str, Work]], rounds: int
) -> dict[str, dict[str, Timing]]:
    """Return times by direction and contender. Directions are timed one by one, with the contenders in turn."""
    timings_of: dict[str, dict[str, Timing]] = {}
    for direction in directions:
        best = timings_of[direction] = {}
        if direction == DATA:
            continue
        timings = in_rounds({i: work[direction] for i, work in enumerate(works) if direction in work}, rounds)
        for i, timing in timings.items():
            if names[i] not in best or timing.minimum < best[names[i]].minimum:
                best[names[i]] = timing
    if DATA in timings_of:
        differences = {name: timings_of["backward"][name] - timings_of[WEIGHT][name] for name in timings_of[WEIGHT]}
        timings_of[DATA] = {name: timing for name, timing in differences.items() if timing}
    return timings_of


def amounts(visit: Visit, backend: Backend) -> Amounts:
    """Return each direction's operations, and the bytes of the arrays that its ops read and write."""
    tapped = Tapped(backend)
    _, backprop = visit.run(cast("Backend", tapped))()
    forward = _moved(tapped) or 2 * visit.dy.nbytes  # a gather calls no op: it reads as many bytes as it writes
    backprop(backend.asarray(visit.dy, visit.node.column))
    backward = _moved(tapped) or 2 * visit.dy.nbytes
    product = 2 * visit.node.macs() * len(visit.dy)
    reads_image = visit.node.inputs == (IMAGE,)
    amount_of = {"forward": (product, forward), "backward": (product if reads_image else 2 * product, backward)}
    if has_halves(visit.node):
        x, w, dw = visit.inputs[0].nbytes, visit.params["w"].nbytes, sum(a.nbytes for a in visit.params.values())
        # The weight gradient uses neither w nor dx, and the data gradient neither x nor dw and db.
        amount_of |= {DATA: (product, backward - x - dw), WEIGHT: (product, backward - x - w)}
    return amount_of


def _moved(tapped: Tapped) -> int:
    """Return the bytes of the arrays of all recorded calls, and forget these calls."""
    arrays = [a for call in tapped.calls for a in arrays_in((*call.arguments.values(), *call.results))]
    tapped.calls.clear()
    return sum(map(nbytes, arrays))


def has_halves(node: Node) -> bool:
    """Return whether the layer's backward can omit the gradient of its input."""
    backward = getattr(getattr(ops, node.layer.op, None), "backward", None)
    return node.inputs != (IMAGE,) and backward is not None and "need_dx" in signature(backward).parameters
