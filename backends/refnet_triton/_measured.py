"""Measured times of each op of a training step on this machine's GPU, for comparison with its lower bound (`floor`).

Each op is timed alone, with the arrays of the step. It is recorded several times in a CUDA graph, so that no launch
waits for Python, and the graph is timed with events of the GPU. Data that fit in the chip's cache stay there between
repetitions. So a small op may take less time than its lower bound, which assumes that data come from memory.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from refnet.backend.wrapped import OpCall, Wrapped, results_of
from refnet.network import passes
from refnet.network.plan import Plan
from refnet.network.walk import images_of, labels_of
from refnet.training.step import begin

if TYPE_CHECKING:
    from refnet.backend.interface import Backend

Seconds = Callable[[Callable[[], object]], float]

ADDITION = "addition of gradients"  # of the same array, from both columns: the one row that is not of an op


def measure(
    plan: Plan, batch: int, backend: Any, name: Callable[[OpCall], str], seconds: Seconds | None = None
) -> dict[str, float]:
    """Return the time in seconds of every op of one training step, added up over calls with the same name.

    Parameters
    ----------
    backend
        A backend with both columns on one device.
    name
        Returns the name of a call.
    seconds
        Returns the time of a function in seconds; by default measured on a GPU.
    """
    timed = _Timed(backend, name, seconds or graph_seconds)
    labels = backend.asarray(labels_of(plan, batch))
    images = passes.place(plan, images_of(plan, batch), backend)
    training = begin(plan, cast("Backend", timed))
    _, kept = training.forward(images, labels, step=1)
    training.update(training.backward(kept), lr=1e-6)
    return timed.times


class _Timed(Wrapped):
    """A backend that times each call of an op and each addition of two gradients, by repeating it.

    Attributes
    ----------
    times
        Seconds of all calls so far, by name.
    """

    def __init__(self, inner: Any, name: Callable[[OpCall], str], seconds: Seconds) -> None:
        super().__init__(inner)
        self._name, self._seconds = name, seconds
        self.times: dict[str, float] = {}

    def add(self, a: Any, b: Any) -> Any:
        """Return a + b, and time it."""
        total = self.inner.add(a, b)
        self._note(ADDITION, lambda: self.inner.add(a, b))
        return total

    def around(self, op: str, name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Return the results of a call, and time it."""
        result = function(**arguments)
        self._note(self._name(OpCall(op, name, arguments, results_of(result))), lambda: function(**arguments))
        return result

    def _note(self, name: str, call: Callable[[], object]) -> None:
        """Add the time of a call to those of the same name."""
        self.times[name] = self.times.get(name, 0.0) + self._seconds(call)


def graph_seconds(call: Callable[[], object]) -> float:
    """Return the median time of a call on the GPU in seconds, recorded several times in a CUDA graph."""
    import triton.testing  # noqa: PLC0415 - it needs a GPU

    return float(triton.testing.do_bench_cudagraph(call, return_mode="median")) / 1e3
