"""What a network makes of images of a split: probabilities, and the last hidden layer."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refnet.backend.interface import Array
from refnet.data.crops import centre
from refnet.data.dataset import Indices, Labels, Split
from refnet.data.loader import batches
from refnet.data.parallel import Reading
from refnet.evaluation import neighbours
from refnet.evaluation.protocol import Tally
from refnet.evaluation.trained import Floats, Trained
from refnet.network import passes
from refnet.network.plan import Node
from refnet.ops.augment import Draws
from refnet.terminal.progress import Show

BATCH = 64
MOST = 2000  # images of a split that are looked at


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network makes of some images of a split.

    Attributes
    ----------
    indices, labels
        Which they are, and their classes: int64 (n,).
    p
        The probability of each class: float32 (n,C).
    hidden
        The outputs of the last hidden layer, which the paper compares images by: float32 (n,F).
    """

    indices: Indices
    labels: Labels
    p: Floats
    hidden: Floats


def look(trained: Trained, split: Split, indices: Indices, show: Show, name: str = "looking at images") -> Seen:
    """Show the network the centre crops of some images, in one pass.

    Raises ``DataError`` for an image that cannot be read, ``NumericError`` for a number that is not finite.
    """
    classes = len(trained.facts.classes)  # the net may have more outputs
    found: list[tuple[Floats, Floats]] = []
    done = 0
    with show.task(name, len(indices)) as advance:
        for batch in batches(split, indices, BATCH, reading=Reading()):
            p, hidden = trained.look(batch.images, _centre(trained, len(batch.images)))
            found.append((p[:, :classes].copy(), hidden.copy()))
            done += len(batch.images)
            advance(done)
    every_p, every_hidden = map(np.concatenate, zip(*found, strict=True))
    return Seen(indices, split.labels[indices], every_p, every_hidden)


def activations(trained: Trained, split: Split, index: int) -> dict[str, Floats]:
    """Give what each node makes of one image that still has height and width: float32 (C,H,W) by the node's name."""
    backend = trained.backend
    made: dict[str, Floats] = {}

    def watch(node: Node, y: Array) -> None:
        if len(node.shape) == 3 and node.layer.op != "gather":
            made[node.name] = np.array(backend.to_numpy(y)[0])

    image = backend.asarray(split.images(np.array([index])))
    placed = passes.crop(trained.plan, image, trained.mean, _centre(trained, 1), backend)
    passes.forward(trained.plan, trained.params, placed, backend, record=False, watch=watch)
    return made


def spread(split: Split, most: int = MOST) -> Indices:
    """Choose so many images of a split at most, evenly over all of it."""
    return np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).astype(np.int64))


def confusion(seen: Seen, classes: int) -> npt.NDArray[np.float64]:
    """Count how often each class (row) was taken for each (column), as `Tally` does: (C,C)."""
    tally = Tally(classes, classes)
    tally.add(seen.p.astype(np.float64), seen.labels)
    return tally.confusion


def best_and_worst(seen: Seen, count: int) -> tuple[Indices, Indices]:
    """Give the places of the images whose truth is the most and the least probable to the network."""
    order = np.argsort(-seen.p[np.arange(len(seen.labels)), seen.labels], kind="stable")
    half = min(count, len(order) // 2)
    return order[:half], order[::-1][:half]


def nearest(queries: Floats, features: Floats, count: int) -> Indices:
    """Find those features (m,F) that are nearest to each query (n,F) by Euclidean distance: their places (n,count)."""
    return np.stack([neighbours.nearest(query, features, count).indices for query in queries])


def _centre(trained: Trained, count: int) -> Draws:
    return centre(count, trained.image_shape, trained.net.crop)
