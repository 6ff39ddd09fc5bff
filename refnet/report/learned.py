"""What a run learned, and what its network makes of images: probabilities, and the last hidden layer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from refnet import checkpoint, generations, neighbours, nets, network
from refnet.backend import Array, Backend, load
from refnet.checkpoint import Checkpoint
from refnet.data import Dataset, Split, check_fits, fingerprint, open_dataset
from refnet.data.crops import centre
from refnet.data.dataset import Indices, Labels
from refnet.data.loader import batches
from refnet.data.parallel import Reading
from refnet.errors import ConfigError
from refnet.plan import Plan, Step
from refnet.progress import Show

BATCH = 64
MOST = 2000  # images of a split that are looked at

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Learned:
    """A network as a run has saved it, ready to compute."""

    checkpoint: Checkpoint
    plan: Plan
    backend: Backend
    params: dict[str, Array]

    @property
    def classes(self) -> int:
        """How many classes it knows; it may have more outputs."""
        return len(self.checkpoint.facts.classes)


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network makes of some images of a split.

    Attributes
    ----------
    indices, labels
        Which they are, and their classes: int64 (n,).
    p
        The probability of each class: float32 (n,K).
    hidden
        The outputs of the last hidden layer, which the paper compares images by: float32 (n,F).
    """

    indices: Indices
    labels: Labels
    p: Floats
    hidden: Floats


def recall(run: Path, backend: str) -> Learned:
    """Load a run's best checkpoint. Raises ``CheckpointError`` and ``BackendUnavailableError``."""
    found = generations.load(run)
    plan = checkpoint.plan_of(found.facts)
    loaded = load(backend, columns=plan.columns)
    return Learned(found, plan, loaded, network.place_params(plan, found.params, loaded))


def open_data(learned: Learned, show: Show) -> tuple[Dataset, bool]:
    """Open the data that a run learned from, and say whether they still are what they were.

    Raises ``DataError`` where they are gone or do not fit, and ``ConfigError`` where the run does not name them.
    """
    facts = learned.checkpoint.facts
    net = nets.get(facts.net, facts.init, facts.config.get("variant"))
    what = facts.config.get("data") or net.data
    if not isinstance(what, str):
        raise ConfigError(f"the run does not say from which data net {facts.net} learned")
    with show.task("reading images") as advance:
        data = open_dataset(what, image_size=net.image_size, channels=net.input_shape[0], progress=advance)
    check_fits(data, learned.classes)
    images = facts.config.get("images")
    data = data.few(images) if isinstance(images, int) else data
    return data, fingerprint(data) == facts.data.fingerprint


def look(learned: Learned, split: Split, indices: Indices, show: Show, name: str = "looking at images") -> Seen:
    """Show the network the centre crops of some images, in one pass."""
    last = learned.plan.steps[-1].inputs[0]
    p: list[Floats] = []
    hidden: list[Floats] = []

    def watch(step: Step, y: Array) -> None:
        if step.name == last:
            host = np.array(learned.backend.to_numpy(y))
            hidden.append(host.reshape(len(host), -1))

    with show.task(name, len(indices)) as advance:
        for batch in batches(split, indices, BATCH, reading=Reading()):
            output = network.forward(
                learned.plan,
                learned.params,
                place_centre(learned, split, batch.images),
                learned.backend,
                record=False,
                watch=watch,
            ).output
            _, probabilities = learned.backend.softmax_xent.forward(output, learned.backend.asarray(batch.labels))
            p.append(np.array(learned.backend.to_numpy(probabilities)[:, : learned.classes]))
            advance(sum(map(len, p)))
    return Seen(indices, split.labels[indices], np.concatenate(p), np.concatenate(hidden))


def activations(learned: Learned, split: Split, index: int) -> dict[str, Floats]:
    """Give what each step makes of one image that still has height and width: float32 (C,H,W) by the step's name."""
    made: dict[str, Floats] = {}

    def watch(step: Step, y: Array) -> None:
        if len(step.shape) == 3 and step.layer.op != "gather":
            made[step.name] = np.array(learned.backend.to_numpy(y)[0])

    image = split.images(np.array([index]))
    placed = place_centre(learned, split, image)
    network.forward(learned.plan, learned.params, placed, learned.backend, record=False, watch=watch)
    return made


def place_centre(learned: Learned, split: Split, images: npt.NDArray[np.uint8]) -> list[Array]:
    """Cut the centre out of images, subtract the mean and lay them where each column reads them."""
    draws = centre(len(images), split.shape, learned.plan.input_shape[1:])  # type: ignore[arg-type]
    return network.place_bytes(learned.plan, images, learned.checkpoint.mean, draws, learned.backend)


def spread(split: Split, most: int = MOST) -> Indices:
    """Choose so many images of a split at most, evenly over all of it."""
    return np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).astype(np.int64))


def confusion(seen: Seen, classes: int) -> npt.NDArray[np.int64]:
    """Count how often each class (row) was taken for each (column): int64 (K,K)."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (seen.labels, seen.p.argmax(axis=1)), 1)
    return counts


def best_and_worst(seen: Seen, count: int) -> tuple[Indices, Indices]:
    """Give the places of the images whose truth is the most and the least probable to the network."""
    order = np.argsort(-seen.p[np.arange(len(seen.labels)), seen.labels], kind="stable")
    half = min(count, len(order) // 2)
    return order[:half], order[::-1][:half]


def nearest(queries: Floats, features: Floats, count: int) -> Indices:
    """Find those features (m,F) that are nearest to each query (n,F) by Euclidean distance: their places (n,count)."""
    return np.stack([neighbours.nearest(query, features, count).indices for query in queries])
