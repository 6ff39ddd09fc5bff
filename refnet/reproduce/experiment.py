"""Train both variants of a claim with every seed. Each run has its own folder, so finished runs are kept."""

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
from refnet.data.parallel import Reading
from refnet.data.readers import idx, registry, walk
from refnet.errors import ConfigError, DataError, NumericError
from refnet.reproduce.claims import TARGET_ERROR, Claim, Outcome, Variant, epochs_to
from refnet.runs import directory, history
from refnet.runs.resume import Resume
from refnet.terminal.printable import printable
from refnet.terminal.progress import Advance, Show
from refnet.terminal.spelling import setting
from refnet.training.loop import train

EPOCHS: Mapping[str, int] = {"digits": 12, "fashion": 8, "cifar": 8}
IMAGES: Mapping[str, int | None] = {"digits": None, "fashion": 5000, "cifar": 5000}  # training images; None for all
DROP_FRACTIONS = (0.75, 0.9)  # of the epochs, after which the learning rate drops
BATCH = 32  # small, so that few images give enough steps
SCORED_IMAGES = 1000  # training images whose error is measured after each epoch


@dataclass(frozen=True)
class Settings:
    """The size, data, backend and folder of an experiment.

    Attributes
    ----------
    images
        Number of training images; None for all.
    seeds
        Number of seeds; they are 0, 1, 2, ...
    folder
        The folder with a run folder for each variant and seed.
    reading
        How images are read.
    """

    net: str
    data: str | None
    images: int | None
    epochs: int
    seeds: int
    backend: str
    threads: int | None
    folder: Path
    reading: Reading


def net_for(data: str) -> str:
    """Return the name of the small net that suits the images' channels. Raises ``DataError`` if there are no data."""
    net_of_data = next((name for name in nets.NETS if nets.get(name).data == data), None)
    if net_of_data:
        return net_of_data
    try:
        channels = read_meta(Path(data)).image_shape[2] if is_prepared(data) else None
        gray = channels == 1 or (channels is None and registry.reader_of(data) is idx)
        if not gray:
            walk.entries(Path(data))
    except DataError as error:
        raise DataError(f"{error.message}; refnet data fetch cifar10 downloads the paper's small images") from error
    return "fashion" if gray else "cifar"


def config_of(claim: Claim, variant: Variant, settings: Settings, seed: int, lr: float | None = None) -> Config:
    """Return the configuration of one run: the recipe, the size, the settings of the claim, those of the variant."""
    keys: dict[str, Any] = {
        "net": settings.net,
        "data": settings.data,
        "images": settings.images,
        "epochs": settings.epochs,
        "schedule": "fixed",
        "drop_epochs": tuple(sorted({max(1, round(part * settings.epochs)) for part in DROP_FRACTIONS})),
        "batch": BATCH,
        "score_train": SCORED_IMAGES,
        "backend": settings.backend,
        "seed": seed,
        "read_threads": settings.reading.threads,
        "read_timeout": settings.reading.timeout,
        "bad": settings.reading.bad,
        "follow_links": settings.reading.follow_links,
    }
    keys |= {} if settings.threads is None else {"threads": settings.threads}
    keys |= {} if lr is None else {"lr": lr}
    keys |= {**claim.common, **variant.keys}
    folder = f"{variant.name.replace(',', '').replace(' ', '-').lower()}-seed{seed}" + (f"-lr{lr:g}" if lr else "")
    return configure(**(keys | {"run_dir": str(settings.folder / folder)}))


