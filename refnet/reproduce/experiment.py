"""Train both arms of a claim with every seed, each run in a directory of its own, so that what is finished stays."""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet import nets, typed_json
from refnet.config import Config, configure, to_toml
from refnet.data.dataset import Dataset, describe
from refnet.data.meta import read_meta
from refnet.data.opening import is_prepared, open_showing
from refnet.data.readers import folder, idx, registry
from refnet.errors import ConfigError, DataError, NumericError, setting
from refnet.reproduce.claims import TARGET, Arm, Claim, Outcome, epochs_to
from refnet.runs import directory, history
from refnet.runs.resume import Resume
from refnet.terminal.printable import printable
from refnet.terminal.progress import Advance, Show
from refnet.training.loop import train

USUAL: Mapping[str, int] = {"digits": 12, "fashion": 8, "cifar": 8}  # epochs
IMAGES: Mapping[str, int | None] = {"digits": None, "fashion": 5000, "cifar": 5000}  # that are trained on
DROPS = (0.75, 0.9)  # the parts of the epochs after which the learning rate falls
BATCH = 32  # so that few images make steps enough
SCORED = 1000  # training images whose error is taken after each epoch


@dataclass(frozen=True)
class Settings:
    """At what size, with what and where a claim is tried.

    Attributes
    ----------
    images
        How many training images; None for all.
    seeds
        How many, from 0 on.
    folder
        Holds a run's directory for each arm and seed.
    """

    net: str
    data: str | None
    images: int | None
    epochs: int
    seeds: int
    backend: str
    threads: int | None
    folder: Path


def net_for(data: str) -> str:
    """Choose the small net for data, by the images' channels. Raises ``DataError`` where there are no data."""
    made_for_it = next((name for name in nets.NETS if nets.get(name).data == data), None)
    if made_for_it:
        return made_for_it
    try:
        folder.entries(Path(data))
        channels = read_meta(Path(data)).image_shape[2] if is_prepared(data) else None
        gray = channels == 1 or (channels is None and registry.find(data) is idx)
    except DataError as error:
        raise DataError(f"{error.message}; refnet data fetch cifar10 gets the paper's small images") from error
    return "fashion" if gray else "cifar"


def config_of(claim: Claim, arm: Arm, settings: Settings, seed: int, lr: float | None = None) -> Config:
    """Write the configuration of one run: the net's recipe at the size chosen, what is common to the arms, the arm."""
    chosen: dict[str, Any] = {
        "net": settings.net,
        "data": settings.data,
        "images": settings.images,
        "epochs": settings.epochs,
        "schedule": "fixed",
        "drop_epochs": tuple(sorted({max(1, round(part * settings.epochs)) for part in DROPS})),
        "batch": BATCH,
        "score_train": SCORED,
        "backend": settings.backend,
        "seed": seed,
    }
    chosen |= {} if settings.threads is None else {"threads": settings.threads}
    chosen |= {} if lr is None else {"lr": lr}
    chosen |= {**claim.common, **arm.keys}
    folder = f"{arm.name.replace(',', '').replace(' ', '-').lower()}-seed{seed}" + (f"-lr{lr:g}" if lr else "")
    return configure(**(chosen | {"run_dir": str(settings.folder / folder)}))


def perform(claim: Claim, settings: Settings, show: Show) -> Iterator[Outcome]:
    """Run every seed on both arms, seed by seed, and give what each run came to as soon as it is there.

    A run that is finished in `settings.folder` is read, and one that was stopped goes on.

    Raises
    ------
    ConfigError, DataError, BackendUnavailableError
        As :func:`refnet.training.loop.train`; and where the folder holds runs with other settings.
    NumericError
        A run did not stay finite, at any of the learning rates if there are several.
    Interrupted
        As :func:`refnet.training.loop.train`.
    """
    dataset = _open(settings, show)
    pilots = len(claim.rates) * len(claim.arms)
    total = pilots + settings.seeds * len(claim.arms)
    best: dict[str, float | None] = {arm.name: None for arm in claim.arms}
    done = 0
    if claim.rates:
        for arm in claim.arms:
            best[arm.name] = _best_rate(claim, arm, settings, dataset, show, (done, total))
            done += len(claim.rates)
    for seed in range(settings.seeds):
        for arm in claim.arms:
            done += 1
            config = config_of(claim, arm, settings, seed, best[arm.name])
            yield _run(arm, config, dataset, Within(show, f"run {done}/{total}, {arm.name}, seed {seed}"))


