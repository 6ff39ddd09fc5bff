"""Join each convolution or fully connected layer with the ReLU that follows it, where one chapter does both."""

from dataclasses import replace

from refnet import ops
from refnet.network.plan import Plan, Step


def fuse(plan: Plan) -> Plan:
    """Write a plan with fewer steps that computes the same numbers, from the same parameters by the same names.

    A step whose output ReLU alone reads becomes one with its ReLU, under its own name, since parameters bear it.
    """
    readers = plan.readers()
    makers = {step.name: step for step in plan.steps}
    fused: dict[str, Step] = {}
    joined: dict[str, str] = {}  # what a ReLU's output is called now
    for step in plan.steps:
        source = makers.get(step.inputs[0])
        if step.layer.op == "relu" and source and readers[source.name] == 1 and f"{source.layer.op}_relu" in ops.OPS:
            layer = replace(source.layer, op=f"{source.layer.op}_relu")
            fused[source.name] = replace(fused[source.name], layer=layer)
            joined[step.name] = source.name
        else:
            fused[step.name] = replace(step, inputs=tuple(joined.get(name, name) for name in step.inputs))
    return replace(plan, steps=tuple(fused.values()))