def perform(claim: Claim, settings: Settings, show: Show) -> Iterator[Outcome]:
    """Train both variants seed by seed, and yield the result of each run as soon as it is finished.

    A finished run in `settings.folder` is only read, and one that was stopped is resumed.

    Raises
    ------
    ConfigError, DataError, BackendUnavailableError
        As :func:`refnet.training.loop.train`; and if the folder contains runs with other settings.
    NumericError
        A run became NaN or infinite, at all of its learning rates if there are several.
    Interrupted
        As :func:`refnet.training.loop.train`.
    """
    dataset = _open(settings, show)
    searches = len(claim.rates) * len(claim.variants)
    total = searches + settings.seeds * len(claim.variants)
    best: dict[str, float | None] = {variant.name: None for variant in claim.variants}
    done = 0
    if claim.rates:
        for variant in claim.variants:
            best[variant.name] = _best_rate(claim, variant, settings, dataset, show, (done, total))
            done += len(claim.rates)
    for seed in range(settings.seeds):
        for variant in claim.variants:
            done += 1
            config = config_of(claim, variant, settings, seed, best[variant.name])
            yield _run(variant, config, dataset, Within(show, f"run {done}/{total}, {variant.name}, seed {seed}"))


def _best_rate(
    claim: Claim, variant: Variant, settings: Settings, dataset: Dataset, show: Show, progress: tuple[int, int]
) -> float:
    """Return the learning rate that reaches the target error first, then with the lowest error, for an extra seed."""
    done, total = progress
    results: list[tuple[float, float, float]] = []
    for number, lr in enumerate(claim.rates, start=done + 1):
        config = config_of(claim, variant, settings, settings.seeds, lr)
        try:
            outcome = _run(
                variant, config, dataset, Within(show, f"run {number}/{total}, {variant.name}, learning rate {lr:g}")
            )
        except NumericError as error:
            show.say(f"{variant.name}, learning rate {lr:g}: {error.message}")
            continue
        errors = outcome.train_errors
        results.append((epochs_to(TARGET_ERROR, errors), errors[-1], lr))
        show.say(f"{variant.name}, learning rate {lr:g}: {errors[-1]:.1%} training error after {len(errors)} epochs")
    if not results:
        raise NumericError(
            f"{variant.name} became NaN or infinite at each learning rate of {', '.join(map(str, claim.rates))}"
        )
    return min(results)[2]


def _run(variant: Variant, config: Config, dataset: Dataset, show: Show) -> Outcome:
    """Train or resume a run unless it is finished, and return its result."""
    path = Path(str(config.run_dir))
    if (path / directory.CONFIG).exists():
        _require_same(path, config)
        if not (path / directory.RESULT).exists():
            train(config, show, Resume(path), dataset=dataset)
    else:
        train(config, show, dataset=dataset)
    return read(variant, path, config)


def read(variant: Variant, path: Path, config: Config) -> Outcome:
    """Return the result of a finished run. Raises ``ConfigError`` if it is damaged."""
    result = typed_json.read_object(path / directory.RESULT) or {}
    test_error = result.get("test_top1_error")
    if not isinstance(test_error, float | int):
        raise ConfigError(f"{path / directory.RESULT} has no test error; remove {path} to train it again")
    epochs = history.read_scored(path)
    if len(epochs["epoch"]) != config.epochs:
        raise ConfigError(f"{path / directory.METRICS} lacks epochs; remove {path} to train it again")
    training, validation = (tuple(epochs[f"{which}_top1_error"].tolist()) for which in ("scored_train", "validation"))
    return Outcome(variant.name, config.seed, config.lr, training, validation, test_error)


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
    channels = net.input_shape[0]
    dataset = open_showing(show, what, image_size=net.image_size, channels=channels, reading=settings.reading)
    show.say(describe(dataset))
    if dataset.warning:
        show.say(dataset.warning)
    return dataset


class Within:
    """The display of one run of an experiment: it names the run in each task, and prints only warnings."""

    def __init__(self, show: Show, name: str) -> None:
        self._show = show
        self._name = name

    def spell(self, message: str) -> str:
        """Return a message as the display spells it."""
        return self._show.spell(message)

    def say(self, line: str) -> None:
        """Show a line only if it is a warning."""
        if line.startswith("warning:"):
            self._show.say(f"{self._name}: {line}")

    def note(self, line: str) -> None:
        """Show a line about this machine."""
        self._show.note(line)

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show a task with the run's name."""
        return self._show.task(f"{self._name}, {name}", total)
