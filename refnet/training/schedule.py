"""The schedules of the learning rate: when it falls, as pure functions of the validation error.

A new schedule is one function and its line in :data:`refnet.config.SCHEDULES`. A package of its own adds one by an
entry point, and nothing in refnet changes::

    [project.entry-points."refnet.schedules"]
    myschedule = "mypackage.module:myschedule"

A schedule is called after each epoch, ``schedule(rate, config, epoch, error)``: with the rate so far, in which `best`
and `waited` are brought up to date already, the configuration, the number of the epoch, from 1, and its validation
error. It returns the rate of the next epoch. It keeps nothing between calls, so a run resumes with the same bits.
"""

from collections.abc import Collection
from dataclasses import replace
from math import isfinite
from typing import Protocol, cast

from refnet.config import SCHEDULE_GROUP, SCHEDULES, Config
from refnet.errors import ConfigError
from refnet.machine import packages
from refnet.runs.state import Rate, State
from refnet.terminal.spelling import setting
from refnet.terminal.suggestion import did_you_mean


class Schedule(Protocol):
    """When the learning rate falls."""

    def __call__(self, rate: Rate, config: Config, epoch: int, error: float) -> Rate:
        """Return the rate of the next epoch."""


def plateau(rate: Rate, config: Config, epoch: int, error: float) -> Rate:  # noqa: ARG001 - a schedule's arguments
    """Divide by ``lr_factor`` when the validation error has not improved for ``patience`` epochs (paper, section 5).

    This happens ``lr_drops`` times; the next time, training is finished.
    """
    if rate.waited < config.patience:
        return rate
    return _dropped(rate, config) if rate.drops < config.lr_drops else replace(rate, finished=True)


def fixed(rate: Rate, config: Config, epoch: int, error: float) -> Rate:  # noqa: ARG001 - a schedule's arguments
    """Divide by ``lr_factor`` at the end of each epoch in ``drop_epochs``."""
    return _dropped(rate, config) if epoch in config.drop_epochs else rate


def get(name: str) -> Schedule:
    """Return the schedule of that name. Raises ``ConfigError`` if there is none or its package is broken."""
    points = packages.points(SCHEDULE_GROUP, SCHEDULES)
    if name not in points:
        raise ConfigError(f"schedule {name} is not known; there are {', '.join(points)}{did_you_mean(name, points)}")
    schedule = packages.load(points[name], "schedule")
    if not callable(schedule):
        raise ConfigError(f"{packages.describe(points[name], 'schedule')} is not a function; {packages.REMEDY}")
    return cast("Schedule", schedule)


def after_epoch(rate: Rate, config: Config, epoch: int, error: float) -> Rate:
    """Return the rate of the next epoch, as the schedule of the configuration decides.

    Raises ``ConfigError`` as `get` does, and for a schedule that returns anything but a rate.
    """
    improved = rate.best is None or error < rate.best
    rate = replace(rate, best=error, waited=0) if improved else replace(rate, waited=rate.waited + 1)
    following: object = get(config.schedule)(rate, config, epoch, error)
    if not (isinstance(following, Rate) and isfinite(following.lr) and following.lr > 0):
        raise ConfigError(
            f"schedule {config.schedule} must return a Rate with a finite lr above 0, it returned {following}; "
            f"{packages.REMEDY}"
        )
    return following


def resumed(state: State, config: Config, changed: Collection[str], given: Collection[str]) -> tuple[Rate, str | None]:
    """Return the rate with which a run goes on, and a line about it where the user may expect another.

    A rate that is given counts from now on. A drop epoch that is new and has passed takes effect now. A run that its
    schedule had ended goes on if the schedule with its new settings would not have ended it. It also goes on, at its
    last rate, if another number of epochs or steps is asked for.

    Parameters
    ----------
    state
        That of the checkpoint.
    changed, given
        The settings that differ from the checkpoint's, and those that the user gave.
    """
    rate = state.rate
    if "lr" in changed or "lr" in given:
        return Rate(config.lr, best=rate.best, drops=rate.drops), None
    if "schedule" in changed:
        rate = replace(rate, waited=0, finished=False)
    if config.schedule == "fixed" and not {"schedule", "drop_epochs"}.isdisjoint(changed):
        return _with_drop_epochs(rate, config, state.epoch)
    if not rate.finished:
        return rate, None
    if state.latest:
        latest = state.latest
        following = get(config.schedule)(replace(rate, finished=False), config, latest.epoch, latest.top1_error)
        if not following.finished:
            lr = following.lr
            return following, f"schedule {config.schedule} had ended the run; it goes on at the learning rate {lr:g}"
    if {"epochs", "max_steps"}.isdisjoint(changed):
        return rate, None
    line = f"schedule {config.schedule} had ended the run; it goes on at its last learning rate, {rate.lr:g}"
    return replace(rate, waited=0, finished=False), line


def _with_drop_epochs(rate: Rate, config: Config, epoch: int) -> tuple[Rate, str | None]:
    """Return the rate in an epoch after drop epochs were changed, and a line if one has passed or is taken back."""
    passed = [drop for drop in config.drop_epochs if drop < epoch]
    missed = len(passed) - rate.drops
    if missed < 0:
        higher = float(f"{rate.lr * config.lr_factor**-missed:g}")
        return rate, f"the learning rate was lowered already and stays {rate.lr:g}; {setting('lr', higher)} raises it"
    if missed == 0:
        return rate, None
    for _ in range(missed):
        rate = _dropped(rate, config)
    return rate, f"drop epoch {passed[-1]} has passed, so the learning rate is lowered to {rate.lr:g} now"


def _dropped(rate: Rate, config: Config) -> Rate:
    return replace(rate, lr=rate.lr / config.lr_factor, waited=0, drops=rate.drops + 1)
