"""The allocation of memory, which happens only here, and the check of arguments' layout and dtype."""

import re
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from refnet.errors import DeviceMemoryError, ShapeError

# Attribute of an array that is being copied from another device or the host: the event to wait for before reading it.
ARRIVAL = "refnet_arrival"


class Recorder(Protocol):
    """What this module and the backend need of an object that records a step (``_graph.Record``)."""

    def work(self, device: torch.device) -> None:
        """Record the following launches as work on a device."""

    def cut(self) -> None:
        """Stop recording work on a device."""

    def copy(self, send: Any) -> Any:
        """Record a copy between devices; return the object to ``wait`` for."""

    def wait(self, device: torch.device, arrival: Any) -> None:
        """Record that a device's work waits for a copy."""


recorder: Recorder | None = None  # the object that is recording; None if launches run at once


def empty(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Return an uninitialised array; the caller must write every element."""
    return torch.empty(shape, dtype=dtype, device=device)


def pinned(host: torch.Tensor) -> torch.Tensor:
    """Return a copy of a host array in memory that a GPU can read by itself.

    Torch reuses such memory, but not before the copies from it have ended.
    """
    return torch.empty(host.shape, dtype=host.dtype, pin_memory=True).copy_(host)


# Torch raises OutOfMemoryError for its own allocator. CUDA can also run out of memory when it creates a context, ends a
# recording or loads a kernel. Torch (AcceleratorError or RuntimeError) and Triton (RuntimeError) then use one of the
# first two phrases, on AMD's GPUs too. The last phrase is torch's for the host's memory.
_SHORTAGE = re.compile("out of memory|allocate memory|not enough memory", re.IGNORECASE)


def shortage(error: RuntimeError, devices: Sequence[torch.device]) -> DeviceMemoryError | None:
    """Return a ``DeviceMemoryError`` that names the device with the least free memory; None for any other error."""
    if not isinstance(error, torch.OutOfMemoryError) and not _SHORTAGE.search(str(error)):
        return None
    sizes = {device: size for device in devices if (size := _free_and_total(device))}
    if not sizes:
        return DeviceMemoryError(str(devices[0]), None)
    device = min(sizes, key=lambda each: sizes[each][0])
    free, total = sizes[device]
    return DeviceMemoryError(str(device), total, available=free + torch.cuda.memory_reserved(device))


def _free_and_total(device: torch.device) -> tuple[int, int] | None:
    """Return free and total bytes of a device; None if unknown, for example for a device without a context."""
    try:
        return torch.cuda.mem_get_info(device) if device.type == "cuda" else None
    except RuntimeError:
        return None


def arrive(*arrays: torch.Tensor) -> None:
    """Make the following work wait for those of the arrays that are being copied from another device."""
    for a in arrays:
        if (arrival := a.__dict__.pop(ARRIVAL, None)) is None:
            continue
        if recorder:
            recorder.wait(a.device, arrival)
        else:
            torch.cuda.current_stream(a.device).wait_event(arrival)


def begin(*arrays: torch.Tensor) -> None:
    """Prepare work on arrays that are all on one device: wait for their copies, and tell the recorder the device."""
    arrive(*arrays)
    if recorder:
        recorder.work(arrays[0].device)


def require(*arrays: torch.Tensor) -> None:
    """Check the arrays of an op, and prepare work on them (`begin`). Every op calls this first.

    Raises
    ------
    ShapeError
        An array is not contiguous, or has floating-point numbers that are not float32.
    """
    begin(*arrays)
    for a in arrays:
        if not a.is_contiguous():
            raise ShapeError(
                f"backend triton needs contiguous arrays; one of shape {tuple(a.shape)} has strides {a.stride()}"
            )
        if a.dtype.is_floating_point and a.dtype != torch.float32:
            raise ShapeError(f"backend triton computes in float32, not {a.dtype}; convert it, or use backend numpy")
