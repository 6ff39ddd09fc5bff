"""Training: the paper's section 5, from a configuration to a test error."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite, prod
from typing import Any, TypeAlias, cast

import numpy as np
from threadpoolctl import threadpool_limits

from refnet import checkpoint, network
from refnet.backend import Array, Backend, load
from refnet.config import Config
from refnet.data import Dataset, Reading, check_fits, describe, open_dataset
from refnet.data.crops import Augmentation
from refnet.data.dataset import Labels, Mean
from refnet.data.loader import Loader
from refnet.errors import ConfigError, DeviceMemoryError, NumericError
from refnet.evaluate import Score, score
from refnet.fuse import fuse
from refnet.initial import initialise
from refnet.layers import Draw
from refnet.nets import Net, get
from refnet.plan import Plan
from refnet.progress import Show
from refnet.runs import RunDirectory
from refnet.schedule import Rate, after_epoch


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes
    ----------
    test
        Loss and errors on the test images, which nothing before has looked at.
    steps, epochs
        How many were done.
    seconds
        From the configuration to the test error.
    run
        The run's directory.
    """

    test: Score
    steps: int
    epochs: int
    seconds: float
    run: str

    def figures(self) -> dict[str, float | int | str]:
        """Give the result as flat keys and values."""
        return {
            "test_top1_error": self.test.top1_error,
            "test_top5_error": self.test.top5_error,
            "test_loss": self.test.loss,
            "steps": self.steps,
            "epochs": self.epochs,
            "seconds": round(self.seconds, 3),
            "run": self.run,
        }


Halves: TypeAlias = tuple[
    Callable[[Sequence[Array], Array, int], tuple[Array, Any]],  # images, labels, step -> loss, what the second needs
    Callable[[Any, float], None],  # that, lr
]


@dataclass
class Model:
    """A network in training: its plan, what the steps change in place, and the two halves of a step."""

    plan: Plan
    backend: Backend
    params: dict[str, Array]
    velocities: dict[str, Array]
    halves: Halves


def train(config: Config, show: Show) -> Result:
    """Train a network as configured, and test it once at the end.

    Raises
    ------
    ConfigError, DataError, BackendUnavailableError
        Before anything is written.
    NumericError
        The loss is NaN or infinite; the message says at which step.
    """
    began = time.monotonic()
    net = get(config.net, config.init)
    RunDirectory.check(config)
    if config.graph and config.checked:
        raise ConfigError("--graph repeats a step as one, so --checked cannot look into it; take one of the two")
    backend = load(
        config.backend,
        columns=config.columns,
        devices=config.devices,
        threads=config.threads,
        checked=config.checked,
        precision=config.precision,
        exchange="fp16" if config.exchange == "fp16" else None,  # that none do is the network's business
        graph=config.graph or None,
    )
    plan = fuse(net.plan(config.columns, exchange=config.exchange != "none"))
    dataset = _open(net, config, show)
    with show.task("drawing the first weights"):
        model = begin(plan, config, backend)

    with RunDirectory.create(config) as run, _surroundings(config, plan, run):
        form = "one column" if config.columns == 1 else f"{config.columns} columns"
        show.say(f"net {net.name} in {form} on backend {backend.name}; run in {run.path}")
        loader = begin_loader(net, dataset, config)
        tested = partial(
            score,
            model.plan,
            model.params,
            mean=dataset.mean,
            backend=backend,
            batch=config.batch,
            reading=reading(config),
        )
        rate = Rate(config.lr)
        step = 0
        for epoch in range(1, config.epochs + 1):
            step, loss = train_epoch(model, loader, dataset.mean, config, rate, epoch, step, run, show)
            with _at(step):
                validation = tested(dataset.validation)
            run.log("epoch", epoch=epoch, step=step, lr=rate.lr, train_loss=loss, **_named("validation", validation))
            show.say(
                f"epoch {epoch:3}  lr {rate.lr:<7.2g}  loss {loss:.4f}  "
                f"validation error {validation.top1_error:7.2%} top-1 {validation.top5_error:7.2%} top-5"
            )
            rate = after_epoch(rate, config, epoch, validation.top1_error)
            if rate.finished or step == config.max_steps:
                break

        test = validation
        if dataset.test is not dataset.validation:
            test = tested(dataset.test)
        result = Result(test, step, epoch, time.monotonic() - began, str(run.path))
        run.log("test", step=step, **_named("test", test))
        save(model, net, run, result)
        run.finish(result.figures())
    return result


def begin(plan: Plan, config: Config, backend: Backend) -> Model:
    """Draw the first parameters and lay them, and velocities of zero, where their columns live."""
    host = initialise(plan, config.seed)
    params = network.place_params(plan, host, backend)
    velocities = network.place_params(plan, {name: np.zeros_like(a) for name, a in host.items()}, backend)
    return model_of(plan, config, backend, params, velocities)


def model_of(
    plan: Plan, config: Config, backend: Backend, params: dict[str, Array], velocities: dict[str, Array]
) -> Model:
    """Put a network together from parameters and velocities that are in their places."""
    halves = _halves(plan, config, backend, params, velocities)
    if config.graph:
        halves = cast("Any", backend).graphed(*halves)
    return Model(plan, backend, params, velocities, halves)


