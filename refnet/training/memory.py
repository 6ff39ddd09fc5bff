"""How much memory training takes on a device, estimated from the plan."""

from math import prod

from refnet.network.plan import Plan


def batch_that_fits(plan: Plan, room: int | None, batch: int, devices: int) -> int:
    """Return an estimate of the largest batch that fits on the devices; 0 if not even one image fits.

    The estimate is at most half of `batch`, which did not fit. Each parameter also needs memory for a velocity and a
    gradient. A step keeps every activation, and needs as much memory again for gradients and for the ops' own arrays.
    The columns share one device or have one each.

    Parameters
    ----------
    room
        Bytes of memory on each device; None if unknown.
    """
    fixed = 3 * 4 * sum(prod(shape) for shape in plan.param_shapes().values())
    image = 2 * 4 * sum(prod(node.shape) for node in plan.nodes)
    fitting = batch - 1 if room is None else int((0.9 * room * devices - fixed) // image)
    return max(0, min(fitting, batch // 2))
