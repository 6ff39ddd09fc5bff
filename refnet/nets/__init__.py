"""Networks, each as data together with its training recipe."""

from refnet.nets.net import Net
from refnet.nets.registry import NETS, get, register
from refnet.nets.spec import NetSpec

__all__ = ["NETS", "Net", "NetSpec", "get", "register"]
