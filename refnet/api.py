"""The Python interface: train a network, load it, use it to predict, and open a data set.

``import refnet`` offers :func:`train`, :func:`load` and :func:`open_data`. The classes here are what these return.
"""

import inspect
import os
import signal
import sys
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from html import escape
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from refnet import files
from refnet.config import Config, configure
from refnet.data import arrays
from refnet.data.dataset import Dataset, Pixels, Shape, Split
from refnet.data.fitted import FittedPictures
from refnet.data.handle import Data, open_data, refuse_parts
from refnet.data.on_demand import split_of
from refnet.data.parallel import Reading
from refnet.errors import CheckpointError, ConfigError, DataError
from refnet.evaluation import protocol
from refnet.evaluation.inputs import is_single, pixels_of
from refnet.evaluation.labelled import matched, open_labelled
from refnet.evaluation.negative import negatives, note_on_negatives, note_on_split
from refnet.evaluation.neighbours import of_images
from refnet.evaluation.prediction import Prediction, prediction
from refnet.evaluation.protocol import PROTOCOLS, Tally
from refnet.evaluation.responses import outputs_of
from refnet.evaluation.trained import Floats, Trained, open_trained
from refnet.machine import environment
from refnet.nets import Net, NetSpec, register
from refnet.nets import get as get_net
from refnet.nets.summary import summarise
from refnet.pictures import drawing
from refnet.pictures import summary as summary_text
from refnet.pictures.write import report
from refnet.runs import directory, history, inventory
from refnet.runs.resume import Resume
from refnet.terminal import progress as terminal
from refnet.terminal.printable import dimensions, duration, printable
from refnet.terminal.progress import Quiet
from refnet.terminal.signals import Interrupted
from refnet.terminal.spelling import with_arguments
from refnet.training import loop

__all__ = ["Curves", "Data", "Network", "Prediction", "Run", "load", "open_data", "train"]

Crops: TypeAlias = Literal["centre", "ten"]
Figures: TypeAlias = npt.NDArray[np.float64]
AnyPath: TypeAlias = str | PathLike[str]
Arrays: TypeAlias = Sequence[Any]  # a pair (images, labels)

BATCH = 128  # images in a batch of inference
SHOWN_CLASSES = 5  # names in the repr of a network


@dataclass(frozen=True, eq=False, repr=False)
class Curves:
    """The training curves of a run: arrays of one number for each step, float64 (steps,), or epoch, float64 (epochs,).

    Attributes
    ----------
    step
        The number of each step, counted from 1.
    loss
        The training loss of each step.
    learning_rate
        The learning rate of each step.
    epoch
        The number of each epoch, counted from 1.
    train_loss
        The mean training loss of each epoch.
    validation_loss
        The loss on the validation images after each epoch.
    validation_error
        The top-1 error on the validation images after each epoch, a fraction from 0 to 1.
    validation_top5_error
        The top-5 error on the validation images after each epoch, a fraction from 0 to 1.
    """

    step: Figures
    loss: Figures
    learning_rate: Figures
    epoch: Figures
    train_loss: Figures
    validation_loss: Figures
    validation_error: Figures
    validation_top5_error: Figures

    def __repr__(self) -> str:
        steps, epochs = len(self.step), len(self.epoch)
        return (
            f"<Curves: step, loss, learning_rate ({steps:,}); epoch, train_loss, validation_loss, validation_error, "
            f"validation_top5_error ({epochs:,})>"
        )


