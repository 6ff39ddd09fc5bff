"""A trained network, read from a checkpoint: its predictions and the activations of its last hidden layer.

Images are processed as in training: the mean image in the checkpoint is subtracted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from refnet import backend as backends
from refnet.backend.interface import Array, Backend
from refnet.data import decode
from refnet.data.archive import Place
from refnet.data.crops import centre
from refnet.data.dataset import Pixels, Shape
from refnet.data.naming import names
from refnet.data.readers import registry
from refnet.errors import CheckpointError, DataError, NumericError
from refnet.nets import Net
from refnet.network import passes
from refnet.network.fuse import fuse
from refnet.network.plan import Node, Plan
from refnet.ops.augment import Draws
from refnet.runs import checkpoint, generations
from refnet.runs.state import Facts
from refnet.terminal.printable import dimensions, printable

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Trained:
    """A network with its parameters on the devices of a backend.

    Attributes
    ----------
    where
        The path that the user gave: of a checkpoint or a run folder.
    plan
        The network as it is defined. Computing uses a copy with ReLUs fused into the layers before them.
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
        """The shape (H,W,C) of its input images, before the crop."""
        return self.facts.data.image_shape

    @property
    def data(self) -> str | None:
        """The data that it was trained on: a path or the name of a data set."""
        named: str | None = self.facts.config.get("data") or self.net.data
        return named

    @cached_property
    def own_fit(self) -> Callable[[Image.Image], Pixels] | None:
        """What converts an image to the form of the data set with a name that it was trained on; None for any other."""
        learned = registry.named(self.facts.data.name)
        return learned.fit if learned and self.facts.data.where == learned.WHERE else None

    @property
    def is_of_another_package(self) -> bool:
        """Whether it was trained on a data set that has a name and is read by another package."""
        facts = self.facts.data
        return self.data == facts.name != facts.where and registry.named(facts.name) not in registry.READERS

    @property
    def words(self) -> tuple[str, ...]:
        """A readable name for each class, or the class itself where none is known."""
        return self.facts.words or self.facts.classes

    def called(self, output: int) -> str:
        """Return the class of an output, or a note that it has none: a net may have more outputs than classes."""
        named = names(self.facts.classes, self.words)
        return printable(named[output]) if output < len(named) else f"(no class: output {output})"

    def centre_crops(self, count: int) -> Draws:
        """Return the choices that give the centre crops of `count` images."""
        return centre(count, self.image_shape, self.net.crop)

    def classify(self, images: Pixels, views: Sequence[Draws]) -> list[Floats]:
        """Return the probability of each output for each image (N,H,W,C), one array (N,K) for each view.

        Raises ``NumericError`` if one is NaN.
        """
        on_device = self.backend.asarray(images)
        return [self._probabilities(self._run(on_device, draws)) for draws in views]

    def features(self, images: Pixels, draws: Draws) -> Floats:
        """Return the last hidden layer, all columns side by side: float32 (N,F).

        Raises ``NumericError`` if a number is not finite.
        """
        _, hidden = self._outputs(images, draws)
        return hidden

    def respond(self, images: Pixels, draws: Draws) -> tuple[Floats, Floats]:
        """Return probabilities (N,K) and the last hidden layer (N,F) in one pass, as `classify` and `features` do."""
        output, hidden = self._outputs(images, draws)
        return self._probabilities(output), hidden

    def _outputs(self, images: Pixels, draws: Draws) -> tuple[Array, Floats]:
        last = self._fused.nodes[-1].inputs[0]
        seen: list[Array] = []

        def watch(node: Node, y: Array) -> None:
            if node.name == last:
                seen.append(y)

        output = self._run(self.backend.asarray(images), draws, watch)
        hidden = self.backend.to_numpy(seen[0]).reshape(len(images), -1)
        if not np.isfinite(hidden).all():
            raise NumericError(f"{self.where}: an output of the last hidden layer is not finite")
        return output, hidden

    def _run(self, images: Array, draws: Draws, watch: Callable[[Node, Array], None] | None = None) -> Array:
        """Return the outputs for images on the device of column 0."""
        with np.errstate(over="ignore", invalid="ignore"):  # the outputs are checked
            crops = passes.crop(self.plan, images, self.mean, draws, self.backend)
            return passes.forward(self._fused, self.params, crops, self.backend, record=False, watch=watch).output

    def _probabilities(self, output: Array) -> Floats:
        labels = self.backend.asarray(np.zeros(output.shape[0], np.int64))  # any: only the loss, not used, needs them
        _, p = self.backend.softmax_xent.forward(output, labels)
        probabilities = self.backend.to_numpy(p)
        if not np.isfinite(probabilities).all():
            raise NumericError(f"{self.where}: a probability is NaN; the parameters have grown beyond all measure")
        return probabilities

    @cached_property
    def _fused(self) -> Plan:
        return fuse(self.plan)

    def read(self, place: Place) -> Pixels:
        """Read an image file as in training: uint8 (H,W,C). Raises ``DataError``."""
        with decode.opened(place) as image:
            return self.fit(image)

    def read_bytes(self, content: bytes, name: str) -> Pixels:
        """Read the bytes of an image file as `read` does; `name` is what messages call it."""
        with decode.opened_bytes(content, name) as image:
            return self.fit(image)

    def fit(self, image: Image.Image) -> Pixels:
        """Return a picture in the form that the network takes: uint8 (H,W,C).

        Raises ``DataError`` if only the reader of another package can do that, and it is not installed.
        """
        if self.own_fit:
            return self.own_fit(image)
        facts = self.facts.data
        if self.is_of_another_package:
            raise DataError(
                f"{printable(self.where)} was trained on the data set {printable(facts.name)} of another package, "
                "which prepares its images and is not installed here: install it"
            )
        return decode.centre_square(image, self.image_shape[0], self.image_shape[2])


