"""Networks, each as data with the recipe it is trained with."""

from refnet.nets.net import Net
from refnet.nets.registry import NETS, get, register
from refnet.nets.spec import NetSpec

__all__ = ["NETS", "Net", "NetSpec", "get", "register"]