def _halves(
    plan: Plan, config: Config, backend: Backend, params: dict[str, Array], velocities: dict[str, Array]
) -> Halves:
    """Write a step as two functions that touch arrays through the backend alone, and never bring one to the host.

    Between them the loss is looked at: a step whose loss is not finite changes nothing.
    """

    def forward(images: Sequence[Array], labels: Array, step: int) -> tuple[Array, Any]:
        tape = network.forward(plan, params, images, backend, draw=Draw(config.seed, step))
        loss, p = backend.softmax_xent.forward(tape.output, labels)
        return loss, (tape, p, labels)

    def backward(kept: Any, lr: float) -> None:
        tape, p, labels = kept
        for name, gradient in network.backward(tape, backend.softmax_xent.backward(p, labels)).items():
            decay = config.weight_decay if name.endswith(".w") else 0.0  # paper: weights decay, biases do not
            backend.sgd.step_(
                params[name], velocities[name], gradient, lr=lr, momentum=config.momentum, weight_decay=decay
            )

    return forward, backward


def begin_loader(net: Net, dataset: Dataset, config: Config) -> Loader:
    """Make the loader of the training images."""
    augmentation = Augmentation(net.crop, net.flip, config.colour_noise, config.crop_sharing)
    return Loader(dataset, config.batch, augmentation, seed=config.seed, reading=reading(config))


def reading(config: Config) -> Reading:
    """Say how images are read."""
    return Reading(config.read_threads, config.read_timeout)


def train_epoch(
    model: Model,
    loader: Loader,
    mean: Mean,
    config: Config,
    rate: Rate,
    epoch: int,
    step: int,
    run: RunDirectory,
    show: Show,
) -> tuple[int, float]:
    """Take one step for each batch of a fresh permutation of the training images; the last batch may be short.

    Returns the number of steps done since the run began, and the epoch's mean loss.
    """
    total, seen = 0.0, 0
    with show.task(f"epoch {epoch}", loader.batches()) as advance:
        began = time.monotonic()
        for done, batch in enumerate(loader.epoch(epoch), start=1):
            images = network.place_bytes(model.plan, batch.images, mean, batch.draws, model.backend)
            step += 1
            with _at(step):
                loss = train_step(model, images, batch.labels, rate.lr, step)
            seconds = time.monotonic() - began
            count = len(batch.labels)
            total, seen = total + loss * count, batch.stop
            run.log("step", step=step, epoch=epoch, loss=loss, lr=rate.lr, images=count, seconds=seconds)
            advance(done, remark=f"loss {loss:.4f}  {count / seconds:.0f} images/s")
            if step == config.max_steps:
                break
            began = time.monotonic()
    return step, total / seen


def train_step(model: Model, images: Sequence[Array], labels: Labels, lr: float, step: int) -> float:
    """Forward, backward, update; returns the batch's mean loss. The images lie where each column reads them.

    Raises
    ------
    NumericError
        The loss is NaN or infinite. The parameters are those before the step.
    """
    backend = model.backend
    forward, backward = model.halves
    batch_loss, kept = forward(images, backend.asarray(labels), step)
    loss = float(backend.to_numpy(batch_loss))
    if not isfinite(loss):
        raise NumericError(f"the loss is {loss}; a lower --lr than {lr:g} may keep it finite")
    backward(kept, lr)
    return loss


def save(model: Model, net: Net, run: RunDirectory, result: Result) -> None:
    """Write what was learned to the run's directory."""
    to_numpy = model.backend.to_numpy
    checkpoint.write(
        run.path / "parameters.safetensors",
        {name: to_numpy(a) for name, a in model.params.items()},
        {name: to_numpy(a) for name, a in model.velocities.items()},
        {"refnet": json.dumps({"net": net.name, "columns": model.plan.columns, "step": result.steps})},
    )


def _open(net: Net, config: Config, show: Show) -> Dataset:
    what = config.data or net.data
    if what is None:
        raise ConfigError(f"net {net.name} has no data of its own; give a folder of images with --data")
    channels, *_ = net.input_shape
    with show.task("reading images") as advance:
        dataset = open_dataset(
            what, image_size=net.image_size, channels=channels, progress=advance, reading=reading(config)
        )
    check_fits(dataset, net.outputs)
    show.say(describe(dataset))
    return dataset


@contextmanager
def _surroundings(config: Config, plan: Plan, run: RunDirectory) -> Iterator[None]:
    """Set what holds for the whole process while a run lasts, and say where it lies if it breaks off."""
    # NumPy's warnings are silenced because every loss is checked.
    with threadpool_limits(config.threads, "blas"), np.errstate(over="ignore", invalid="ignore"):
        try:
            yield
        except NumericError as error:
            raise NumericError(f"{error}; the figures so far are in {run.path}") from error
        except DeviceMemoryError as error:
            fits = batch_that_fits(plan, error.total, config)
            remedy = f"--batch {fits} would fit" if fits else "not even --batch 1 would fit"
            raise DeviceMemoryError(error.device, error.total, remedy) from error
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(f"; the figures so far are in {run.path}") from error


def batch_that_fits(plan: Plan, total: int | None, config: Config) -> int:
    """Estimate the largest batch for which a device has room, below the one for which it has none; 0 for none.

    A parameter has a velocity and a gradient beside it, and a step holds every activation, and as much again for
    gradients and what ops lay out for themselves. The columns share the device or have one each.
    """
    devices = len(set(config.devices)) or 1
    fixed = 3 * 4 * sum(prod(shape) for shape in plan.param_shapes().values())
    image = 2 * 4 * sum(prod(step.shape) for step in plan.steps)
    room = config.batch - 1 if total is None else int((0.9 * total * devices - fixed) // image)
    return max(0, min(room, config.batch // 2))


@contextmanager
def _at(step: int) -> Iterator[None]:
    """Say at which step a number was not finite."""
    try:
        yield
    except NumericError as error:
        raise NumericError(f"step {step}: {error}") from error


def _named(split: str, figures: Score) -> dict[str, float]:
    return {f"{split}_{name}": value for name, value in asdict(figures).items()}
