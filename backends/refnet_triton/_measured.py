"""How long each op of a training step takes on the GPU at hand, to stand beside its floor (:mod:`.floor`).

An op is timed by itself, with the arrays that the step gave it: recorded in a CUDA graph several times over, so that
no launch waits for Python, and the graph timed by events of the GPU. What fits into the chip's cache stays there from
one repetition to the next, so a small op may come below the time in which memory could move its arrays.
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


def measure(
    plan: Plan, batch: int, backend: Any, name: Callable[[OpCall], str], seconds: Seconds | None = None
) -> dict[str, float]:
    """Time every op of one training step; return the seconds of all calls that `name` gives the same name.

    Parameters
    ----------
    backend
        One with both columns on one device.
    seconds
        Times a function; by default on a GPU.
    """
    timed = _Timed(backend, name, seconds or _seconds)
    labels = backend.asarray(labels_of(plan, batch))
    images = passes.place(plan, images_of(plan, batch), backend)
    training = begin(plan, cast("Backend", timed))
    _, kept = training.forward(images, labels, step=1)
    training.update(training.backward(kept), lr=1e-6)
    return timed.found


class _Timed(Wrapped):
    """A backend that times each call of an op, and each sum of two gradients, after it has been made."""

    def __init__(self, inner: Any, name: Callable[[OpCall], str], seconds: Seconds) -> None:
        super().__init__(inner)
        self._name, self._seconds = name, seconds
        self.found: dict[str, float] = {}

    def add(self, a: Any, b: Any) -> Any:
        """Add two gradients that meet."""
        total = self.inner.add(a, b)
        self._note("gradients that meet", lambda: self.inner.add(a, b))
        return total

    def around(self, op: str, name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Call, then time the same call."""
        result = function(**arguments)
        self._note(self._name(OpCall(op, name, arguments, results_of(result))), lambda: function(**arguments))
        return result

    def _note(self, what: str, call: Callable[[], object]) -> None:
        self.found[what] = self.found.get(what, 0.0) + self._seconds(call)


def _seconds(call: Callable[[], object]) -> float:
    import triton.testing  # noqa: PLC0415 - it asks for a GPU

    return float(triton.testing.do_bench_cudagraph(call, return_mode="median")) / 1e3
