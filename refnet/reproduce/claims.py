"""The claims of the paper, each as an experiment: two variants that differ in one thing, and what is measured.

Both variants are trained with the same seeds, and are compared seed by seed: with the same seed, both have the same
order of images, crops and dropout and, where shapes agree, the same initial weights (:mod:`refnet.nets.variants`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from refnet.errors import ConfigError
from refnet.terminal.suggestion import did_you_mean

TARGET_ERROR = 0.25  # the training error of the paper's figure 1
CHANCE_ERROR = 0.9  # the error before training, with ten classes


@dataclass(frozen=True)
class Outcome:
    """The result of one run.

    Attributes
    ----------
    lr
        The initial learning rate.
    train_errors, validation_errors
        After each epoch, as fractions in [0, 1]. Training images are classified in the same way as test images.
    test_error
        At the end, as a fraction in [0, 1].
    """

    variant: str
    seed: int
    lr: float
    train_errors: tuple[float, ...]
    validation_errors: tuple[float, ...]
    test_error: float


@dataclass(frozen=True)
class Measure:
    """A number measured in each run, which the paper claims to make smaller.

    Attributes
    ----------
    name
        The name with its unit. "Overfitting" is the test error minus the training error. "Epochs to 25%" is the number
        of epochs until the training error is 25 %.
    paper
        The paper's result.
    """

    name: str
    paper: str
    of: Callable[[Outcome], float]


@dataclass(frozen=True)
class Variant:
    """One of the two variants of an experiment: its name, and the settings that define it."""

    name: str
    keys: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A claim, and the experiment that tests it.

    Attributes
    ----------
    section
        The section of the paper with the claim.
    without, paper
        The variant without the paper's idea, and the one with it.
    measures
        What is measured. Only the first decides the verdict; the others are reported.
    common
        Settings of both variants that differ from the net's recipe.
    rates
        Learning rates to try: each variant uses its best one, found with an extra seed. If empty, the recipe's is used.
    watched
        Which errors a picture shows as solid lines.
    epochs
        Number of epochs by net, if it differs from :data:`refnet.reproduce.experiment.EPOCHS`.
    """

    name: str
    question: str
    section: str
    without: Variant
    paper: Variant
    measures: tuple[Measure, ...]
    common: Mapping[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    watched: Literal["validation", "training"] = "validation"
    epochs: Mapping[str, int] = field(default_factory=dict)

    @property
    def variants(self) -> tuple[Variant, Variant]:
        """Both variants, first the one without the paper's idea."""
        return self.without, self.paper


def epochs_to(target: float, errors: Sequence[float]) -> float:
    """Return after how many epochs an error first reached a target, interpolated linearly between epochs.

    If it never did, return the number of epochs, which is a lower bound: it cannot exaggerate a difference.
    """
    before = CHANCE_ERROR
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
            Variant("tanh", {"variant": ("no-dropout", "tanh")}),
            Variant("ReLU", {"variant": ("no-dropout",)}),
            (
                Measure(
                    f"epochs to {TARGET_ERROR:.0%}", "6 times fewer", lambda o: epochs_to(TARGET_ERROR, o.train_errors)
                ),
            ),
            # As in the paper: no regularisation, and learning rates "chosen independently to make training as fast as
            # possible".
            {"augment": False, "weight_decay": 0.0, "drop_epochs": ()},
            rates=(0.003, 0.01, 0.03),
            watched="training",
            epochs={"cifar": 12, "fashion": 4, "digits": 4},
        ),
        Claim(
            "lrn",
            "Does local response normalisation lower the error?",
            "3.3",
            Variant("without", {"variant": ("no-lrn",)}),
            Variant("LRN", {"variant": ("strong-lrn",)}),
            (_test("-2 points (CIFAR-10), -1.4 (ImageNet)"),),
        ),
        Claim(
            "overlapping-pooling",
            "Does overlapping pooling lower the error, and overfitting?",
            "3.4",
            Variant("2x2", {"variant": ("plain-pooling",)}),
            Variant("3x3", {}),
            (_test("-0.4 points (ImageNet)"), _overfitting("slightly less")),
        ),
        Claim(
            "dropout",
            "Does dropout reduce overfitting?",
            "4.2",
            Variant("without", {"variant": ("no-dropout",)}),
            Variant("dropout", {}),
            (_overfitting("substantial without"), _test("no number")),
            {"augment": False},  # so that there is overfitting to reduce
        ),
        Claim(
            "augmentation",
            "Do random crops and mirror images reduce overfitting?",
            "4.1",
            Variant("centre", {"augment": False}),
            Variant("crops and mirrors", {}),
            (_overfitting("substantial without"), _test("no number")),
        ),
        Claim(
            "two-columns-vs-one-half",
            "Are two columns better than one with half the kernels?",
            "3.2",
            Variant("one, half", {"variant": ("half",), "columns": 1}),
            Variant("two", {}),
            (_test("-1.7 points (ImageNet)"),),
        ),
    )
}


def get(name: str) -> Claim:
    """Return a claim by its name. Raises ``ConfigError`` for an unknown name, with the list of claims."""
    if name not in CLAIMS:
        raise ConfigError(f"{name} is not a claim; the claims are {', '.join(CLAIMS)}{did_you_mean(name, CLAIMS)}")
    return CLAIMS[name]
