"""A training run: its result, its curves, and the network that it trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from refnet import files
from refnet.api._common import AnyPath, Warnings, html_table
from refnet.api.network import Network
from refnet.data.dataset import Dataset
from refnet.data.handle import Data
from refnet.errors import CheckpointError, ConfigError
from refnet.evaluation.trained import open_trained
from refnet.nets import Net, register
from refnet.pictures.write import report
from refnet.runs import history, inventory
from refnet.terminal.printable import duration, printable

Figures: TypeAlias = npt.NDArray[np.float64]


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
        where = self.path / "report.html" if output is None else path_of(output, "output", "the path of a file")
        place = None if data is None else files.expanded(data)
        page = report(self.path, Warnings(), dataset=None if place else self._dataset(), data=place)
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
        return html_table(self._figures())


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
    path = path_of(where, "where", "a run, its folder, or the path of a checkpoint")
    own = where.own_net if isinstance(where, Run) and net is None else net
    if own is not None:
        register(own)
    trained = open_trained(path, backend, devices=devices, threads=threads)
    return Network(trained, where.data if isinstance(where, Run) else None, threads)


def path_of(run: Run | AnyPath, argument: str, rule: str) -> Path:
    """Return the folder of a run, or a path. Raises ``ConfigError``, which names the argument, for anything else."""
    if isinstance(run, Run):
        return run.path
    try:
        return Path(files.expanded(run))
    except TypeError as error:
        raise ConfigError(f"{argument}={run!r} is not allowed; it must be {rule}") from error
