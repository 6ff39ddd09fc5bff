"""Resuming a run: which settings and data may differ from before, and the effect of each difference."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from refnet.config import DEFAULTS, Config
from refnet.data.dataset import Dataset
from refnet.data.fingerprint import fingerprint
from refnet.errors import ConfigError, DataError
from refnet.runs.state import Facts, State
from refnet.terminal.printable import printable
from refnet.terminal.spelling import setting

FIXED = ("net", "init", "variant", "columns", "outputs", "seed")
LOCATIONS = ("run_dir", "data")  # only locations: the contents are compared instead
HARDWARE_SETTINGS = ("backend", "devices", "threads")  # they may change rounding, not the run
BACKEND_SETTINGS = ("devices", "precision", "graph")  # that only some backends have
SHOWN_CLASSES = 5  # in a message

Changes = dict[str, list[Any]]  # name to [before, now]


@dataclass(frozen=True)
class Resume:
    """Which run to resume, and how.

    Attributes
    ----------
    flags
        The settings given on the command line.
    changed_data
        Resume although the data have changed.
    """

    path: Path
    flags: frozenset[str] = frozenset()
    changed_data: bool = False


def for_backend(facts: Facts, config: Config, given: Collection[str]) -> Config:
    """Return the configuration for the backend on which a run is resumed.

    On another backend than before, settings for the hardware of the one before do not count, unless they are given.
    """
    if config.backend == facts.config.get("backend"):
        return config
    kept = {name: DEFAULTS[name] for name in BACKEND_SETTINGS if name not in given}
    return replace(config, **kept)


def changes(facts: Facts, config: Config) -> Changes:
    """Compare the configuration of a checkpoint with the current one; return what differs.

    Raises
    ------
    ConfigError
        A setting differs that would make it another run; one line for each.
    """
    # A setting that did not exist yet when the run was made had its default.
    before = json.loads(json.dumps(dict(DEFAULTS))) | facts.config
    different = _differences(before | _of_net(before, facts), asdict(config) | _of_net(asdict(config), facts))
    wrong = [
        f"{setting(name, now)} cannot be: the run has {_value_text(before)}; "
        f"leave it out, or start a new run without {setting('resume')}"
        for name, (before, now) in different.items()
        if name in FIXED or (name == "exchange" and "none" in (before, now))  # "none" has other parameters
    ]
    if wrong:
        raise ConfigError("\n".join(wrong))
    return {name: pair for name, pair in different.items() if name not in LOCATIONS}


def check_classes(facts: Facts, dataset: Dataset) -> None:
    """Raise ``DataError`` unless each class that the run has learned keeps its label, and each has an output."""
    data, outputs = printable(dataset.name), facts.spec.net().outputs
    fault = None
    if len(dataset.classes) > outputs:
        fault = f"{data} has {len(dataset.classes)} classes, but the run has {outputs} outputs"
    for label, name in enumerate(dataset.classes):
        if name in facts.classes and facts.classes.index(name) != label:
            learned = facts.classes.index(name)
            fault = (
                fault or f"{data}: the class {printable(name)} has label {label}, but the run learned it as {learned}"
            )
    if fault:
        raise DataError(
            f"{fault}: it learned {_shortened(facts.classes)}; restore its classes, or start a new run without "
            f"{setting('resume')}"
        )


def check_data(facts: Facts, dataset: Dataset, resume: Resume, changed: Changes) -> Changes:
    """Compare the data of a checkpoint with the current ones.

    Raises ``DataError`` if they differ, unless `changed_data` is set or another number of images is asked for.
    """
    before, now = facts.data.fingerprint, fingerprint(dataset)
    if before == now:
        return {}
    if not resume.changed_data and "images" not in changed:
        raise DataError(
            f"{printable(dataset.name)} has changed since step {facts.state.step}: its classes, images or labels are "
            f"not those that the run learned from; restore them, or agree with {setting('changed_data')}"
        )
    return {"fingerprint": [before, now]}


def surroundings(facts: Facts, backend: str, environment: Mapping[str, Any], changed: Changes) -> Changes:
    """Return differences in hardware and software, which may make bits differ from a run that was never stopped."""
    different = {name: pair for name, pair in changed.items() if name in HARDWARE_SETTINGS}
    if facts.backend != backend:
        different["backend"] = [facts.backend, backend]
    return different | _differences(facts.environment, environment)


def with_new_data(state: State) -> State:
    """Return the state of a run whose images have changed: its epoch begins again, and earlier errors do not count.

    Neither the place in the epoch nor the lowest validation error says anything about other images.
    """
    rate = replace(state.rate, best=None, waited=0, finished=False)
    return replace(state, rate=rate, position=0, total=0.0, counted=0, latest=None, best=None)


def _of_net(settings: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return the settings for which None stands for a value of the run's network, with that value."""
    net = facts.spec.net()
    flip = net.flip if settings["flip"] is None else settings["flip"]
    return {"init": settings["init"] or net.inits[0], "outputs": settings["outputs"] or net.outputs, "flip": flip}


def _value_text(value: object) -> str:
    text = ",".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)
    return printable(text)


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(map(printable, names[:SHOWN_CLASSES]))
    return f"{shown}, ..." if len(names) > SHOWN_CLASSES else shown


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    now = json.loads(json.dumps(now))
    names = [*before, *(name for name in now if name not in before)]
    return {name: [before.get(name), now.get(name)] for name in names if before.get(name) != now.get(name)}
