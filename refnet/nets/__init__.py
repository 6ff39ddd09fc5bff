"""Networks by name."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches

from refnet.errors import ConfigError
from refnet.nets import alexnet, cifar
from refnet.nets.digits import digits
from refnet.nets.net import Net

NETS: Mapping[str, tuple[Callable[[str], Net], tuple[str, ...]]] = {
    "digits": (digits, ("default",)),
    "paper": (alexnet.paper, tuple(alexnet.SIGMAS)),
    "half": (alexnet.half, tuple(alexnet.SIGMAS)),
    "cifar": (cifar.cifar, ("default",)),
    "fashion": (cifar.fashion, ("default",)),
}

__all__ = ["NETS", "Net", "get"]


def get(name: str, init: str | None = None) -> Net:
    """Write the network of that name, with an initialisation or its default.

    Raises
    ------
    ConfigError
        There is no such network or initialisation; the message lists those there are.
    """
    if name not in NETS:
        nearest = get_close_matches(name, NETS, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ConfigError(f"net {name} is not known; there are {', '.join(NETS)}{hint}")
    write, inits = NETS[name]
    if init is None:
        return write(inits[0])
    if init not in inits:
        raise ConfigError(f"net {name} has no initialisation {init}; it has {', '.join(inits)}")
    return write(init)
