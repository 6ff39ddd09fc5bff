"""The networks by name: refnet's own, those of other packages, and those registered in this process.

A new network of refnet is one file and its line in `OWN`. Another package adds a network by an entry point, without a
change in refnet::

    [project.entry-points."refnet.nets"]
    mynet = "mypackage.module:mynet"

The object is a :class:`Net`, or a function that returns one. If a network has several initialisations, the function
takes the name of one and has a default. :func:`register` adds a network to this process only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

from refnet.errors import ConfigError
from refnet.machine import packages
from refnet.nets.net import Net, malformed
from refnet.nets.variants import VARIANTS
from refnet.terminal.suggestion import did_you_mean

GROUP = "refnet.nets"

OWN: Mapping[str, str] = {
    "digits": "refnet.nets.digits:digits",
    "paper": "refnet.nets.alexnet:paper",
    "half": "refnet.nets.alexnet:half",
    "cifar": "refnet.nets.cifar:cifar",
    "fashion": "refnet.nets.cifar:fashion",
}

_registered: dict[str, Net] = {}


def get(name: str, init: str | None = None, variant: Sequence[str] | None = None) -> Net:
    """Return the network of that name.

    Parameters
    ----------
    init
        The name of its initialisation; None for its default.
    variant
        The names of changes to make to its layers (:mod:`refnet.nets.variants`).

    Raises
    ------
    ConfigError
        There is no such network, initialisation or variant (the message lists the known ones), or its package cannot be
        imported.
    """
    if name in _registered:
        net, with_init = _registered[name], None
    else:
        point = packages.points(GROUP, OWN).get(name)
        if point is None:
            raise ConfigError(f"net {name} is not known; there are {', '.join(names())}{did_you_mean(name, names())}")
        net, with_init = _load(point)
    if init is not None and init not in net.inits:
        raise ConfigError(
            f"net {name} has no initialisation {init}; it has {', '.join(net.inits)}{did_you_mean(init, net.inits)}"
        )
    if with_init and init is not None and init != net.inits[0]:
        net = with_init(init)
    if not isinstance(variant, Sequence | None):  # in a damaged checkpoint or a file of another program
        raise ConfigError(f"net {name} has no variant {variant}; it has a list of {', '.join(VARIANTS)}")
    for change in variant or ():
        if change not in tuple(VARIANTS):
            raise ConfigError(
                f"net {name} has no variant {change}; it has {', '.join(VARIANTS)}{did_you_mean(change, VARIANTS)}"
            )
        net = replace(net, layers=VARIANTS[change](net.layers))
    return net


def names() -> list[str]:
    """Return the names of all networks, without loading any."""
    return [*packages.points(GROUP, OWN), *_registered]


def register(net: Net) -> str:
    """Make a network known by its name in this process, and return the name.

    It replaces a network that was registered under this name before. Raises ``ConfigError`` for a malformed network,
    and for the name of a network that is installed.
    """
    if fault := malformed(net):
        raise ConfigError(fault)
    if net.name in packages.points(GROUP, OWN):
        raise ConfigError(f"there is a net {net.name} already; give yours another name")
    _registered[net.name] = net
    return net.name


class _Attribute(Mapping[str, Any]):
    """One attribute of each network, by the network's name. A network is loaded when its name is looked up."""

    def __init__(self, read: Callable[[Net], Any]) -> None:
        self._read = read

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return self._read(get(name))

    def __contains__(self, name: object) -> bool:
        return name in names()

    def __iter__(self) -> Iterator[str]:
        return iter(names())

    def __len__(self) -> int:
        return len(names())


NETS: Mapping[str, Net] = _Attribute(lambda net: net)
RECIPES: Mapping[str, Mapping[str, Any]] = _Attribute(lambda net: net.recipe)
INITS: Mapping[str, tuple[str, ...]] = _Attribute(lambda net: net.inits)


def _load(point: EntryPoint) -> tuple[Net, Callable[[str], Net] | None]:
    """Return the network of an entry point with its default initialisation, and the function that makes others."""
    loaded = packages.load(point, "net")
    net = loaded() if callable(loaded) else loaded
    if not isinstance(net, Net) or net.name != point.name:
        fault = f"returns a net with the name {net.name}" if isinstance(net, Net) else "is not a refnet.nets.Net"
        raise ConfigError(f"{packages.describe(point, 'net')} {fault}; {packages.REMEDY}")
    return net, loaded if callable(loaded) else None
