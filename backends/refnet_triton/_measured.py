"""How long each op of a training step takes on the GPU at hand, to stand beside its floor (:mod:`.floor`).

An op is timed by itself, with the arrays that the step gave it: recorded in a CUDA graph several times over, so that
no launch waits for Python, and the graph timed by events of the GPU. What fits into the chip's cache stays there from
one repetition to the next, so a small op may come below the time in which memory could move its arrays.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from refnet.config import configure
from refnet.network import passes
from refnet.network.initial import initialise
from refnet.network.plan import Plan
from refnet.network.walk import RANDOM_KEY, Called, Tapped, images_of, labels_of
from refnet.training.step import update

if TYPE_CHECKING:
    from refnet.backend.interface import Backend

Seconds = Callable[[Callable[[], object]], float]


def measure(
    plan: Plan, batch: int, backend: Any, name: Callable[[Called], str], seconds: Seconds | None = None
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
    host = initialise(plan, seed=0)
    params, velocities = (passes.place_params(plan, host, backend) for _ in range(2))
    labels = backend.asarray(labels_of(plan, batch))
    images = passes.place(plan, images_of(plan, batch), backend)
    tape = passes.forward(plan, params, images, cast("Backend", timed), random_key=RANDOM_KEY)
    _, p = timed.softmax_xent.forward(tape.output, labels)
    gradients = passes.backward(tape, timed.softmax_xent.backward(p, labels))
    update(plan, params, velocities, gradients, cast("Backend", timed), 1e-6, configure(weight_decay=5e-4))
    return timed.found


class _Timed(Tapped):
    """A backend that times each call of an op, and each meeting of gradients, when it has been made."""

    def __init__(self, backend: Any, name: Callable[[Called], str], seconds: Seconds) -> None:
        self._name, self._seconds = name, seconds
        self.found: dict[str, float] = {}
        super().__init__(backend)

    def add(self, a: Any, b: Any) -> Any:
        """Add two gradients that meet."""
        self._note("gradients that meet", lambda: self._backend.add(a, b))
        return self._backend.add(a, b)

    def _tap(self, op: str, name: str, reference: Callable[..., Any]) -> Callable[..., Any]:
        tapped, function = super()._tap(op, name, reference), getattr(getattr(self._backend, op), name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            result = tapped(*args, **kwargs)
            self._note(self._name(self.calls.pop()), lambda: function(*args, **kwargs))
            return result

        return timed

    def _note(self, what: str, call: Callable[[], object]) -> None:
        self.found[what] = self.found.get(what, 0.0) + self._seconds(call)


def _seconds(call: Callable[[], object]) -> float:
    import triton.testing  # noqa: PLC0415 - it asks for a GPU

    return float(triton.testing.do_bench_cudagraph(call, return_mode="median")) / 1e3
