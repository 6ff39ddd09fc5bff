"""Join each convolution or fully connected layer with the ReLU that follows it, where one op computes both."""

from dataclasses import replace

from refnet import ops
from refnet.network.plan import Node, Plan


def fuse(plan: Plan) -> Plan:
    """Return a plan with fewer nodes that computes the same numbers from the same parameters, with the same names.

    A node whose output only a ReLU reads is joined with that ReLU. It keeps its name, which its parameters have, too.
    """
    readers = plan.readers()
    makers = {node.name: node for node in plan.nodes}
    fused: dict[str, Node] = {}
    joined: dict[str, str] = {}  # the name of each ReLU that is gone, and of the node that has its output now
    for node in plan.nodes:
        source = makers.get(node.inputs[0])
        if node.layer.op == "relu" and source and readers[source.name] == 1 and f"{source.layer.op}_relu" in ops.OPS:
            layer = replace(source.layer, op=f"{source.layer.op}_relu")
            fused[source.name] = replace(fused[source.name], layer=layer)
            joined[node.name] = source.name
        else:
            fused[node.name] = replace(node, inputs=tuple(joined.get(name, name) for name in node.inputs))
    return replace(plan, nodes=tuple(fused.values()))
