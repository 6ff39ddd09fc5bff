"""A trained network, read from a checkpoint and ready to be asked: what is on an image, and what its last layer sees.

Pixels are prepared as in training, less the mean image that the checkpoint carries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from refnet import backend as backends
from refnet import checkpoint, generations, network
from refnet.backend import Array, Backend
from refnet.data import Dataset, digits, picture
from refnet.data.crops import Draws
from refnet.data.dataset import Pixels, Shape
from refnet.data.section import Place
from refnet.errors import CheckpointError, NumericError
from refnet.fuse import fuse
from refnet.nets import Net, get
from refnet.plan import Plan, Step
from refnet.printable import printable
from refnet.state import Facts


@dataclass(frozen=True, eq=False)
class Trained:
    """A network with its parameters in their places.

    Attributes
    ----------
    where
        What the user called it: a checkpoint or the folder of a run.
    mean
        The mean image (H,W,C), in column 0.
    """

    where: str
    facts: Facts
    net: Net
    plan: Plan
    params: dict[str, Array]
    mean: Array
    backend: Backend

    @property
    def image_shape(self) -> Shape:
        """(H,W,C) of the images that it takes."""
        return self.facts.data.image_shape

    @property
    def data(self) -> str | None:
        """The data that it was trained on, as a user names them."""
        named: str | None = self.facts.config.get("data") or self.net.data
        return named

    def called(self, output: int) -> str:
        """Name an output: its class, or that it has none (a net may have more outputs than there were classes)."""
        classes = self.facts.classes
        return printable(classes[output]) if output < len(classes) else f"(no class: output {output})"

    def classify(self, images: Pixels, views: Sequence[Draws]) -> list[npt.NDArray[np.float32]]:
        """Give the probability of each output for each image (N,H,W,C), one array (N,K) for each view.

        Raises ``NumericError`` if one is NaN.
        """
        there = self.backend.asarray(images)
        nothing = self.backend.asarray(np.zeros(len(images), np.int64))  # the op wants labels, for a loss
        found = []
        for draws in views:
            reads = network.crop(self.plan, there, self.mean, draws, self.backend)
            output = network.forward(self.plan, self.params, reads, self.backend, record=False).output
            _, p = self.backend.softmax_xent.forward(output, nothing)
            found.append(self.backend.to_numpy(p))
        if not all(np.isfinite(p).all() for p in found):
            raise NumericError(f"{self.where}: a probability is NaN; the parameters have grown beyond all measure")
        return found

    def features(self, images: Pixels, draws: Draws) -> npt.NDArray[np.float32]:
        """Give what the last layer reads, float32 (N,K): the last hidden layer, all columns side by side."""
        last = self.plan.steps[-1].inputs[0]
        seen: list[Array] = []

        def watch(step: Step, y: Array) -> None:
            if step.name == last:
                seen.append(y)

        reads = network.crop(self.plan, self.backend.asarray(images), self.mean, draws, self.backend)
        network.forward(self.plan, self.params, reads, self.backend, record=False, watch=watch)
        found = self.backend.to_numpy(seen[0]).reshape(len(images), -1)
        if not np.isfinite(found).all():
            raise NumericError(f"{self.where}: an output of the last hidden layer is not finite")
        return found

    def read(self, place: Place) -> Pixels:
        """Read an image file as in training: uint8 (H,W,C). Raises ``DataError``."""
        side, fit = self._picture()
        return fit(picture.read(place, side, self.image_shape[2]))

    def decode(self, content: bytes, name: str) -> Pixels:
        """Do as `read` does, with bytes that come from what `name` says."""
        side, fit = self._picture()
        return fit(picture.decode(content, name, side, self.image_shape[2]))

    def _picture(self) -> tuple[int, Callable[[Pixels], Pixels]]:
        """Say to what size a picture is brought, and what is then done to it."""
        if self.facts.data.where == "embedded":
            return digits.SIZE - 2, digits.from_picture
        return self.image_shape[0], lambda pixels: pixels


def open_trained(
    where: Path, backend: str = "auto", *, devices: Sequence[str] = (), threads: int | None = None
) -> Trained:
    """Read a checkpoint, or of a run's the best by validation, and lay it where a backend computes.

    Raises ``CheckpointError``, and ``BackendUnavailableError`` or ``ConfigError`` as :func:`refnet.backend.load` does.
    """
    found = generations.load(where)
    facts = found.facts
    there = backends.load(backend, columns=facts.columns, devices=devices, threads=threads)
    plan = fuse(checkpoint.plan_of(facts))
    params = network.place_params(plan, found.params, there)
    net = get(facts.net, facts.init, facts.config.get("variant"))
    return Trained(str(where), facts, net, plan, params, there.asarray(found.mean), there)


def check_members(members: Sequence[Trained]) -> None:
    """Raise ``CheckpointError`` unless all take the same images and tell the same classes apart, in one order."""
    first = members[0]
    for other in members[1:]:
        both = f"{other.where} does not fit {first.where}"
        if other.image_shape != first.image_shape:
            raise CheckpointError(
                f"{both}: it takes images of {_form(other.image_shape)}, not of {_form(first.image_shape)}; "
                "evaluate them one by one"
            )
        if other.net.outputs != first.net.outputs:
            raise CheckpointError(
                f"{both}: it has {other.net.outputs} outputs, not {first.net.outputs}; evaluate them one by one"
            )
        if difference := _difference(other.facts.classes, first.facts.classes):
            raise CheckpointError(f"{both}: {difference}; evaluate them one by one")


def check_data(trained: Trained, dataset: Dataset) -> None:
    """Raise ``CheckpointError`` unless the labels of the data mean what the network's outputs mean."""
    both = f"{trained.where} does not fit {dataset.where}"
    if trained.image_shape != dataset.image_shape:
        raise CheckpointError(
            f"{both}: it takes images of {_form(trained.image_shape)}, these are {_form(dataset.image_shape)}; "
            "prepare them in that size"
        )
    if difference := _difference(trained.facts.classes, dataset.classes):
        raise CheckpointError(f"{both}: {difference}; give data with the classes that it was trained on")


def _difference(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """Say in what two lists of classes first differ; None where they are equal."""
    if len(ours) != len(theirs):
        return f"it has {len(ours)} classes, not {len(theirs)}"
    for label, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a != b:
            return f"its class {label} is {printable(a)}, not {printable(b)}"
    return None


def _form(shape: Shape) -> str:
    return "x".join(map(str, shape))
