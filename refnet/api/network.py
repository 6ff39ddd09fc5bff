"""A trained network: what it predicts, computes, and gets wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from refnet import files
from refnet.api._common import AnyPath, Arrays, Crops, Warnings, html_table
from refnet.data import arrays
from refnet.data.dataset import Dataset, Pixels, Shape, Split
from refnet.data.fitted import FittedPictures
from refnet.data.handle import Data
from refnet.data.on_demand import split_of
from refnet.data.parallel import Reading
from refnet.errors import ConfigError, DataError
from refnet.evaluation import protocol
from refnet.evaluation.inputs import is_single, pixels_of
from refnet.evaluation.labelled import matched, open_labelled
from refnet.evaluation.negative import negatives, note_on_negatives, note_on_split
from refnet.evaluation.neighbours import of_images
from refnet.evaluation.prediction import Prediction, prediction
from refnet.evaluation.protocol import PROTOCOLS, Tally
from refnet.evaluation.responses import outputs_of
from refnet.evaluation.trained import Floats, Trained
from refnet.nets import NetSpec
from refnet.nets.summary import summarise
from refnet.pictures import drawing
from refnet.pictures import summary as summary_text
from refnet.terminal.printable import dimensions, printable

BATCH = 128  # images in a batch of inference
SHOWN_CLASSES = 5  # names in the repr of a network


class Text(str):
    """A string that a notebook shows line by line, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Network:
    """A trained network."""

    def __init__(self, trained: Trained, data: Data | None = None, threads: int | None = None) -> None:
        self._trained = trained
        self._data = data
        self._threads = threads

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; a label is an index into these."""
        return self._trained.facts.classes

    @property
    def image_shape(self) -> Shape:
        """The shape (H,W,C) of the images that it takes; other images are cropped and resized to it."""
        return self._trained.image_shape

    @property
    def spec(self) -> NetSpec:
        """Its choice of a network (name, initialisation, variants, columns, exchange); ``spec.plan()`` is its plan."""
        return self._trained.facts.spec

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its layers, in order. `features` and `activations` take such a name."""
        names = (node.layer.name for node in self._trained.plan.nodes if node.layer.op != "gather")
        return tuple(dict.fromkeys(names))

    @property
    def parameters(self) -> dict[str, npt.NDArray[np.float32]]:
        """A copy of every parameter by its name; ``conv1@0.w`` is the name of the weights of conv1 in column 0."""
        backend = self._trained.backend
        return {name: np.array(backend.to_numpy(value)) for name, value in self._trained.params.items()}

    def predict(self, images: Any, *, crops: Crops = "centre") -> list[Prediction]:
        """Return the prediction for each image.

        Parameters
        ----------
        images
            A path of an image file or of a folder of images, a pattern such as ``"photos/*.jpg"``, a PIL image or an
            array: uint8 (H,W), (H,W,C), (N,H,W) or (N,H,W,C) with C 1 or 3; or a list or iterator of these. Files of a
            folder or pattern are sorted by name. An array of the shape `image_shape` is taken as it is. From any other
            image the central square is cut out and resized, as in training on image files.
        crops
            ``"centre"``: the centre crop. ``"ten"``: the mean over the paper's ten crops (five, where mirror images
            were not trained on).

        Raises
        ------
        DataError
            A file cannot be read, or an array has another form.
        """
        if crops not in PROTOCOLS:
            raise ConfigError(f"crops={crops!r} is not allowed; it must be one of {', '.join(map(repr, PROTOCOLS))}")
        pixels = pixels_of(self._trained, images)
        if note := note_on_negatives([f"image {index}" for index in negatives(self._trained, pixels)]):
            Warnings().say(note)
        predictions: list[Prediction] = []
        with self._limited():
            for batch in _batches(pixels):
                probabilities = protocol.classify(self._trained, batch, {crops: PROTOCOLS[crops]})[crops]
                predictions += [prediction(self._trained, p) for p in probabilities]
        return predictions

    def features(self, images: Any, *, layer: str | None = None) -> Floats:
        """Return one vector for each image: float32 (N,F).

        Parameters
        ----------
        images
            As for `predict`; the centre crop is used.
        layer
            The layer whose outputs (of both columns) are returned; by default the last hidden layer.

        Raises
        ------
        DataError
            A file cannot be read, or an array has another form.
        ConfigError
            The network has no such layer.
        """
        pixels = pixels_of(self._trained, images)
        if layer is None:
            with self._limited():
                return np.concatenate([of_images(self._trained, batch) for batch in _batches(pixels)])
        outputs = self._outputs(pixels, layer)
        return outputs.reshape(len(outputs), -1)

    def activations(self, images: Any, layer: str) -> Floats:
        """Return the outputs of a layer for the centre crop of each image.

        The shape is (C,H,W) for one image, (N,C,H,W) for several; (F,) and (N,F) for a fully connected layer. The
        channels of column 0 come first. Raises as `features` does.
        """
        outputs = self._outputs(pixels_of(self._trained, images), layer)
        return outputs[0] if is_single(images) else outputs

    def evaluate(
        self,
        data: Data | AnyPath | Arrays | None = None,
        *,
        split: Literal["test", "validation", "train"] = "test",
        crops: Crops = "centre",
        bad: Literal["few", "skip", "stop"] = "few",
        follow_links: bool = False,
    ) -> Tally:
        """Return the errors on labelled images.

        Parameters
        ----------
        data
            What :func:`open_data` returns or accepts, of which `split` is used; the path of a folder of classes that
            is not the one the network was trained on, or a pair of arrays (images, labels), of which all are used.
            Without it, the data set that the network was trained on. Classes are matched by name: images of classes
            that the network does not know are left out, with a warning.
        crops
            As for `predict`.
        bad, follow_links
            What to do about images that cannot be read, and about links that lead out of a folder; see
            ``refnet eval``.

        Returns
        -------
        Tally
            With ``top1_error``, ``top5_error``, ``count`` (images), ``confusion`` (C,K) and ``class_errors`` (C,).

        Raises
        ------
        DataError
            Images cannot be read, are not on this machine, or are of none of the network's classes.
        """
        if crops not in PROTOCOLS:
            raise ConfigError(f"crops={crops!r} is not allowed; it must be one of {', '.join(map(repr, PROTOCOLS))}")
        if split not in ("test", "validation", "train"):
            raise ConfigError(f"split={split!r} is not allowed; it must be one of 'test', 'validation', 'train'")
        if bad not in ("few", "skip", "stop"):
            raise ConfigError(f"bad={bad!r} is not allowed; it must be one of 'few', 'skip', 'stop'")
        images = self._labelled(data, split, Reading(bad=bad, follow_links=follow_links))
        if note := note_on_split(self._trained, images):
            Warnings().say(note)
        protocols = {str(crops): PROTOCOLS[crops]}
        with self._limited():
            evaluation = protocol.evaluate([self._trained], images, protocols=protocols, batch=BATCH, reading=Reading())
        return evaluation.together[crops]

    def opened(self, data: Data, reading: Reading = Reading()) -> Dataset:  # noqa: B008 - it cannot be changed
        """Return a data set in the form that the network takes. Raises ``DataError``."""
        size, _, channels = self.image_shape
        fitted = data.dataset(image_size=size, channels=channels, reading=reading, fit=self._trained.own_fit)
        dataset, note = matched(self._trained, fitted)
        for line in filter(None, (dataset.warning, note)):
            Warnings().say(line)
        return dataset

    def own_dataset(self, reading: Reading = Reading()) -> Dataset:  # noqa: B008 - it cannot be changed
        """Return the data set that it was trained on, in the form that it takes. Raises as `opened` does."""
        if self._data is None:
            return open_labelled(self._trained, Warnings(), reading=reading)
        images = self._trained.facts.config.get("images")
        dataset = self.opened(self._data, reading)
        return dataset.subset(images) if isinstance(images, int) else dataset

    def summary(self, batch: int = BATCH) -> Text:
        """Return the table of its layers: shapes, parameters, multiply-adds, and memory for a batch of that size."""
        columns = self._trained.plan.columns
        return Text(summary_text.text(summarise(self._trained.net, columns, batch)))

    def __repr__(self) -> str:
        return f"<Network {', '.join(f'{name} {value}' for name, value in self._facts().items())}>"

    def _repr_html_(self) -> str:
        return f"{html_table(self._facts())}{drawing.image(self._trained.plan)}"

    def _facts(self) -> dict[str, str]:
        trained = self._trained
        names = ", ".join(self.classes[:SHOWN_CLASSES]) + (", ..." if len(self.classes) > SHOWN_CLASSES else "")
        facts = {
            "net": trained.facts.spec.name,
            "columns": str(trained.plan.columns),
            "images": dimensions(self.image_shape),
            "classes": f"{len(self.classes)} ({names})",
            "parameters": f"{sum(int(np.prod(shape)) for shape in trained.plan.param_shapes().values()):,}",
            "steps": f"{trained.facts.state.step:,}",
            "backend": trained.backend.name,
            "from": trained.where,
        }
        return {name: printable(text) for name, text in facts.items()}

    def _outputs(self, pixels: Pixels, layer: str) -> Floats:
        """Return the outputs of a layer for images (N,H,W,C), its columns joined: float32 (N,C,H,W) or (N,F)."""
        if layer not in self.layers:
            raise ConfigError(f"layer={layer!r} is not a layer of this network; it has {', '.join(self.layers)}")
        with self._limited():
            return np.concatenate([outputs_of(self._trained, batch, layer) for batch in _batches(pixels)])

    def _labelled(self, data: Data | AnyPath | Arrays | None, split: str, reading: Reading) -> Split:
        """Return labelled images in the form that the network takes."""
        if data is None:
            dataset = self.own_dataset(reading)
        elif isinstance(data, Data):
            dataset = self.opened(data, reading)
        elif isinstance(data, str | PathLike):
            dataset = open_labelled(self._trained, Warnings(), what=files.expanded(data), reading=reading)
        else:
            arrays.refuse_ambiguous(data, self.classes, "data")
            labelled = arrays.labelled(data, self.classes, "data")
            fit, in_form = self._trained.own_fit, labelled.pixels.shape[1:] == self.image_shape
            return split_of(FittedPictures(labelled, fit) if fit and not in_form else labelled, self.image_shape)
        images: Split = getattr(dataset, split)
        if not len(images):
            raise DataError(f"data: its {split} images are of none of the network's classes; give others")
        return images

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Let NumPy's matrix products use as many threads as the network was loaded with."""
        with threadpool_limits(self._threads, "blas"), np.errstate(over="ignore", invalid="ignore"):
            yield


def _batches(pixels: Pixels) -> Iterator[Pixels]:
    for start in range(0, len(pixels), BATCH):
        yield pixels[start : start + BATCH]
