"""Join each convolution or fully connected layer with the ReLU that follows it, where one chapter does both."""

from dataclasses import replace

from refnet import ops
from refnet.network.plan import Node, Plan


def fuse(plan: Plan) -> Plan:
    """Write a plan with fewer nodes that computes the same numbers, from the same parameters by the same names.

    A node whose output ReLU alone reads becomes one with its ReLU, under its own name, since parameters bear it.
    """
    readers = plan.readers()
    makers = {node.name: node for node in plan.nodes}
    fused: dict[str, Node] = {}
    joined: dict[str, str] = {}  # what a ReLU's output is called now
    for node in plan.nodes:
        source = makers.get(node.inputs[0])
        if node.layer.op == "relu" and source and readers[source.name] == 1 and f"{source.layer.op}_relu" in ops.OPS:
            layer = replace(source.layer, op=f"{source.layer.op}_relu")
            fused[source.name] = replace(fused[source.name], layer=layer)
            joined[node.name] = source.name
        else:
            fused[node.name] = replace(node, inputs=tuple(joined.get(name, name) for name in node.inputs))
    return replace(plan, nodes=tuple(fused.values()))
