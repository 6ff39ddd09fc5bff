"""Training: the paper's section 5, from a configuration to a test error."""

import signal
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace

from refnet.config import Config
from refnet.data.dataset import Dataset
from refnet.data.loader import TrainingBatch
from refnet.errors import CheckpointError, DeviceMemoryError, NumericError
from refnet.network import passes
from refnet.runs import generations, tensorboard
from refnet.runs.resume import Resume
from refnet.runs.state import Score, State, Validated, informative
from refnet.terminal.progress import Show
from refnet.terminal.signals import Interrupted
from refnet.terminal.spelling import quoted_path, setting
from refnet.training.memory import batch_that_fits
from refnet.training.schedule import after_epoch
from refnet.training.session import Session, open_session

MAX_SKIPPED_STEPS = 10  # in a row


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes
    ----------
    test
        Loss and errors on the test images, which are used only once, at the end.
    steps, epochs
        The number of training steps and of epochs, of which the last may be cut short.
    seconds
        The time from the configuration to the test error, over all sessions of the run.
    run
        The run's directory.
    outputs
        The number of outputs of the network.
    """

    test: Score
    steps: int
    epochs: int
    seconds: float
    run: str
    outputs: int

    @property
    def errors(self) -> dict[str, float]:
        """The errors on the test images, by name; see :func:`refnet.runs.state.informative`."""
        return informative(self.test.top1_error, self.test.top5_error, self.outputs)

    def figures(self) -> dict[str, float | int | str]:
        """Return the result as a flat dict."""
        return {
            **self.test.figures("test"),
            "steps": self.steps,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "run": self.run,
        }


def train(
    config: Config, show: Show, resume: Resume | None = None, *, board: bool = False, dataset: Dataset | None = None
) -> Result:
    """Train a network as configured, or resume a run, and test it once at the end.

    Parameters
    ----------
    board
        Whether to write files for TensorBoard (:mod:`refnet.runs.tensorboard`) as well.
    dataset
        The data set of ``config.data``, if it is open already.

    Raises
    ------
    ConfigError, DataError, CheckpointError, BackendUnavailableError
        Before anything is written; ``CheckpointError`` also when checkpoints cannot be written.
    NumericError
        The loss or a gradient is NaN or infinite; the message says at which step and in which layer.
    Interrupted
        A signal stopped the run (twice: without saving it). The message says how to continue.
    """
    if board:
        tensorboard.require()
    with ExitStack() as stack:
        try:
            session = open_session(config, show, resume, stack, dataset)
        except DeviceMemoryError as error:
            raise _with_batch(error, config) from error
        where = session.run.path
        if board:
            session.run.metrics.also = tensorboard.follow(where, session.state.step, stack)
        try:
            with session.saver:
                return _train(session)
        except NumericError as error:
            newest = next(iter(generations.listed(where)), None)
            saved = f"the last checkpoint, {newest.name}, is finite" if newest else "no checkpoint was due before"
            raise NumericError(f"{error.message}; {saved}; the run is in {where}") from error
        except DeviceMemoryError as error:
            raise _with_batch(error, config) from error
        except OSError as error:
            raise CheckpointError(f"{where} cannot be written: {error.strerror}; free some space") from error
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Interrupted) else signal.SIGINT
            command = f"refnet train --resume {quoted_path(where)}"
            raise Interrupted(number, f"{error}; resume with: {command}", where) from error


def _with_batch(error: DeviceMemoryError, config: Config) -> DeviceMemoryError:
    """Return the error with the batch that would fit the device."""
    batch = batch_that_fits(config.spec.plan(), error.available, config.batch, len(set(config.devices)) or 1)
    remedy = f"{setting('batch', batch)} would fit" if batch else f"not even {setting('batch', 1)} would fit"
    return DeviceMemoryError(error.device, error.total, remedy, error.available)


def _train(session: Session) -> Result:
    """Train until the last epoch, until the schedule has finished, or until `max_steps`; then test."""
    config, dataset, run = session.config, session.dataset, session.run
    validation, cut = _validated(session.state), False
    begun = _has_steps(session.state, config)
    if not begun:
        session.show.say(_nothing_left(session.state, config))
    while not cut and _has_more(session.state, config):
        train_epoch(session)
        cut = session.state.position < len(dataset.train)
        if cut:  # saved as it is now, so that with more steps the epoch continues as if it had not been cut
            session.save(must=True)
        training = session.score("train", config.score_train) if config.score_train else None
        validation = session.score("validation")
        _report(session, validation, training)
        if not cut:
            session.state = _after(session.state, config, validation)
            if session.state.best == session.state.latest:
                session.save()
    session.save(must=True)
    if begun and session.state.rate.finished and session.state.epoch <= config.epochs:
        session.show.say(_ended_by_schedule(session.state, config))
    test = validation if validation and dataset.test is dataset.validation else session.score("test")
    state = session.now()
    result = Result(
        test, state.step, state.epoch - (not cut), round(state.seconds, 3), str(run.path), session.net.outputs
    )
    run.metrics.log("test", step=state.step, **test.figures("test"))
    run.finish(result.figures())
    return result


def train_epoch(session: Session) -> None:
    """Take one training step for each remaining batch of the epoch; the last batch may be smaller."""
    config, state, loader = session.config, session.state, session.loader
    before = loader.batches() - loader.batches(state.position)
    with session.show.task(f"epoch {state.epoch}", loader.batches()) as advance:
        began = time.monotonic()
        for done, batch in enumerate(loader.epoch(state.epoch, state.position), start=before + 1):
            if session.state.step == config.max_steps:
                break
            loss = _step(session, batch, began)
            speed = len(batch.labels) / (time.monotonic() - began)
            session.curve.add(loss)
            left = session.pace.left(_steps_left(session, done))
            advance(done, remark=f"loss {loss:.4f}  {speed:.0f} images/s", detail=_detail(session), left=left)
            if session.saver.due(session.state.step):
                session.save()
            session.check()
            began = time.monotonic()


def _step(session: Session, batch: TrainingBatch, began: float) -> float:
    """Take one step, log it and return its loss; NaN for a step that was left out."""
    config, state, training, seen = session.config, session.state, session.training, len(batch.labels)
    step, lr = state.step + 1, state.rate.lr
    pixels = training.backend.asarray(batch.images)
    images = passes.crop(training.plan, pixels, session.mean, batch.draws, training.backend)
    figures = {"step": step, "epoch": state.epoch, "lr": lr, "images": seen}
    state = replace(state, step=step, position=batch.stop)
    try:
        with session.at_step(step):
            loss = training.take(images, batch.labels, lr, step)
    except NumericError as error:
        if config.non_finite == "stop" or state.skipped + 1 == MAX_SKIPPED_STEPS:
            raise
        session.state = replace(state, skipped=state.skipped + 1)
        session.run.metrics.log("skip", **figures, reason=session.show.spell(error.message))
        session.show.say(f"warning: {error.message}; the step is left out")
        return float("nan")
    session.state = replace(state, skipped=0, total=state.total + loss * seen, counted=state.counted + seen)
    session.run.metrics.log("step", **figures, loss=loss, seconds=time.monotonic() - began)
    return loss


def _detail(session: Session) -> str:
    latest = session.state.latest
    return f"error {latest.top1_error:.2%}  {session.curve}" if latest else str(session.curve)


def _steps_left(session: Session, done: int) -> int:
    """Return how many steps are left after `done` steps of this epoch; the schedule may end the run earlier."""
    config, state, batches = session.config, session.state, session.loader.batches()
    steps = (config.epochs - state.epoch) * batches + batches - done
    return steps if config.max_steps is None else min(steps, config.max_steps - state.step)


def _has_more(state: State, config: Config) -> bool:
    """Return whether there are steps to do, or an epoch to close that `max_steps` had cut short."""
    if _has_steps(state, config):
        return True
    return state.position > 0 and state.epoch <= config.epochs and not state.rate.finished


def _has_steps(state: State, config: Config) -> bool:
    if state.epoch > config.epochs or state.rate.finished:
        return False
    return config.max_steps is None or state.step < config.max_steps


def _nothing_left(state: State, config: Config) -> str:
    """Return what to tell the user of a resumed run that has no steps to do, with the settings that give it some."""
    done, reasons, more = state.epoch - 1, [], []
    if state.rate.finished:
        reasons.append(f"schedule {config.schedule} ended the run after epoch {done}")
        more.append(_longer(state, config))
    elif done >= config.epochs:
        reasons.append(f"{setting('epochs', config.epochs)} is reached")
        more.append(setting("epochs", 2 * done))
    if config.max_steps is not None and state.step >= config.max_steps:
        reasons.append(f"{setting('max_steps', config.max_steps)} is reached")
        more.append(setting("max_steps", 2 * state.step))
    return f"nothing is left to train: {' and '.join(reasons)}; {setting('resume')} with {' and '.join(more)} trains on"


def _ended_by_schedule(state: State, config: Config) -> str:
    line = f"schedule {config.schedule} ends training after epoch {state.epoch - 1} of {config.epochs}"
    return f"{line}; {setting('resume')} with {_longer(state, config)} trains on"


def _longer(state: State, config: Config) -> str:
    """Return settings of which each lets a run go on that its schedule has ended."""
    if config.schedule != "plateau":
        return setting("epochs", 2 * config.epochs)
    drops, patience = setting("lr_drops", state.rate.drops + 1), setting("patience", 2 * state.rate.waited)
    return f"{drops}, {patience} or {setting('schedule', 'fixed')}"


def _report(session: Session, validation: Score, training: Score | None) -> None:
    state, lr = session.state, session.state.rate.lr
    loss = state.total / state.counted if state.counted else None
    named = validation.figures("validation") | (training.figures("scored_train") if training else {})
    session.run.metrics.log("epoch", epoch=state.epoch, step=state.step, lr=lr, train_loss=loss, **named)
    errors = informative(validation.top1_error, validation.top5_error, session.net.outputs)
    session.show.say(
        f"epoch {state.epoch:3}  lr {lr:<7.2g}  loss {'none' if loss is None else f'{loss:.4f}'}  "
        f"validation error {' '.join(f'{error:7.2%} {name}' for name, error in errors.items())}"
    )


def _after(state: State, config: Config, validation: Score) -> State:
    """Return the state at the beginning of the next epoch."""
    latest = Validated(epoch=state.epoch, step=state.step, **asdict(validation))
    best = latest if state.best is None or latest.top1_error < state.best.top1_error else state.best
    rate = after_epoch(state.rate, config, state.epoch, validation.top1_error)
    return replace(state, epoch=state.epoch + 1, position=0, total=0.0, counted=0, rate=rate, latest=latest, best=best)


def _validated(state: State) -> Score | None:
    latest = state.latest
    return Score(latest.loss, latest.top1_error, latest.top5_error) if latest else None