class Run:
    """A training run: its result, its curves, and the network that it trained.

    Attributes
    ----------
    path
        The folder of the run.
    data
        The arrays that it is trained on, if this program has them; None for a data set on disk.
    own_net
        The network that you defined and that it trains, if this program has it; None for a network with a name.
    """

    def __init__(self, path: Path, data: Data | None = None, own_net: Net | None = None) -> None:
        self.path = path
        self.data = data
        self.own_net = own_net

    @property
    def result(self) -> Mapping[str, Any] | None:
        """The content of ``result.json``, with test errors, steps, epochs and seconds; None for an unfinished run."""
        return self._inspected.result

    @property
    def test_error(self) -> float | None:
        """The top-1 error on the test images, a fraction from 0 to 1, after the last step; None for an unfinished run.

        `net` is the best checkpoint, which may be from an earlier step and then has another test error.
        """
        return self.result["test_top1_error"] if self.result else None

    @property
    def curves(self) -> Curves:
        """The losses, errors and learning rates so far."""
        records = history.read(self.path)
        steps, epochs = records.steps, records.epochs
        return Curves(
            step=steps["step"],
            loss=steps["loss"],
            learning_rate=steps["lr"],
            epoch=epochs["epoch"],
            train_loss=epochs["train_loss"],
            validation_loss=epochs["validation_loss"],
            validation_error=epochs["validation_top1_error"],
            validation_top5_error=epochs["validation_top5_error"],
        )

    @cached_property
    def net(self) -> "Network":
        """The trained network, loaded from the checkpoint with the lowest validation error.

        Raises ``CheckpointError`` for a run that has saved none.
        """
        return load(self)

    def report(self, output: AnyPath | None = None, *, data: AnyPath | None = None) -> Path:
        """Write the page about the run, and return its path: `output`, or ``report.html`` in the run's folder.

        `data` is the place of the images if they are no longer where they were during the training.
        """
        where = self.path / "report.html" if output is None else _folder(output, "output", "the path of a file")
        place = None if data is None else files.expanded(data)
        page = report(self.path, _Warnings(), dataset=None if place else self._dataset(), data=place)
        try:
            files.replace(where, page.encode())
        except OSError as error:
            raise ConfigError(f"output={str(where)!r} cannot be written: {error.strerror}; choose another") from error
        return where

    def _dataset(self) -> Dataset | None:
        """Open the data set of the run, if it was arrays, which no file has, and there is a network to show it to."""
        try:
            return self.net.own_dataset() if self.data else None
        except CheckpointError:
            return None

    @property
    def _inspected(self) -> inventory.RunSummary:
        return inventory.inspect(self.path)

    def _figures(self) -> dict[str, str]:
        run = self._inspected
        figures = {"run": str(run.path), "net": run.net, "data": run.data, "state": run.status}
        if run.result:
            figures["test error"] = f"{run.result['test_top1_error']:.2%}"
        if run.best_error is not None:
            figures["best validation error"] = f"{run.best_error:.2%}"
        figures |= {"steps": f"{run.step:,}", "epochs": f"{run.epoch} of {run.epochs}"}
        if run.seconds is not None:
            figures["time"] = duration(run.seconds)
        return {name: printable(text) for name, text in figures.items()}

    def __repr__(self) -> str:
        figures = self._figures()
        facts = ", ".join(f"{name} {text}" for name, text in figures.items() if name not in ("run", "state", "time"))
        return f"<Run {figures['run']}: {facts}, {figures['state']}>"

    def _repr_html_(self) -> str:
        return _table(self._figures())


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
            _Warnings().say(note)
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
            _Warnings().say(note)
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
            _Warnings().say(line)
        return dataset

    def own_dataset(self, reading: Reading = Reading()) -> Dataset:  # noqa: B008 - it cannot be changed
        """Return the data set that it was trained on, in the form that it takes. Raises as `opened` does."""
        if self._data is None:
            return open_labelled(self._trained, _Warnings(), reading=reading)
        images = self._trained.facts.config.get("images")
        dataset = self.opened(self._data, reading)
        return dataset.subset(images) if isinstance(images, int) else dataset

    def summary(self, batch: int = BATCH) -> "Text":
        """Return the table of its layers: shapes, parameters, multiply-adds, and memory for a batch of that size."""
        columns = self._trained.plan.columns
        return Text(summary_text.text(summarise(self._trained.net, columns, batch)))

    def __repr__(self) -> str:
        return f"<Network {', '.join(f'{name} {value}' for name, value in self._facts().items())}>"

    def _repr_html_(self) -> str:
        return f"{_table(self._facts())}{drawing.image(self._trained.plan)}"

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
            dataset = open_labelled(self._trained, _Warnings(), what=files.expanded(data), reading=reading)
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


class _Warnings(Quiet):
    """Shows no progress, and issues messages as warnings."""

    def say(self, line: str) -> None:
        """Warn, at the line of the user's program that called refnet."""
        frame, level = inspect.currentframe(), 1
        while frame and frame.f_globals.get("__name__", "").partition(".")[0] == "refnet":
            frame, level = frame.f_back, level + 1
        warnings.warn(with_arguments(line).removeprefix("note: ").removeprefix("warning: "), stacklevel=level)


