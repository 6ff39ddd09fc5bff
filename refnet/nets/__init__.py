"""The networks, each as data with its training recipe."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from refnet.errors import ConfigError
from refnet.nets import alexnet, cifar
from refnet.nets.digits import digits
from refnet.nets.net import Net
from refnet.nets.variants import VARIANTS
from refnet.terminal.suggestion import did_you_mean

NETS: Mapping[str, tuple[Callable[[str], Net], tuple[str, ...]]] = {
    "digits": (digits, ("default",)),
    "paper": (alexnet.paper, tuple(alexnet.SIGMAS)),
    "half": (alexnet.half, tuple(alexnet.SIGMAS)),
    "cifar": (cifar.cifar, ("default",)),
    "fashion": (cifar.fashion, ("default",)),
}

__all__ = ["NETS", "VARIANTS", "Net", "get"]


def get(name: str, init: str | None = None, variant: Sequence[str] | None = None) -> Net:
    """Write the network of that name, with an initialisation or its default, and what variants change in it.

    Raises
    ------
    ConfigError
        There is no such network, initialisation or variant; the message lists those there are.
    """
    if name not in NETS:
        raise ConfigError(f"net {name} is not known; there are {', '.join(NETS)}{did_you_mean(name, NETS)}")
    write, inits = NETS[name]
    if init is not None and init not in inits:
        raise ConfigError(
            f"net {name} has no initialisation {init}; it has {', '.join(inits)}{did_you_mean(init, inits)}"
        )
    net = write(init or inits[0])
    if not isinstance(variant, Sequence | None):  # in a file that somebody has written
        raise ConfigError(f"net {name} has no variant {variant}; it has a list of {', '.join(VARIANTS)}")
    for change in variant or ():
        if change not in tuple(VARIANTS):
            raise ConfigError(
                f"net {name} has no variant {change}; it has {', '.join(VARIANTS)}{did_you_mean(change, VARIANTS)}"
            )
        net = replace(net, layers=VARIANTS[change](net.layers))
    return net
