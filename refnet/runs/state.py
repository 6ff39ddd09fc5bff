"""Where a training run stands, beside its arrays: all that the steps to come depend on, and how it has gone so far.

Whatever is random in training is a pure function of the seed and of the numbers here, so these few numbers and the
arrays are the whole of a run. They are made anew, never changed in place, so that a thread may write them down.
"""

from dataclasses import dataclass
from typing import Any

from refnet.nets import NetSpec


@dataclass(frozen=True)
class Rate:
    """The learning rate, and what must be known to decide on the next one.

    Attributes
    ----------
    best
        Lowest validation error so far; None before the first.
    waited
        Epochs since it was reached, or since the rate fell.
    drops
        How often the rate has fallen.
    finished
        The error has stopped improving and the rate may not fall again.
    """

    lr: float
    best: float | None = None
    waited: int = 0
    drops: int = 0
    finished: bool = False


@dataclass(frozen=True)
class Score:
    """Mean loss over a set of images, and the fractions of them that were classified wrongly, in [0, 1]."""

    loss: float
    top1_error: float
    top5_error: float

    def figures(self, split: str) -> dict[str, float]:
        """Return its numbers by the names that they have in metrics and results: ``test_loss`` for the test images."""
        return {f"{split}_{name}": getattr(self, name) for name in ("loss", "top1_error", "top5_error")}


@dataclass(frozen=True, kw_only=True)
class Validated(Score):
    """The score on the validation images after an epoch, with the epoch and the step."""

    epoch: int
    step: int


@dataclass(frozen=True)
class State:
    """Where a run stands.

    Attributes
    ----------
    rate
        The learning rate, and what the schedule remembers.
    step
        How many steps are done.
    epoch
        The epoch that is under way, counted from 1.
    position
        How many images of its permutation are done.
    total, counted
        The sum of the losses in this epoch, and of how many images.
    skipped
        How many steps in a row, up to now, were left out because a number was not finite.
    lines
        How many lines of metrics are written.
    seconds
        Time that the run has taken, over all its sessions.
    latest, best
        The last validation, and the one with the lowest top-1 error (the first of those that tie).
    """

    rate: Rate
    step: int = 0
    epoch: int = 1
    position: int = 0
    total: float = 0.0
    counted: int = 0
    skipped: int = 0
    lines: int = 0
    seconds: float = 0.0
    latest: Validated | None = None
    best: Validated | None = None

    @property
    def went(self) -> str:
        """Say how far it has come, in words."""
        epochs = f"{self.epoch - 1} epoch{'' if self.epoch == 2 else 's'}"
        images = f" and {self.position:,} images" if self.position else ""
        return f"{epochs}{images}, {self.step:,} steps"


@dataclass(frozen=True)
class DataFacts:
    """Which data a run learns from.

    Attributes
    ----------
    name, where, layout
        As :class:`refnet.data.dataset.Dataset` has them.
    image_shape
        (H,W,C) of an image, from which crops are taken.
    fingerprint
        See :func:`refnet.data.fingerprint.fingerprint`.
    """

    name: str
    where: str
    layout: str
    image_shape: tuple[int, int, int]
    fingerprint: str


@dataclass(frozen=True)
class Facts:
    """What a checkpoint says of itself beside its arrays.

    Attributes
    ----------
    spec
        The network.
    backend
        The name of the backend that computed it.
    classes
        The names of the classes; a label, and an output of the network, is an index into these.
    words
        Their readable names (:mod:`refnet.data.naming`); empty where none are known.
    config
        Every key of the configuration.
    environment
        See :func:`refnet.machine.environment.describe`.
    """

    spec: NetSpec
    backend: str
    classes: tuple[str, ...]
    data: DataFacts
    config: dict[str, Any]
    environment: dict[str, Any]
    state: State
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.words and len(self.words) != len(self.classes):
            raise ValueError(f"Facts.words has {len(self.words)} items for {len(self.classes)} classes")