class Text(str):
    """A string that a notebook shows line by line, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def train(
    net: str | Net | None = None,
    data: Data | AnyPath | Arrays | None = None,
    *,
    validation: Arrays | None = None,
    test: Arrays | None = None,
    classes: Sequence[str] | None = None,
    resume: Run | AnyPath | None = None,
    changed_data: bool = False,
    tensorboard: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Train a network, test it, and return the run.

    Ctrl-C, or a notebook's button to interrupt, saves the run and returns it; ``resume=`` continues it.

    Parameters
    ----------
    net
        The name of a network (by default ``"digits"``), or a :class:`refnet.nets.Net` of your own. Settings that you do
        not give have the values of the network's recipe.
    data
        A path, the name of a data set, a pair of arrays (images, labels), or what :func:`open_data` returns, whose
        documentation describes these forms. By default, the network's own data set. Images of another size are
        cropped and resized to that of the network, as image files are.
    validation, test, classes
        Only for arrays; see :func:`open_data`.
    resume
        A run, or its folder, to continue. `settings` then replace those of the run.
    changed_data
        With `resume`: continue even if the data set has changed.
    tensorboard
        Also write files for TensorBoard, to the folder ``tensorboard`` of the run.
    progress
        Whether to print the progress of training.
    settings
        The settings of ``refnet train``: ``epochs=10``, ``lr=0.01``, ``seed=1``, ``backend="numpy"``,
        ``run_dir="runs/first"``. Without `run_dir`, each run gets a new folder under ``runs``. Unlike the command, this
        function does not read the environment variables ``REFNET_...``.

    Raises
    ------
    ConfigError, DataError, CheckpointError, BackendUnavailableError
        Before anything is written; ``CheckpointError`` also when checkpoints cannot be written.
    NumericError
        The loss or a gradient is NaN or infinite; the message says at which step and in which layer.
    """
    show = terminal.on(sys.stdout, with_arguments) if progress else Quiet()
    arrays_alone = {"validation": validation, "test": test, "classes": classes}
    opened: Data | None = resume.data if isinstance(resume, Run) and data is None else None
    if data is None or isinstance(data, str | PathLike | Data):
        refuse_parts("data=" + ("None" if data is None else repr(data)), **arrays_alone)
        if data is not None:
            settings["data"] = data.given if isinstance(data, Data) else fspath(data)
        if isinstance(data, Data):
            opened = data if data.given == arrays.NAME else opened
            if data.source and data.source.links:
                settings.setdefault("follow_links", True)
    else:
        opened = open_data(data, validation=validation, test=test, classes=classes)
        settings["data"] = opened.given
    own = net if isinstance(net, Net) else resume.own_net if isinstance(resume, Run) and net is None else None
    if own is not None:
        settings["net"] = register(own)
    elif net is not None:
        settings["net"] = net
    config, resumed = (configure(**settings), None) if resume is None else _resumed(resume, settings, changed_data)
    _refuse_used(config.run_dir)
    if note := environment.note(os.environ, config.threads):
        show.say(note)
    try:
        result = loop.train(config, show, resumed, board=tensorboard, dataset=_for_net(opened, config))
    except Interrupted as error:
        if error.number != signal.SIGINT or error.run is None:
            raise
        show.say(f"interrupted{error.__cause__ or ''}; resume with refnet.train(resume={str(error.run)!r})")
        return Run(error.run, opened, own)
    show.say(f"test error {result.test.top1_error:.2%} top-1, {result.test.top5_error:.2%} top-5; run in {result.run}")
    return Run(Path(result.run), opened, own)


def load(
    where: Run | AnyPath,
    *,
    net: Net | None = None,
    backend: str = "auto",
    devices: Sequence[str] = (),
    threads: int | None = None,
) -> Network:
    """Return a trained network.

    Parameters
    ----------
    where
        A run or its folder, whose checkpoint with the lowest validation error is used; or the path of a checkpoint, a
        ``.safetensors`` file.
    net
        The network that you defined, if it is not registered and another program trained it.
    backend, devices, threads
        What the network runs on; see ``refnet train``.

    Raises
    ------
    CheckpointError
        There is no checkpoint, or it cannot be read.
    BackendUnavailableError, ConfigError
        The backend cannot run here, or not on these devices; or an argument has a wrong type.
    """
    path = _folder(where, "where", "a run, its folder, or the path of a checkpoint")
    own = where.own_net if isinstance(where, Run) and net is None else net
    if own is not None:
        register(own)
    trained = open_trained(path, backend, devices=devices, threads=threads)
    return Network(trained, where.data if isinstance(where, Run) else None, threads)


def _resumed(resume: Run | AnyPath, settings: dict[str, Any], changed_data: bool) -> tuple[Config, Resume]:
    """Return the configuration of a run with what `settings` change in it, and how it is resumed."""
    path = _folder(resume, "resume", "a run, or the path of its folder")
    if settings.get("run_dir") is not None:
        raise ConfigError(f"run_dir={settings['run_dir']!r} cannot be given with resume=: the run has its own folder")
    file = directory.configuration(path)
    try:
        stored = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {' '.join(str(error).split())}; fix or remove it") from error
    return configure(**stored | settings), Resume(path, frozenset(settings), changed_data)


def _folder(run: Run | AnyPath, argument: str, rule: str) -> Path:
    """Return the folder of a run, or a path. Raises ``ConfigError``, which names the argument, for anything else."""
    if isinstance(run, Run):
        return run.path
    try:
        return Path(files.expanded(run))
    except TypeError as error:
        raise ConfigError(f"{argument}={run!r} is not allowed; it must be {rule}") from error


def _refuse_used(run_dir: str | None) -> None:
    """Raise ``ConfigError`` for the folder of a run, as when a notebook's cell that names it runs again."""
    if run_dir is not None and (Path(run_dir) / directory.CONFIG).is_file():
        raise ConfigError(
            f"run_dir={run_dir!r} has a run already; continue it with resume={run_dir!r}, give another folder, or "
            "leave run_dir out for a fresh one each time"
        )


def _for_net(data: Data | None, config: Config) -> Dataset | None:
    """Open arrays in the form that the configured net reads."""
    if data is None:
        return None
    net = get_net(config.net, config.init, config.variant)
    reading = Reading(config.read_threads, config.read_timeout, config.bad, config.follow_links)
    return data.dataset(image_size=net.image_size, channels=net.input_shape[0], reading=reading)


def _batches(pixels: Pixels) -> Iterator[Pixels]:
    for start in range(0, len(pixels), BATCH):
        yield pixels[start : start + BATCH]


def _table(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in facts.items())
    return f"<table>{rows}</table>"
