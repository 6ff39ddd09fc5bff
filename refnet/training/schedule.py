"""When the learning rate falls, as a pure function of what the validation error did."""

from dataclasses import replace

from refnet.config import Config
from refnet.runs.state import Rate


def after_epoch(rate: Rate, config: Config, epoch: int, error: float) -> Rate:
    """Decide on the next epoch's rate.

    "plateau" is the paper's rule (section 5): divide by ``lr_factor`` when the validation error has not improved for
    ``patience`` epochs, ``lr_drops`` times; the next time that happens, training is finished. "fixed" divides at the
    end of each epoch in ``drop_epochs``, counted from 1.
    """
    improved = rate.best is None or error < rate.best
    rate = replace(rate, best=error, waited=0) if improved else replace(rate, waited=rate.waited + 1)
    if config.schedule == "fixed":
        return _dropped(rate, config) if epoch in config.drop_epochs else rate
    if rate.waited < config.patience:
        return rate
    return _dropped(rate, config) if rate.drops < config.lr_drops else replace(rate, finished=True)


def _dropped(rate: Rate, config: Config) -> Rate:
    return replace(rate, lr=rate.lr / config.lr_factor, waited=0, drops=rate.drops + 1)
