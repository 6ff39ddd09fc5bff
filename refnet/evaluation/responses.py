"""A network's responses to images of a split: probabilities, the last hidden layer, and the activations in between."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refnet.backend.interface import Array
from refnet.data.dataset import Indices, Labels, Pixels, Split
from refnet.data.loader import batches
from refnet.data.parallel import Reading
from refnet.evaluation.protocol import Tally
from refnet.evaluation.trained import Floats, Trained
from refnet.network import passes
from refnet.network.plan import Node
from refnet.terminal.progress import Show

BATCH = 64
MAX_IMAGES = 2000  # of a split, for a picture


@dataclass(frozen=True, eq=False)
class Responses:
    """What a network computes for some images of a split.

    Attributes
    ----------
    indices, labels
        Which images, and their classes: int64 (n,).
    p
        The probability of each class: float32 (n,C).
    hidden
        The outputs of the last hidden layer, by which the paper compares images: float32 (n,F).
    """

    indices: Indices
    labels: Labels
    p: Floats
    hidden: Floats

    def of_different_classes(self, count: int) -> "Responses":
        """Return `count` of the responses, the first image of each class, then the second, and so on."""
        rank = np.array([np.count_nonzero(self.labels[:place] == label) for place, label in enumerate(self.labels)])
        chosen = np.lexsort((self.labels, rank))[:count]
        return Responses(self.indices[chosen], self.labels[chosen], self.p[chosen], self.hidden[chosen])

    def best_and_worst(self, count: int) -> tuple[Indices, Indices]:
        """Return the rows with the most and the least probable correct class: int64, at most `count` of each."""
        order = np.argsort(-self.p[np.arange(len(self.labels)), self.labels], kind="stable")
        half = min(count, len(order) // 2)
        return order[:half], order[::-1][:half]

    def confusion(self) -> npt.NDArray[np.float64]:
        """Return how often each class (row) was predicted as each class (column): float64 (C,C). Ties as in `Tally`."""
        classes = self.p.shape[1]
        tally = Tally(classes, classes)
        tally.add(self.p.astype(np.float64), self.labels)
        return tally.confusion


def respond(trained: Trained, split: Split, indices: Indices, show: Show, task: str = "reading images") -> Responses:
    """Return the network's responses to the centre crops of the images `indices`, computed in one pass.

    Raises ``DataError`` for an image that cannot be read, ``NumericError`` for a number that is not finite.
    """
    classes = len(trained.facts.classes)  # the net may have more outputs
    parts: list[tuple[Floats, Floats]] = []
    done = 0
    with show.task(task, len(indices)) as advance:
        for batch in batches(split, indices, BATCH, reading=Reading()):
            p, hidden = trained.respond(batch.images, trained.centre_crops(len(batch.images)))
            parts.append((p[:, :classes].copy(), hidden.copy()))
            done += len(batch.images)
            advance(done)
    all_p, all_hidden = map(np.concatenate, zip(*parts, strict=True))
    return Responses(indices, split.labels[indices], all_p, all_hidden)


def activations(trained: Trained, split: Split, index: int) -> dict[str, Floats]:
    """Return the output of each layer that has height and width, for one image: float32 (C,H,W) by the node's name."""
    backend = trained.backend
    maps: dict[str, Floats] = {}

    def watch(node: Node, y: Array) -> None:
        if len(node.shape) == 3 and node.layer.op != "gather":
            maps[node.name] = np.array(backend.to_numpy(y)[0])

    image = backend.asarray(split.images(np.array([index])))
    crops = passes.crop(trained.plan, image, trained.mean, trained.centre_crops(1), backend)
    passes.forward(trained.plan, trained.params, crops, backend, record=False, watch=watch)
    return maps


def outputs_of(trained: Trained, images: Pixels, layer: str) -> Floats:
    """Return a layer's outputs for the centre crop of each image (N,H,W,C), its columns joined: (N,C,H,W) or (N,F)."""
    backend = trained.backend
    columns: list[Floats] = []

    def watch(node: Node, y: Array) -> None:
        if node.layer.name == layer and node.layer.op != "gather":
            columns.append(np.array(backend.to_numpy(y)))

    crops = passes.crop(trained.plan, backend.asarray(images), trained.mean, trained.centre_crops(len(images)), backend)
    passes.forward(trained.plan, trained.params, crops, backend, record=False, watch=watch)
    return np.concatenate(columns, axis=1)


def evenly_spaced(split: Split, count: int = MAX_IMAGES) -> Indices:
    """Return the indices of at most `count` images, evenly spaced over a split: int64."""
    return np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).astype(np.int64))
