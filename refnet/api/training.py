"""Train a network from a Python program."""

import os
import signal
import sys
import tomllib
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from refnet.api._common import AnyPath, Arrays
from refnet.api.run import Run, path_of
from refnet.config import Config, configure
from refnet.data import arrays
from refnet.data.dataset import Dataset
from refnet.data.handle import Data, open_data, refuse_parts
from refnet.data.parallel import Reading
from refnet.errors import ConfigError
from refnet.machine import environment
from refnet.nets import Net, register
from refnet.nets import get as get_net
from refnet.runs import directory
from refnet.runs.resume import Resume
from refnet.terminal import progress as terminal
from refnet.terminal.progress import Quiet
from refnet.terminal.signals import Interrupted
from refnet.terminal.spelling import with_arguments
from refnet.training import loop


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
    errors = ", ".join(f"{error:.2%} {name}" for name, error in result.errors.items())
    show.say(f"test error {errors}; run in {result.run}")
    return Run(Path(result.run), opened, own)


def _resumed(resume: Run | AnyPath, settings: dict[str, Any], changed_data: bool) -> tuple[Config, Resume]:
    """Return the configuration of a run with what `settings` change in it, and how it is resumed."""
    path = path_of(resume, "resume", "a run, or the path of its folder")
    if settings.get("run_dir") is not None:
        raise ConfigError(f"run_dir={settings['run_dir']!r} cannot be given with resume=: the run has its own folder")
    file = directory.configuration(path)
    try:
        stored = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {' '.join(str(error).split())}; fix or remove it") from error
    return configure(**stored | settings), Resume(path, frozenset(settings), changed_data)


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
