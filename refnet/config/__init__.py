"""Settings: what each may be, the keys of a training run, and how several sources become one configuration."""

from refnet.config.keys import DEFAULTS, KEYS, SCHEDULE_GROUP, SCHEDULES, Config, Nets, registered
from refnet.config.sources import Resolved, configure, resolve, to_config, to_toml

__all__ = [
    "DEFAULTS",
    "KEYS",
    "SCHEDULES",
    "SCHEDULE_GROUP",
    "Config",
    "Nets",
    "Resolved",
    "configure",
    "registered",
    "resolve",
    "to_config",
    "to_toml",
]
