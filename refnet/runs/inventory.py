"""What runs there are, and how each of them stands, from what lies on the disk and nothing else."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from refnet import nets, typed_json
from refnet.errors import CheckpointError, ConfigError
from refnet.runs import checkpoint, directory, generations, metrics
from refnet.runs.state import Facts, State

METRICS_END_BYTES = 1 << 16  # at the end of the metrics, where the last step and epoch are

Stands = Literal["training", "finished", "stopped"]


@dataclass(frozen=True)
class Saved:
    """One checkpoint file: what its header says, or what is wrong with it (`facts` is None)."""

    path: Path
    nbytes: int
    facts: Facts | None
    problem: str | None = None


@dataclass(frozen=True)
class Run:
    """One run's folder.

    Attributes
    ----------
    step, epoch
        Of the last line of its metrics, which may be later than the last checkpoint; 0 and 1 where there is none.
    state
        Of the newest checkpoint whose header is whole; None where there is none.
    result
        How it ended; None while it has not.
    """

    path: Path
    net: str
    data: str
    backend: str
    config: dict[str, Any]
    stands: Stands
    step: int
    epoch: int
    state: State | None
    result: dict[str, Any] | None
    checkpoints: tuple[Saved, ...]

    @property
    def best_error(self) -> float | None:
        """The lowest top-1 error on the validation images."""
        return self.state.best.top1_error if self.state and self.state.best else None


def find(folder: Path) -> list[Path]:
    """List the runs in a folder, by name. Raises ``ConfigError`` if it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if (path / directory.CONFIG).is_file())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{folder} cannot be listed: {error.strerror}; give a folder of runs") from error


def inspect(path: Path) -> Run:
    """Describe a run. What it lacks or what is damaged is left out, not an error.

    Raises
    ------
    ConfigError
        It is no run, or its configuration cannot be read.
    """
    file = directory.configuration(path)
    try:
        config = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {' '.join(str(error).split())}; mend or remove it") from error
    saved = tuple(map(_saved, generations.listed(path)))
    facts = next((each.facts for each in saved if each.facts), None)
    last = _progress(path / directory.METRICS)
    net = str(config.get("net", ""))
    return Run(
        path=path,
        net=net,
        data=str(config.get("data") or (facts.data.name if facts else _own_data(net))),
        backend=facts.backend if facts else str(config.get("backend", "")),
        config=config,
        stands=_stands(path),
        step=last.get("step", 0),
        epoch=last.get("epoch", 1),
        state=facts.state if facts else None,
        result=typed_json.read_object(path / directory.RESULT),
        checkpoints=saved,
    )


def _own_data(net: str) -> str:
    """Say what a network is trained on where nobody says otherwise; nothing where it is none of ours or has no such."""
    return nets.get(net).data or "" if net in nets.NETS else ""


def verify(path: Path) -> Saved:
    """Read a checkpoint whole, every number of it; say what is wrong rather than raise it."""
    try:
        return Saved(path, path.stat().st_size, checkpoint.read(path).facts)
    except (CheckpointError, OSError) as error:
        return Saved(path, 0, None, str(error))


def as_dict(run: Run) -> dict[str, Any]:
    """Give a run as keys and values for JSON."""
    saved = [
        {
            "path": str(each.path),
            "bytes": each.nbytes,
            "problem": each.problem,
            "step": each.facts and each.facts.state.step,
        }
        for each in run.checkpoints
    ]
    state = asdict(run.state) if run.state else None
    return {**vars(run), "path": str(run.path), "best_error": run.best_error, "state": state, "checkpoints": saved}


def _saved(path: Path) -> Saved:
    try:
        return Saved(path, path.stat().st_size, checkpoint.read_facts(path))
    except (CheckpointError, OSError) as error:
        return Saved(path, 0, None, str(error))


def _stands(path: Path) -> Stands:
    try:
        if directory.is_training(path):
            return "training"
    except OSError:
        pass
    return "finished" if (path / directory.RESULT).is_file() else "stopped"


def _progress(path: Path) -> dict[str, int]:
    """Return the last step and epoch in the metrics, of which only the end is read; without one that is not there."""
    last: dict[str, int] = {}
    try:
        for figures in metrics.lines(path, last_bytes=METRICS_END_BYTES):
            last |= {name: figures[name] for name in ("step", "epoch") if isinstance(figures.get(name), int)}
    except OSError:
        return {}
    return last
