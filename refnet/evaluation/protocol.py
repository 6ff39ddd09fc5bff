"""The paper's test protocol: one crop or ten, one network or several, errors and what is taken for what.

Source
------
Paper, section 4.1: "extracting five 224x224 patches (the four corner patches and the center patch) as well as their
horizontal reflections ... and averaging the predictions made by the network's softmax layer on the ten patches";
section 6: "averaging the predictions of five similar CNNs". The authors' program also weighs the networks.

Decisions
---------
A protocol is a number of the first views in :func:`refnet.data.crops.ten`, of whose probabilities the mean is taken:
one is the centre crop, all ten are the paper's. So each image is read once and each view computed once for both. Where
a mirror image shows something else (a digit), a net is not trained on mirror images, and the ten are the five upright.

Weights of an ensemble are those under which the true classes of other images are most likely: they maximise the mean
over images of ``log(sum over m of w_m p_m[truth])``. This has no local maxima, where the error rate, which the authors
searched, is a staircase; and it needs of each network one number for an image.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refnet.data.crops import ten
from refnet.data.dataset import Labels, Pixels, Split
from refnet.data.loader import batches
from refnet.data.parallel import Reading
from refnet.evaluation.score import Errors
from refnet.evaluation.trained import Trained

Probabilities = npt.NDArray[np.float64]

PROTOCOLS = {"centre": 1, "ten": 10}
UPRIGHT = 5  # views that are not mirrored, which come first
TURNS = 1000  # of the search for weights, at most
STEADY = 1e-7  # a turn that changes no weight by more is the last


class Tally(Errors):
    """Counts the errors of a network, or of several together, and which classes were mistaken for which.

    Attributes
    ----------
    confusion
        Images of class c (row) taken for output k (column): float64 (C,K). Outputs that tie for the first place share
        the image.
    """

    def __init__(self, classes: int, outputs: int) -> None:
        super().__init__()
        self.confusion = np.zeros((classes, outputs))

    def add(self, p: Probabilities, labels: Labels) -> None:
        """Count a batch: p (N,K), labels (N,)."""
        super().add(p, labels)
        first = p == p.max(axis=1, keepdims=True)
        np.add.at(self.confusion, labels, first / first.sum(axis=1, keepdims=True))

    def __repr__(self) -> str:
        return f"<Tally {self.count:,} images: top-1 error {self.top1_error:.2%}, top-5 error {self.top5_error:.2%}>"

    @property
    def class_errors(self) -> npt.NDArray[np.float64]:
        """Top-1 error of each class (C,); NaN for one that has no image."""
        images = self.confusion.sum(axis=1)
        wrong = images - np.diagonal(self.confusion)
        return np.where(images > 0, wrong / np.maximum(images, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What each network made of the images, and all together; by the protocols' names."""

    members: Sequence[Mapping[str, Tally]]
    together: Mapping[str, Tally]


def evaluate(
    members: Sequence[Trained],
    split: Split,
    *,
    protocols: Mapping[str, int] = PROTOCOLS,
    weights: Mapping[str, Sequence[float]] | None = None,
    batch: int,
    reading: Reading,
    advance: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Classify every image of a split, in one pass, by each of the networks and by the mean of their probabilities.

    Parameters
    ----------
    weights
        How much each network counts, by protocol; all the same where none are given.
    advance
        Told how many images are done.

    Raises
    ------
    DataError
        An image cannot be read.
    NumericError
        A probability is NaN.
    """
    classes, outputs = len(members[0].facts.classes), members[0].net.outputs
    each = [{name: Tally(classes, outputs) for name in protocols} for _ in members]
    together = {name: Tally(classes, outputs) for name in protocols}
    equal = [1 / len(members)] * len(members)
    for labels, by_protocol in _passing(members, split, protocols, batch, reading, advance):
        for name, found in by_protocol.items():
            for tallies, p in zip(each, found, strict=True):
                tallies[name].add(p, labels)
            together[name].add(blend(found, weights[name] if weights else equal), labels)
    return Evaluation(each, together)


def search(
    members: Sequence[Trained],
    split: Split,
    *,
    protocols: Mapping[str, int] = PROTOCOLS,
    batch: int,
    reading: Reading,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, list[float]]:
    """Find how much each network should count, by the images of a split; by protocol. Raises as `evaluate` does."""
    truths: dict[str, list[Probabilities]] = {name: [] for name in protocols}
    for labels, by_protocol in _passing(members, split, protocols, batch, reading, advance):
        for name, found in by_protocol.items():
            truths[name].append(np.stack([p[np.arange(len(labels)), labels] for p in found]))
    return {name: likeliest(np.concatenate(parts, axis=1)).tolist() for name, parts in truths.items()}


def likeliest(truths: Probabilities) -> Probabilities:
    """Find the weights (M,), which sum to 1, that maximise the mean over n of log(sum over m of w_m truths[m,n]).

    Each turn gives every network the share of the images' probability that was due to it, which never makes the mean
    smaller (expectation maximisation). `truths` (M,N) is what each network gave to the true class of each image.
    """
    weights = np.full(len(truths), 1 / len(truths))
    for _ in range(TURNS):
        due = weights[:, None] * truths
        total = due.sum(axis=0)
        known = total > 0  # an image that no network gives any chance tells nothing of them
        if not known.any():
            break
        before, weights = weights, (due[:, known] / total[known]).mean(axis=1)
        if np.abs(weights - before).max() <= STEADY:
            break
    return weights


def blend(parts: Sequence[Probabilities], weights: Sequence[float]) -> Probabilities:
    """Give the weighted mean of several networks' probabilities, each (N,K). The weights sum to 1."""
    total = np.zeros_like(parts[0])
    for weight, p in zip(weights, parts, strict=True):
        total += weight * p
    return total


def classify(trained: Trained, images: Pixels, protocols: Mapping[str, int] = PROTOCOLS) -> dict[str, Probabilities]:
    """Classify images (N,H,W,C): for each protocol the mean (N,K) over its views."""
    views = ten(len(images), trained.image_shape, trained.net.crop)
    counts = {name: min(count, len(views) if trained.net.flip else UPRIGHT) for name, count in protocols.items()}
    found = np.cumsum(np.stack(trained.classify(images, views[: max(counts.values())])), axis=0, dtype=np.float64)
    return {name: found[count - 1] / count for name, count in counts.items()}


def _passing(
    members: Sequence[Trained],
    split: Split,
    protocols: Mapping[str, int],
    batch: int,
    reading: Reading,
    advance: Callable[[int], None],
) -> Iterator[tuple[Labels, dict[str, list[Probabilities]]]]:
    """Go through a split once: labels, and by protocol what each network says."""
    done = 0
    for some in batches(split, np.arange(len(split)), batch, reading=reading):
        looked = [classify(trained, some.images, protocols) for trained in members]
        yield some.labels, {name: [each[name] for each in looked] for name in protocols}
        done += len(some.labels)
        advance(done)