def open_trained(
    where: str | Path, backend: str = "auto", *, devices: Sequence[str] = (), threads: int | None = None
) -> Trained:
    """Return the network of a checkpoint, or of a run's best checkpoint by validation error, placed on a backend.

    Raises ``CheckpointError``, and ``BackendUnavailableError`` or ``ConfigError`` as `refnet.backend.load`.
    """
    saved = generations.load(where)
    facts = saved.facts
    net = facts.spec.net()
    flip = facts.config.get("flip")
    net = replace(net, flip=net.flip if flip is None else bool(flip))
    threads = threads or net.recipe.get("threads")
    loaded = backends.load(backend, columns=facts.spec.columns, devices=devices, threads=threads)
    plan = checkpoint.plan_of(facts.spec)
    params = passes.place_params(plan, saved.params, loaded)
    return Trained(str(where), facts, net, plan, params, loaded.asarray(saved.mean), loaded)


def check_members(members: Sequence[Trained]) -> None:
    """Raise ``CheckpointError`` unless all networks take images of one shape and have the same classes in one order."""
    first = members[0]
    for other in members[1:]:
        both = f"{other.where} does not fit {first.where}"
        if other.image_shape != first.image_shape:
            raise CheckpointError(
                f"{both}: it takes images of {dimensions(other.image_shape)}, not of {dimensions(first.image_shape)}; "
                "evaluate them one by one"
            )
        if other.net.outputs != first.net.outputs:
            raise CheckpointError(
                f"{both}: it has {other.net.outputs} outputs, not {first.net.outputs}; evaluate them one by one"
            )
        if difference := _difference(other.facts.classes, first.facts.classes):
            raise CheckpointError(f"{both}: {difference}; evaluate them one by one")


def _difference(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """Return the first difference between two lists of classes; None if they are equal."""
    if len(ours) != len(theirs):
        return f"it has {len(ours)} classes, not {len(theirs)}"
    for label, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a != b:
            return f"its class {label} is {printable(a)}, not {printable(b)}"
    return None
