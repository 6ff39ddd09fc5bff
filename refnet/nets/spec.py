"""The class NetSpec: the choices that a network's layers and plan depend on."""

from dataclasses import dataclass, replace

from refnet.errors import ConfigError
from refnet.nets.net import Net
from refnet.nets.registry import get
from refnet.network.fuse import fuse
from refnet.network.plan import Plan


@dataclass(frozen=True)
class NetSpec:
    """The choice of a network; a checkpoint stores it.

    Attributes
    ----------
    name
        The network's name, see :mod:`refnet.nets.registry`.
    init
        The initialisation of its parameters; None for the network's default.
    variant
        The names of changes that are made to its layers, see :mod:`refnet.nets.variants`.
    columns
        The number of columns that it is split into.
    exchange
        How arrays are copied between columns: as "fp32" or "fp16"; with "none" no convolution reads the other column.
    outputs
        The number of classes; None for the network's own number.
    """

    name: str
    init: str | None = None
    variant: tuple[str, ...] = ()
    columns: int = 2
    exchange: str = "fp32"
    outputs: int | None = None

    def net(self) -> Net:
        """Return the network, with the width of its last layer set to `outputs`.

        Raises ``ConfigError`` for what is not known here, for less than one output, and for a last layer that has no
        outputs of its own.
        """
        net = get(self.name, self.init, self.variant)
        if self.outputs is None:
            return net
        if self.outputs < 1:
            raise ConfigError(f"net {self.name} cannot have {self.outputs} outputs; it needs at least 1")
        *layers, last = net.layers
        if not last.width:
            raise ConfigError(
                f"net {self.name} ends with {last.name}, which has no outputs; end it with a linear layer"
            )
        return replace(net, layers=(*layers, replace(last, width=self.outputs)))

    def plan(self, *, fused: bool = True) -> Plan:
        """Return the plan. With `fused`, one op computes a layer and its ReLU together; parameters keep their names.

        Raises ``ConfigError`` as `net`, and ``ShapeError`` for columns that do not fit the network.
        """
        plan = self.net().plan(self.columns, exchange=self.exchange != "none")
        return fuse(plan) if fused else plan
