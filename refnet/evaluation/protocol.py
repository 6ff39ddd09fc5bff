"""The paper's test protocol: one crop or ten, one network or several, errors and confusions.

Source
------
Paper, section 4.1: "extracting five 224x224 patches (the four corner patches and the center patch) as well as their
horizontal reflections ... and averaging the predictions made by the network's softmax layer on the ten patches";
section 6: "averaging the predictions of five similar CNNs". The authors' program also weights the networks.

Decisions
---------
A protocol averages the probabilities of the first n crops ("views") of :func:`refnet.data.crops.ten`: n = 1 is the
centre crop, n = 10 the paper's test. So each image is read once and each view computed once for both. A net that was
not trained on mirror images, because a mirrored digit is no digit, uses only the five views that are not mirrored.

The weights of an ensemble maximise the likelihood of the correct classes of other images: the mean over images of
``log(sum over m of w_m p_m[correct])``. Unlike the error rate, which the authors minimised and which changes in steps,
it has no local maxima; and it needs only one number per network and image.
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
from refnet.runs.state import informative

Probabilities = npt.NDArray[np.float64]

PROTOCOLS = {"centre": 1, "ten": 10}
UNMIRRORED = 5  # views that are not mirrored, which come first
MAX_ITERATIONS = 1000  # of the search for weights
TOLERANCE = 1e-7  # the search ends when no weight changes by more


class Tally(Errors):
    """Counts the errors of a network, or of several together, and which classes were mistaken for which.

    Attributes
    ----------
    confusion
        Number of images of class c (row) predicted as output k (column): float64 (C,K). Outputs that tie for the first
        place share the image.
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
        errors = ", ".join(f"{name} error {error:.2%}" for name, error in self.errors.items())
        return f"<Tally {self.count:,} images: {errors}>"

    @property
    def errors(self) -> dict[str, float]:
        """The errors by name; see :func:`refnet.runs.state.informative`."""
        return informative(self.top1_error, self.top5_error, self.confusion.shape[1])

    @property
    def class_errors(self) -> npt.NDArray[np.float64]:
        """Top-1 error of each class (C,); NaN for one that has no image."""
        images = self.confusion.sum(axis=1)
        wrong = images - np.diagonal(self.confusion)
        return np.where(images > 0, wrong / np.maximum(images, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The counts of each network and of the ensemble, by the names of the protocols."""

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
    """Classify every image of a split by each network and by their ensemble, in one pass; return the counts of errors.

    Parameters
    ----------
    weights
        The weight of each network, by protocol; equal weights by default.
    advance
        Called with the number of images done.

    Raises
    ------
    DataError
        An image cannot be read.
    NumericError
        A probability is NaN.
    """
    classes, outputs = len(members[0].facts.classes), members[0].net.outputs
    tallies_of = [{name: Tally(classes, outputs) for name in protocols} for _ in members]
    together = {name: Tally(classes, outputs) for name in protocols}
    equal = [1 / len(members)] * len(members)
    for labels, by_protocol in _passing(members, split, protocols, batch, reading, advance):
        for name, of_members in by_protocol.items():
            for tallies, p in zip(tallies_of, of_members, strict=True):
                tallies[name].add(p, labels)
            together[name].add(blend(of_members, weights[name] if weights else equal), labels)
    return Evaluation(tallies_of, together)


def search(
    members: Sequence[Trained],
    split: Split,
    *,
    protocols: Mapping[str, int] = PROTOCOLS,
    batch: int,
    reading: Reading,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, list[float]]:
    """Return the best ensemble weights for the images of a split, by protocol. Raises as `evaluate` does."""
    correct: dict[str, list[Probabilities]] = {name: [] for name in protocols}
    for labels, by_protocol in _passing(members, split, protocols, batch, reading, advance):
        for name, of_members in by_protocol.items():
            correct[name].append(np.stack([p[np.arange(len(labels)), labels] for p in of_members]))
    return {name: likeliest(np.concatenate(parts, axis=1)).tolist() for name, parts in correct.items()}


def likeliest(correct: Probabilities) -> Probabilities:
    """Return the weights (M,), which sum to 1, that maximise the mean over n of log(sum over m of w_m correct[m,n]).

    Expectation maximisation: each iteration sets every weight to the network's mean share of the probability, which
    never lowers the objective. `correct` (M,N) is the probability of each image's correct class by each network.
    """
    weights = np.full(len(correct), 1 / len(correct))
    for _ in range(MAX_ITERATIONS):
        parts = weights[:, None] * correct
        total = parts.sum(axis=0)
        known = total > 0  # an image to which every network gives 0 does not change the weights
        if not known.any():
            break
        before, weights = weights, (parts[:, known] / total[known]).mean(axis=1)
        if np.abs(weights - before).max() <= TOLERANCE:
            break
    return weights


def blend(parts: Sequence[Probabilities], weights: Sequence[float]) -> Probabilities:
    """Return the weighted mean of several networks' probabilities, each (N,K). The weights sum to 1."""
    total = np.zeros_like(parts[0])
    for weight, p in zip(weights, parts, strict=True):
        total += weight * p
    return total


def classify(trained: Trained, images: Pixels, protocols: Mapping[str, int] = PROTOCOLS) -> dict[str, Probabilities]:
    """Return, for each protocol, the mean probabilities (N,K) of its views of images (N,H,W,C)."""
    views = ten(len(images), trained.image_shape, trained.net.crop)
    counts = {name: min(count, len(views) if trained.net.flip else UNMIRRORED) for name, count in protocols.items()}
    sums = np.cumsum(np.stack(trained.classify(images, views[: max(counts.values())])), axis=0, dtype=np.float64)
    return {name: sums[count - 1] / count for name, count in counts.items()}


def _passing(
    members: Sequence[Trained],
    split: Split,
    protocols: Mapping[str, int],
    batch: int,
    reading: Reading,
    advance: Callable[[int], None],
) -> Iterator[tuple[Labels, dict[str, list[Probabilities]]]]:
    """Read a split once; yield labels and, by protocol, the probabilities of each network."""
    done = 0
    for read in batches(split, np.arange(len(split)), batch, reading=reading):
        results = [classify(trained, read.images, protocols) for trained in members]
        yield read.labels, {name: [result[name] for result in results] for name in protocols}
        done += len(read.labels)
        advance(done)