def _best_rate(
    claim: Claim, arm: Arm, settings: Settings, dataset: Dataset, show: Show, counted: tuple[int, int]
) -> float:
    """Try the learning rates with a seed that is not compared; the fastest to the target, then the lowest error."""
    done, total = counted
    found: list[tuple[float, float, float]] = []
    for number, lr in enumerate(claim.rates, start=done + 1):
        config = config_of(claim, arm, settings, settings.seeds, lr)
        try:
            outcome = _run(arm, config, dataset, Within(show, f"run {number}/{total}, {arm.name}, rate {lr:g}"))
        except NumericError as error:
            show.say(f"{arm.name}, rate {lr:g}: {error}")
            continue
        errors = outcome.train_errors
        found.append((epochs_to(TARGET, errors), errors[-1], lr))
        show.say(f"{arm.name}, rate {lr:g}: {errors[-1]:.1%} training error after {len(errors)} epochs")
    if not found:
        raise NumericError(f"{arm.name} does not stay finite at any of the rates {', '.join(map(str, claim.rates))}")
    return min(found)[2]


def _run(arm: Arm, config: Config, dataset: Dataset, show: Show) -> Outcome:
    """Train, unless that is done, and read how it went."""
    path = Path(str(config.run_dir))
    if (path / directory.CONFIG).exists():
        _require_same(path, config)
        if not (path / directory.RESULT).exists():
            train(config, show, Resume(path), dataset=dataset)
    else:
        train(config, show, dataset=dataset)
    return read(arm, path, config)


def read(arm: Arm, path: Path, config: Config) -> Outcome:
    """Read a finished run. Raises ``ConfigError`` for one that is damaged."""
    result = typed_json.read_object(path / directory.RESULT) or {}
    test_error = result.get("test_top1_error")
    if not isinstance(test_error, float | int):
        raise ConfigError(f"{path / directory.RESULT} has no test error; remove {path} to train it again")
    epochs = history.read_scored(path)
    if len(epochs["epoch"]) != config.epochs:
        raise ConfigError(f"{path / directory.METRICS} lacks epochs; remove {path} to train it again")
    training, validation = (tuple(epochs[f"{which}_top1_error"].tolist()) for which in ("scored_train", "validation"))
    return Outcome(arm.name, config.seed, config.lr, training, validation, test_error)


def _require_same(path: Path, config: Config) -> None:
    try:
        before = tomllib.loads((path / directory.CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path / directory.CONFIG} cannot be read; remove {path} to train it again") from error
    now = tomllib.loads(to_toml(directory.repeatable(config)))
    differing = [printable(name) for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if differing:
        raise ConfigError(
            f"{path} was trained with other settings ({', '.join(differing)}); give another {setting('run_dir')}, "
            "or remove it"
        )


def _open(settings: Settings, show: Show) -> Dataset:
    net = nets.get(settings.net)
    what = settings.data or str(net.data)
    dataset = open_showing(show, what, image_size=net.image_size, channels=net.input_shape[0])
    show.say(describe(dataset))
    return dataset


class Within:
    """Where a part of a longer work reports to: its tasks are shown under the part's name, its lines are not."""

    def __init__(self, show: Show, name: str) -> None:
        self._show = show
        self._name = name

    def say(self, line: str) -> None:
        """Leave out the line, unless it is a warning."""
        if line.startswith("warning:"):
            self._show.say(f"{self._name}: {line}")

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show a task."""
        return self._show.task(f"{self._name}, {name}", total)
