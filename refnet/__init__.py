"""refnet: the AlexNet paper as software that you can read, trust and use.

``train``, ``load``, ``open_data`` and ``check`` are functions; ``nets``, ``ops`` and ``backend`` are packages. Each is
imported when it is first used, so that ``import refnet`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from refnet.machine.version import __version__

if TYPE_CHECKING:
    from refnet import backend, nets, ops
    from refnet.api.run import load
    from refnet.api.training import train
    from refnet.data.handle import open_data
    from refnet.testing.check import check

__all__ = ["__version__", "backend", "check", "load", "nets", "open_data", "ops", "train"]

_FUNCTIONS = {
    "check": "refnet.testing.check",
    "load": "refnet.api.run",
    "open_data": "refnet.data.handle",
    "train": "refnet.api.training",
}

if not TYPE_CHECKING:  # a type checker knows the names from the imports above, and reports every other name

    def __getattr__(name: str) -> object:
        """Import a name of `__all__` when it is first used."""
        if name in _FUNCTIONS:
            value = getattr(import_module(_FUNCTIONS[name]), name)
        elif name in __all__:
            value = import_module(f"refnet.{name}")
        else:
            raise AttributeError(f"module 'refnet' has no attribute {name!r}; it has {', '.join(__all__)}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return list(__all__)
