"""The one place where this backend takes memory, and what it asks of the memory that it is given."""

import re
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from refnet.errors import DeviceMemoryError, ShapeError

# An array on its way from another device: who reads it waits for this event first (see TritonBackend.move).
ARRIVAL = "refnet_arrival"


class Recorder(Protocol):
    """What writes a step down instead of running it; see ``_graph.Record``."""

    def work(self, device: torch.device) -> None:
        """Hear that the launches which follow are on a device."""

    def cut(self) -> None:
        """Hear that what follows is no work of a device."""

    def copy(self, send: Any) -> Any:
        """Write down a copy between devices, and give what to ``wait`` for."""

    def wait(self, device: torch.device, arrival: Any) -> None:
        """Write down that a device's work waits for a copy."""


recorder: Recorder | None = None


def empty(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Return an array whose numbers have no meaning yet; whoever asks for it writes all of them."""
    return torch.empty(shape, dtype=dtype, device=device)


# Torch has a class for memory that its allocator finds no more of. CUDA finds none in other places, too: when a context
# is made, a recording ended or a kernel loaded. It says so through torch (AcceleratorError, or RuntimeError where the
# driver is asked) or Triton (RuntimeError), always in these words, as AMD does; the last ones are the host's.
_SHORTAGE = re.compile("out of memory|allocate memory|not enough memory", re.IGNORECASE)


def shortage(error: RuntimeError, devices: Sequence[torch.device]) -> DeviceMemoryError | None:
    """Give an error as ours if it says that memory ran out, on the device with the least left; None if it does not."""
    if not isinstance(error, torch.OutOfMemoryError) and not _SHORTAGE.search(str(error)):
        return None
    known = {device: found for device in devices if (found := _left(device))}
    if not known:
        return DeviceMemoryError(str(devices[0]), None)
    device = min(known, key=lambda each: known[each][0])
    free, total = known[device]
    return DeviceMemoryError(str(device), total, room=free + torch.cuda.memory_reserved(device))


def _left(device: torch.device) -> tuple[int, int] | None:
    """Ask for free and total bytes of a device; None where nobody can tell, such as a device without a context."""
    try:
        return torch.cuda.mem_get_info(device) if device.type == "cuda" else None
    except RuntimeError:
        return None


def arrive(*arrays: torch.Tensor) -> None:
    """Make the work that follows wait for arrays that are on their way."""
    for a in arrays:
        if (arrival := a.__dict__.pop(ARRIVAL, None)) is None:
            continue
        if recorder:
            recorder.wait(a.device, arrival)
        else:
            torch.cuda.current_stream(a.device).wait_event(arrival)


def begin(*arrays: torch.Tensor) -> None:
    """Say that the work which follows is on these arrays, which lie on one device."""
    arrive(*arrays)
    if recorder:
        recorder.work(arrays[0].device)


def require(*arrays: torch.Tensor) -> None:
    """Refuse what kernels do not take, and begin work on the rest. Every op begins with it.

    Raises
    ------
    ShapeError
        An array is not contiguous, or its real numbers are not float32.
    """
    begin(*arrays)
    for a in arrays:
        if not a.is_contiguous():
            raise ShapeError(
                f"backend triton takes contiguous arrays; this one, {tuple(a.shape)}, has strides {a.stride()}"
            )
        if a.dtype.is_floating_point and a.dtype != torch.float32:
            raise ShapeError(f"backend triton computes in float32, not in {a.dtype}; convert or take backend numpy")
