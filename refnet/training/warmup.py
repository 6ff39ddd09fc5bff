"""Compile all functions that training and testing need, by taking a training step and a test pass of each network."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from refnet.backend.interface import Array, Backend
from refnet.backend.loading import load
from refnet.data.crops import centre
from refnet.data.dataset import Labels
from refnet.machine.compiling import noted
from refnet.machine.doctor import doctor_of
from refnet.nets import NetSpec
from refnet.network import passes
from refnet.network.plan import Plan
from refnet.network.walk import labels_of
from refnet.terminal.progress import Show
from refnet.training.step import restore

# Kernels may differ between many images, as in training, and one.
TRAINING_IMAGES, TEST_IMAGES = 8, 1


@dataclass(frozen=True)
class Warmth:
    """The result of a warm-up.

    Attributes
    ----------
    seconds
        The time it took, including loading the backend.
    compiled
        How many functions it added to the cache.
    held
        How many functions the cache has now.
    directory
        The folder of the cache; None if the backend cannot keep machine code or does not.
    keeps
        Whether the backend can keep machine code.
    """

    backend: str
    seconds: float
    compiled: int
    held: int
    directory: str | None
    keeps: bool

    def as_dict(self) -> dict[str, Any]:
        """Return everything as a dict for JSON."""
        return asdict(self)


def warm_up(name: str, specs: Sequence[NetSpec], show: Show) -> Warmth:
    """Take one training step with several images and one test pass with one image of each network.

    The functions that are compiled depend on the kinds of arrays, and hardly on their lengths.
    """
    began = time.monotonic()
    backend = load(name, columns=max(spec.columns for spec in specs), checked=False)
    doctor = doctor_of(backend)
    before = doctor.fullness() if doctor else None
    with noted(show, backend), show.task("warming up", 2 * len(specs)) as advance:
        for done, spec in enumerate(specs):
            plan = spec.plan()
            zeros = {key: np.zeros(shape, np.float32) for key, shape in plan.param_shapes().items()}
            # Parameters may be zero: drawing those of a large net would take longer than everything else.
            training = restore(plan, backend, zeros, zeros)
            advance(2 * done, remark=f"{spec.name}, training")
            training.take(*_images(plan, TRAINING_IMAGES, backend), lr=0.01, step=1)
            advance(2 * done + 1, remark=f"{spec.name}, testing")
            images, labels = _images(plan, TEST_IMAGES, backend)
            tape = passes.forward(plan, training.params, images, backend, record=False)
            backend.softmax_xent.forward(tape.output, backend.asarray(labels))
            backend.synchronize()
    after = doctor.fullness() if doctor else None
    held = after["functions"] if after else 0
    return Warmth(
        backend.name,
        time.monotonic() - began,
        held - before["functions"] if before else 0,
        held,
        str(doctor.cache()) if doctor and after else None,
        doctor is not None,
    )


def _images(plan: Plan, count: int, backend: Backend) -> tuple[list[Array], Labels]:
    """Return black images, once for each column, and their labels."""
    channels, height, width = plan.input_shape
    shape = (height, width, channels)
    pixels, mean = np.zeros((count, *shape), np.uint8), np.zeros(shape, np.float32)
    draws = centre(count, shape, (height, width))
    return passes.place_bytes(plan, pixels, mean, draws, backend), labels_of(plan, count)
