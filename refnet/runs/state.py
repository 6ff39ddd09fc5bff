"""The state of a run besides its arrays: all that its further steps depend on, and its results so far.

Everything random in training is a pure function of the seed and of the numbers here, so these numbers and the arrays
are the whole state of a run. A state is replaced, never changed in place, so that a thread can write it to disk.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

from refnet.nets import NetSpec

T = TypeVar("T")

PLACES = 5  # the most probable classes among which the top-5 error looks for the correct one


@dataclass(frozen=True)
class Rate:
    """The learning rate, and what the schedule needs to decide on the next one.

    Attributes
    ----------
    best
        Lowest validation error so far; None before the first.
    waited
        Epochs since the best error was reached, or since the rate was lowered.
    drops
        How often the learning rate was lowered.
    finished
        The error has stopped improving and the rate may not be lowered again.
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


def informative(top1_error: T, top5_error: T, outputs: int | None) -> dict[str, T]:
    """Return the errors that say something about a network with so many outputs, by the names "top-1" and "top-5".

    With five outputs or fewer the top-5 error is 0 whatever the network computes, so it is left out. It is not left
    out where the number is not known.
    """
    return {"top-1": top1_error} | ({"top-5": top5_error} if outputs is None or outputs > PLACES else {})


@dataclass(frozen=True, kw_only=True)
class Validated(Score):
    """The score on the validation images after an epoch, with the epoch and the step."""

    epoch: int
    step: int


@dataclass(frozen=True)
class State:
    """The progress of a run.

    Attributes
    ----------
    rate
        The learning rate, with the state of its schedule.
    step
        Number of steps done.
    epoch
        The current epoch, counted from 1.
    position
        Number of images of the current epoch that are done.
    total, counted
        The sum of the losses in this epoch, and the number of images summed over.
    skipped
        Number of consecutive steps, up to now, that were skipped because a number was not finite.
    lines
        Number of lines of metrics written.
    seconds
        Training time over all sessions of the run.
    latest, best
        The last validation, and the one with the lowest top-1 error (the first if several tie).
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
    def progress(self) -> str:
        """The progress in words."""
        epochs = f"{self.epoch - 1} epoch{'' if self.epoch == 2 else 's'}"
        images = f" and {self.position:,} images" if self.position else ""
        return f"{epochs}{images}, {self.step:,} steps"


@dataclass(frozen=True)
class DataFacts:
    """The data that a run learns from.

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
    """The facts stored in a checkpoint besides its arrays.

    Attributes
    ----------
    spec
        The network.
    backend
        The name of the backend that trained it.
    classes
        The names of the classes; a label, and an output of the network, is an index into these.
    words
        Their readable names (:mod:`refnet.data.naming`); empty where none are known.
    config
        Every setting.
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

    @property
    def outputs(self) -> int:
        """The number of outputs of the network; in checkpoints of the earlier format, that of its classes."""
        return self.spec.outputs or len(self.classes)

    def __post_init__(self) -> None:
        if self.words and len(self.words) != len(self.classes):
            raise ValueError(f"Facts.words has {len(self.words)} items for {len(self.classes)} classes")
