"""Lines for the user about settings that may not act as expected."""

from collections.abc import Collection, Mapping

from refnet.config import DEFAULTS, Config
from refnet.terminal.spelling import setting

# The keys that only one schedule reads.
KEYS_OF: Mapping[str, tuple[str, ...]] = {"plateau": ("lr_drops", "patience"), "fixed": ("drop_epochs",)}

SMALL_BATCH = 4  # times smaller than that of the recipe; then digits end with three times the errors, or diverge


def notes(config: Config, lr: float, given: Collection[str] | None = None) -> list[str]:
    """Return the lines about a configuration.

    Parameters
    ----------
    lr
        The learning rate with which training begins, or goes on.
    given
        The settings that the user gave, of a run that is resumed; None for a new run.
    """
    return [*_without_effect(config, given), *_too_high(config, lr, given)]


def _without_effect(config: Config, given: Collection[str] | None) -> list[str]:
    """Return a line for each setting that the user has made and the schedule does not read."""
    recipe = {**DEFAULTS, **config.spec.net().recipe}
    return [
        f"note: {setting(name, getattr(config, name))} has no effect with {setting('schedule', config.schedule)}; "
        f"it is for {setting('schedule', other)}"
        for other, keys in KEYS_OF.items()
        for name in keys
        if config.schedule in KEYS_OF
        and other != config.schedule
        and (name in given if given is not None else getattr(config, name) not in (DEFAULTS[name], recipe[name]))
    ]


def _too_high(config: Config, lr: float, given: Collection[str] | None) -> list[str]:
    """Return a line if the learning rate is the recipe's, or higher, and the batch is much smaller than the recipe's.

    The gradient of a small batch varies more. A rate in proportion to the batch makes up for that: over an epoch, the
    parameters move as far, and the variations of the steps average out.
    """
    recipe = config.spec.net().recipe
    if given is not None and not {"batch", "lr"} & set(given):
        return []
    if "batch" not in recipe or lr < recipe.get("lr", DEFAULTS["lr"]) or config.batch * SMALL_BATCH > recipe["batch"]:
        return []
    lower = float(f"{recipe.get('lr', DEFAULTS['lr']) * config.batch / recipe['batch']:.2g}")
    reason = f"a learning rate of {lr:g} suits batches of {recipe['batch']} images, and may be too high for"
    return [f"note: {reason} {setting('batch', config.batch)}; {setting('lr', lower)} is in proportion"]
