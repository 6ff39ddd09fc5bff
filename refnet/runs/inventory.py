"""The runs in a folder, and the status of each, from the files alone."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from refnet import nets, typed_json
from refnet.errors import CheckpointError, ConfigError, message_of
from refnet.runs import checkpoint, directory, generations, metrics
from refnet.runs.state import Facts, State, informative
from refnet.terminal.spelling import with_flags

METRICS_END_BYTES = 1 << 16  # how much of the end of the metrics is read for the last step and epoch

Status = Literal["training", "finished", "stopped", "unknown"]


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint file: the facts in its header; or None and what is wrong, with both spellings of each setting."""

    path: Path
    nbytes: int
    facts: Facts | None
    problem: str | None = None


@dataclass(frozen=True)
class RunSummary:
    """The contents of a run folder, in short: what every command and the report mean by the progress of a run.

    Attributes
    ----------
    status
        ``training`` while a process trains it; ``finished`` once it has been tested, whether or not it took all its
        epochs; otherwise ``stopped``: interrupted, failed or killed. ``unknown`` instead of ``training`` and
        ``stopped`` where the file system has no locks.
    step, epoch
        The last step taken and its epoch, from the end of the metrics; 0 and 1 before the first. After a kill this may
        be later than the last checkpoint, from which the run is resumed.
    state
        That of the newest checkpoint with an intact header; None without any.
    result
        The content of ``result.json``; None until the run is finished.
    """

    path: Path
    net: str
    data: str
    backend: str
    config: dict[str, Any]
    status: Status
    step: int
    epoch: int
    state: State | None
    result: dict[str, Any] | None
    checkpoints: tuple[CheckpointFile, ...]

    @property
    def epochs(self) -> object:
        """The number of epochs in its configuration; a question mark if that has none."""
        return self.config.get("epochs", "?")

    @property
    def seconds(self) -> float | None:
        """Training time over all sessions: to the result, or to the newest checkpoint; None before the first."""
        seconds = self.result.get("seconds") if self.result else None
        if isinstance(seconds, int | float):
            return seconds
        return self.state.seconds if self.state else None

    @property
    def outputs(self) -> int | None:
        """The number of outputs of the network; None without a checkpoint whose header is intact."""
        return next((file.facts.outputs for file in self.checkpoints if file.facts), None)

    @property
    def test_errors(self) -> dict[str, str]:
        """The errors on the test images in percent, by name, "top-1" and "top-5"; empty until the run is finished."""
        if not self.result:
            return {}
        top1, top5 = (_percent(self.result.get(f"test_top{places}_error")) for places in (1, 5))
        return informative(top1, top5, self.outputs)

    @property
    def best_error(self) -> float | None:
        """The lowest top-1 error on the validation images."""
        return self.state.best.top1_error if self.state and self.state.best else None


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders in a folder, sorted by name. Raises ``ConfigError`` if it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if (path / directory.CONFIG).is_file())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{folder} cannot be listed: {error.strerror}; give a folder of runs") from error


def inspect(path: Path) -> RunSummary:
    """Return the summary of a run. Missing or damaged files are left out and raise nothing.

    Raises
    ------
    ConfigError
        It is not a run folder, or its configuration cannot be read.
    """
    file = directory.configuration(path)
    try:
        config = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {' '.join(str(error).split())}; repair or remove it") from error
    checkpoints = tuple(map(_checkpoint_file, generations.listed(path)))
    facts = next((file.facts for file in checkpoints if file.facts), None)
    last = _progress(path / directory.METRICS)
    net = str(config.get("net", ""))
    return RunSummary(
        path=path,
        net=net,
        data=str(config.get("data") or (facts.data.name if facts else _own_data(net))),
        backend=facts.backend if facts else str(config.get("backend", "")),
        config=config,
        status=_status(path),
        step=last.get("step", 0),
        epoch=last.get("epoch", 1),
        state=facts.state if facts else None,
        result=typed_json.read_object(path / directory.RESULT),
        checkpoints=checkpoints,
    )


def _own_data(net: str) -> str:
    """Return the default data of a network; an empty string if it has none or is not known here."""
    return nets.get(net).data or "" if net in nets.NETS else ""


def verify(path: Path) -> CheckpointFile:
    """Read a whole checkpoint and return what is wrong with it, if anything, instead of raising it."""
    try:
        return CheckpointFile(path, path.stat().st_size, checkpoint.read(path).facts)
    except (CheckpointError, OSError) as error:
        return CheckpointFile(path, 0, None, message_of(error))


def as_dict(run: RunSummary) -> dict[str, Any]:
    """Return a summary as keys and values for the JSON of a command."""
    saved = [
        {
            "path": str(file.path),
            "bytes": file.nbytes,
            "problem": file.problem and with_flags(file.problem),
            "step": file.facts and file.facts.state.step,
        }
        for file in run.checkpoints
    ]
    state = asdict(run.state) if run.state else None
    return {
        **vars(run),
        "path": str(run.path),
        "best_error": run.best_error,
        "seconds": run.seconds,
        "state": state,
        "checkpoints": saved,
    }


def _checkpoint_file(path: Path) -> CheckpointFile:
    try:
        return CheckpointFile(path, path.stat().st_size, checkpoint.read_facts(path))
    except (CheckpointError, OSError) as error:
        return CheckpointFile(path, 0, None, message_of(error))


def _status(path: Path) -> Status:
    try:
        training = directory.is_training(path)
    except OSError:
        training = False
    if training:
        return "training"
    if (path / directory.RESULT).is_file():
        return "finished"
    return "unknown" if training is None else "stopped"


def _percent(fraction: object) -> str:
    return f"{fraction:.2%}" if isinstance(fraction, float | int) else "unknown"


def _progress(path: Path) -> dict[str, int]:
    """Return the last step and epoch in the metrics, from the end of the file; a key not found there is left out."""
    last: dict[str, int] = {}
    try:
        for figures in metrics.lines(path, last_bytes=METRICS_END_BYTES):
            last |= {name: figures[name] for name in ("step", "epoch") if isinstance(figures.get(name), int)}
    except OSError:
        return {}
    return last
