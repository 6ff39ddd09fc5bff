"""What the paper claims, and how it is tried: two arms that differ in one thing, and what is measured in each.

Both arms have the same seeds. A seed gives both the same order of images, the same crops, the same dropout and, where
shapes agree, the same first weights (:mod:`refnet.nets.variants`), so that they are compared seed by seed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from refnet.errors import ConfigError
from refnet.terminal.suggestion import did_you_mean

TARGET = 0.25  # training error, of the paper's figure 1
CHANCE = 0.9  # of being wrong before training, with ten classes


@dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes
    ----------
    lr
        The learning rate it began with.
    train_errors, validation_errors
        After each epoch: fractions in [0, 1]. The training images are classified as the test images are.
    test_error
        At the end.
    """

    arm: str
    seed: int
    lr: float
    train_errors: tuple[float, ...]
    validation_errors: tuple[float, ...]
    test_error: float


@dataclass(frozen=True)
class Measure:
    """A number that a run comes to; the paper says that its idea makes it smaller.

    Attributes
    ----------
    name
        With its unit. Overfitting is the test error less the training error; "epochs to" are those until a training
        error.
    paper
        What the paper says of it.
    """

    name: str
    paper: str
    of: Callable[[Outcome], float]


@dataclass(frozen=True)
class Arm:
    """One of the two sides: its name, and the keys of the configuration that make it."""

    name: str
    keys: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A claim, and the experiment that tries it.

    Attributes
    ----------
    section
        Where the paper makes it.
    without, paper
        The arm without the paper's idea, and the one with it.
    measures
        What is measured. The claim stands or falls with the first; others are shown beside it.
    common
        Keys of the configuration that both arms have, other than the net's recipe.
    rates
        Learning rates of which each arm is given its best, by a run with a seed of its own; none: the recipe's.
    watched
        Whose error a picture shows first.
    epochs
        By net, other than usual (:data:`refnet.reproduce.experiment.USUAL`).
    """

    name: str
    question: str
    section: str
    without: Arm
    paper: Arm
    measures: tuple[Measure, ...]
    common: Mapping[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    watched: Literal["validation", "training"] = "validation"
    epochs: Mapping[str, int] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[Arm, Arm]:
        """Both, the one without the paper's idea first."""
        return self.without, self.paper


def epochs_to(target: float, errors: Sequence[float]) -> float:
    """Say after how many epochs an error first was at a target, on straight lines between the epochs' ends.

    An error that never was counts as the number of epochs, which it is above: a difference to it is not exaggerated.
    """
    before = CHANCE
    for epoch, error in enumerate(errors):
        if error <= target:
            return epoch + (before - target) / (before - error)
        before = error
    return float(len(errors))


def _test_error(outcome: Outcome) -> float:
    return 100 * outcome.test_error


def _gap(outcome: Outcome) -> float:
    return 100 * (outcome.test_error - outcome.train_errors[-1])


def _test(paper: str) -> Measure:
    return Measure("test error, %", paper, _test_error)


def _overfitting(paper: str) -> Measure:
    return Measure("overfitting, points", paper, _gap)


CLAIMS: Mapping[str, Claim] = {
    claim.name: claim
    for claim in (
        Claim(
            "relu-vs-tanh",
            "Does a network of ReLUs learn faster than one of tanh units?",
            "3.1, figure 1",
            Arm("tanh", {"variant": ("no-dropout", "tanh")}),
            Arm("ReLU", {"variant": ("no-dropout",)}),
            (Measure(f"epochs to {TARGET:.0%}", "6 times fewer", lambda o: epochs_to(TARGET, o.train_errors)),),
            # The paper: no regularisation, and rates "chosen independently to make training as fast as possible".
            {"augment": False, "weight_decay": 0.0, "drop_epochs": ()},
            rates=(0.003, 0.01, 0.03),
            watched="training",
            epochs={"cifar": 12, "fashion": 4, "digits": 4},
        ),
        Claim(
            "lrn",
            "Does local response normalisation lower the error?",
            "3.3",
            Arm("without", {"variant": ("no-lrn",)}),
            Arm("LRN", {"variant": ("strong-lrn",)}),
            (_test("-2 points (CIFAR-10), -1.4 (ImageNet)"),),
        ),
        Claim(
            "overlapping-pooling",
            "Does overlapping pooling lower the error, and overfitting?",
            "3.4",
            Arm("2x2", {"variant": ("plain-pooling",)}),
            Arm("3x3", {}),
            (_test("-0.4 points (ImageNet)"), _overfitting("slightly less")),
        ),
        Claim(
            "dropout",
            "Does dropout reduce overfitting?",
            "4.2",
            Arm("without", {"variant": ("no-dropout",)}),
            Arm("dropout", {}),
            (_overfitting("substantial without"), _test("no figure")),
            {"augment": False},  # so that there is overfitting to reduce
        ),
        Claim(
            "augmentation",
            "Do random crops and mirror images reduce overfitting?",
            "4.1",
            Arm("centre", {"augment": False}),
            Arm("crops and mirrors", {}),
            (_overfitting("substantial without"), _test("no figure")),
        ),
        Claim(
            "two-columns-vs-one-half",
            "Are two columns better than one with half the kernels?",
            "3.2",
            Arm("one, half", {"variant": ("half",), "columns": 1}),
            Arm("two", {}),
            (_test("-1.7 points (ImageNet)"),),
        ),
    )
}


def get(name: str) -> Claim:
    """Give a claim by its name. Raises ``ConfigError`` for one that there is not, with those that there are."""
    if name not in CLAIMS:
        raise ConfigError(
            f"{name} is no claim that can be tried; there are {', '.join(CLAIMS)}{did_you_mean(name, CLAIMS)}"
        )
    return CLAIMS[name]
