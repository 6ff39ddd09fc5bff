"""A run while a process trains it: opened new or from its last checkpoint, saved, and stopped by a signal."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from refnet.backend.interface import Array, Backend
from refnet.backend.loading import load
from refnet.config import Config
from refnet.data.crops import Augmentation
from refnet.data.dataset import Dataset, Split, check_fits, describe, subset
from refnet.data.fingerprint import fingerprint
from refnet.data.loader import Loader
from refnet.data.opening import is_absent, open_showing
from refnet.data.parallel import Reading
from refnet.errors import ConfigError, DataError, NumericError
from refnet.evaluation.score import score
from refnet.files import warn_unlocked
from refnet.machine import compiling, environment
from refnet.nets import Net, NetSpec
from refnet.runs import generations
from refnet.runs.checkpoint import Checkpoint
from refnet.runs.directory import RunDirectory, repeatable
from refnet.runs.resume import (
    Changes,
    Resume,
    changes,
    check_classes,
    check_data,
    for_backend,
    surroundings,
    with_new_data,
)
from refnet.runs.saver import Saver
from refnet.runs.state import DataFacts, Facts, Rate, Score, State
from refnet.terminal.printable import printable
from refnet.terminal.progress import Lasting, Pace, Show
from refnet.terminal.signals import Interrupted, Stop
from refnet.terminal.sparkline import Sparkline
from refnet.terminal.spelling import setting
from refnet.training import schedule
from refnet.training.notes import notes
from refnet.training.step import StepSettings, TrainingStep, begin, restore


@dataclass
class Session:
    """A run while a process trains it: its parts and its state."""

    config: Config
    net: Net
    dataset: Dataset
    loader: Loader
    mean: Array  # of the data set, where column 0 computes
    training: TrainingStep
    state: State
    run: RunDirectory
    saver: Saver
    stop: Stop
    show: Show
    facts: Facts
    began: float
    curve: Sparkline = field(default_factory=Sparkline)  # of the loss, for a terminal
    pace: Pace = field(default_factory=Pace)  # of the steps

    def now(self) -> State:
        """Return the state, with the lines of metrics and the seconds so far."""
        return replace(self.state, lines=self.run.metrics.lines, seconds=time.monotonic() - self.began)

    def save(self, *, must: bool = False) -> None:
        """Save a checkpoint, unless this state is saved already. See `Saver.save`."""
        if must:
            self.saver.wait()
        saved, state = self.saver.saved, self.now()
        if saved and (saved.step, saved.epoch, saved.position) == (state.step, state.epoch, state.position):
            return
        self.saver.save(
            replace(self.facts, state=state),
            self.training.params,
            self.training.velocities,
            self.dataset.mean,
            self.training.backend.to_numpy,
            must=must,
        )

    def check(self) -> None:
        """Save the run and raise ``Interrupted`` if a signal has asked it to stop."""
        self.saver.poll()
        if self.stop.asked is not None:
            self.save(must=True)
            raise Interrupted(self.stop.asked, f"; step {self.state.step} is saved")

    def score(self, which: Literal["train", "validation", "test"], max_images: int | None = None) -> Score:
        """Return loss and errors on the images of a split, on at most `max_images` of them if given."""
        split: Split = getattr(self.dataset, which)
        split = split if max_images is None else subset(split, max_images)
        training, mean, batch = self.training, self.dataset.mean, self.config.batch
        with self.at_step(self.state.step):
            return score(
                training.plan,
                training.params,
                split,
                mean,
                training.backend,
                batch=batch,
                between=self.check,
                reading=_reading(self.config),
            )

    @staticmethod
    @contextmanager
    def at_step(step: int) -> Iterator[None]:
        """Add the step to the message of a ``NumericError``."""
        try:
            yield
        except NumericError as error:
            raise NumericError(f"step {step}: {error.message}") from error


def open_session(
    config: Config, show: Show, resume: Resume | None, stack: ExitStack, dataset: Dataset | None = None
) -> Session:
    """Return the session of a new run or of one that is resumed.

    The folder of a new run is made last, so that a user's mistake leaves no folder.
    """
    began = time.monotonic()
    saved = None
    if resume is None:
        RunDirectory.check(config)
    else:
        run = stack.enter_context(RunDirectory.reopen(resume.path))
        with show.task("reading the checkpoint"):
            saved = _newest(run, show)
        config = for_backend(saved.facts, config, resume.flags) if saved else config
    changed = changes(saved.facts, config) if saved else {}
    _refuse_contradictions(config)
    schedule.get(config.schedule)  # a package that is broken is reported before anything is written
    backend = load(
        config.backend,
        columns=config.columns,
        devices=config.devices,
        threads=config.threads,
        checked=False,  # shapes were checked when the network was planned, labels when the data set was opened
        results=config.checked,
        precision=config.precision,
        exchange="fp16" if config.exchange == "fp16" else None,  # "none" changes the plan, not the backend
        graph=config.graph or None,
    )
    stack.enter_context(compiling.noted(Lasting(show), backend))
    dataset = dataset or _open_data(config, show, resume)
    if saved:
        check_classes(saved.facts, dataset)
    outputs = saved.facts.spec.outputs if saved else config.outputs or len(dataset.classes)
    spec = replace(config.spec, outputs=outputs)
    net, plan, settings = spec.net(), spec.plan(), _settings(config)
    dataset = _part(net, config, dataset, show)
    state = State(Rate(config.lr))
    lines: list[str] = []
    if saved and resume:
        state, lines, changed = _continued(saved.facts, config, dataset, resume, changed)
        training = restore(plan, backend, saved.params, saved.velocities, settings)
    else:
        with show.task("drawing the first weights"):
            training = begin(plan, backend, settings)

    facts = _facts(spec, config, dataset, backend, state)
    stop = stack.enter_context(Stop())
    if resume is None:
        run = stack.enter_context(RunDirectory.create(config))
    else:
        _take_up(run, config, facts, saved, changed, show)
    for note in [*lines, *notes(config, state.rate.lr, len(dataset.train), resume.flags if resume else None)]:
        show.say(note)
    if not run.locked:
        show.say(warn_unlocked(run.path))
    # BLAS's threads are the process's; NumPy's warnings are silenced because every loss is checked.
    stack.enter_context(threadpool_limits(config.threads, "blas"))
    stack.enter_context(np.errstate(over="ignore", invalid="ignore"))
    form = "one column" if config.columns == 1 else f"{config.columns} columns"
    show.say(f"net {net.name} in {form} on backend {backend.name}; run in {run.path}")
    lasting = Lasting(show)
    minutes, steps = config.checkpoint_minutes, config.checkpoint_steps
    saver = Saver(run.path, run.metrics, minutes=minutes, steps=steps, warn=lasting.say)
    saver.reserve(training.params, training.velocities)
    loader = _loader(net, dataset, config)
    mean, began = backend.asarray(dataset.mean), began - state.seconds
    return Session(config, net, dataset, loader, mean, training, state, run, saver, stop, lasting, facts, began)


def _loader(net: Net, dataset: Dataset, config: Config) -> Loader:
    flip = net.flip if config.flip is None else config.flip
    augmentation = Augmentation(net.crop, flip, config.colour_noise, config.crop_sharing, config.augment)
    return Loader(dataset, config.batch, augmentation, seed=config.seed, reading=_reading(config))


def _settings(config: Config) -> StepSettings:
    return StepSettings(config.momentum, config.weight_decay, config.seed, config.non_finite, config.graph)


def _refuse_contradictions(config: Config) -> None:
    if config.graph and config.checked:
        raise ConfigError(
            f"{setting('graph')} replays a whole step at once, so {setting('checked')} cannot look into it; use "
            "one of the two"
        )
    if config.graph and config.non_finite == "skip":
        raise ConfigError(
            f"{setting('graph')} replays a whole step at once, so {setting('non_finite', 'skip')} cannot look at its "
            "gradients; use one of the two"
        )
    if config.flip and not config.augment:
        raise ConfigError(
            f"{setting('augment', False)} takes the centre crop alone, so {setting('flip', True)} cannot mirror it; "
            "use one of the two"
        )


def _newest(run: RunDirectory, show: Show) -> Checkpoint | None:
    """Read the newest intact checkpoint; warn of damaged ones that are newer, and set them aside."""
    newest, damaged = generations.newest_intact(run.path)
    for path, error in damaged.items():
        show.say(f"warning: {error.message}; it is set aside, and the one before is used")
        generations.set_aside(path)
    return newest


def _continued(
    facts: Facts, config: Config, dataset: Dataset, resume: Resume, changed: Changes
) -> tuple[State, list[str], Changes]:
    """Return the state from which a run goes on, lines about its learning rate, and what has changed, data included.

    Raises ``DataError`` as `check_data`.
    """
    new_data = check_data(facts, dataset, resume, changed)
    state = with_new_data(facts.state) if new_data else facts.state
    rate, line = schedule.resumed(state, config, changed, resume.flags)
    return replace(state, rate=rate), [line] if line else [], changed | new_data


def _take_up(
    run: RunDirectory,
    config: Config,
    facts: Facts,
    saved: Checkpoint | None,
    changed: Changes,
    show: Show,
) -> None:
    """Prepare the run folder to continue from the checkpoint; show and log which settings have changed since."""
    state = facts.state
    lines = run.rewind(config, state.lines)
    if lines < state.lines:
        show.say(f"warning: {run.path} has lost {state.lines - lines} of {state.lines} lines of metrics")
    if saved is None:
        show.say(f"{run.path} has no checkpoint: it starts from the beginning")
        return
    show.say(f"continuing after step {state.step}, in epoch {state.epoch}")
    around = surroundings(saved.facts, facts.backend, facts.environment, changed)
    for name, (before, now) in changed.items():
        if name == "fingerprint":
            show.say(f"changed: the images, labels or classes; epoch {state.epoch} starts again with the present ones")
        else:
            show.say(f"changed: {name} was {before}, is {now}")
    if around:
        show.say(f"bits may differ from those of a run that was never stopped: other {', '.join(around)}")
    if changed or around:
        run.metrics.log("resume", step=state.step, changed=changed | around)


def _facts(spec: NetSpec, config: Config, dataset: Dataset, backend: Backend, state: State) -> Facts:
    data = DataFacts(dataset.name, dataset.where, dataset.layout, dataset.image_shape, fingerprint(dataset))
    return Facts(
        spec=spec,
        backend=backend.name,
        classes=dataset.classes,
        words=dataset.words,
        data=data,
        config=asdict(repeatable(config)),
        environment=environment.describe(),
        state=state,
    )


def _open_data(config: Config, show: Show, resume: Resume | None) -> Dataset:
    net = config.spec.net()
    what = config.data or net.data
    if what is None:
        raise ConfigError(f"net {net.name} has no data of its own; give a folder of images with {setting('data')}")
    if resume and "data" not in resume.flags and is_absent(what):
        raise DataError(
            f"{printable(resume.path)} was trained on {printable(what)}, which is not here: give the new place of "
            f"these images with {setting('data')}"
        )
    channels, *_ = net.input_shape
    return open_showing(show, what, image_size=net.image_size, channels=channels, reading=_reading(config))


def _part(net: Net, config: Config, dataset: Dataset, show: Show) -> Dataset:
    """Check that the data fit the net, and return the configured number of images of them. Raises ``DataError``."""
    check_fits(dataset, net.outputs)
    dataset = dataset if config.images is None else dataset.subset(config.images)
    show.say(describe(dataset))
    if dataset.warning:
        show.say(dataset.warning)
    return dataset


def _reading(config: Config) -> Reading:
    return Reading(config.read_threads, config.read_timeout, config.bad, config.follow_links)
