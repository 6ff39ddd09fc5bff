"""The devices of this machine and the precisions they support. Triton is imported here: for GPUs, or as interpreter."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch

from refnet.errors import BackendUnavailableError, ConfigError
from refnet.terminal.spelling import setting
from refnet_triton._configs import PRECISIONS

INTERPRET = "TRITON_INTERPRET"  # Triton's environment variable


def find(names: Sequence[str]) -> list[torch.device]:
    """Import Triton for the devices with those names, and return the devices. Without names: the default device.

    Raises
    ------
    BackendUnavailableError
        A device does not exist, the devices are of two kinds, or Triton has been imported for the other kind.
    """
    devices = [_find(name) for name in names or (("cpu",) if _interprets() else ("cuda:0",))]
    kinds = {device.type for device in devices}
    if len(kinds) > 1:
        raise BackendUnavailableError("backend triton runs on GPUs or on the CPU, not on both; name one kind of device")
    _load_triton(interpreted="cpu" in kinds)
    return devices


def precision(requested: str | None, devices: Sequence[torch.device]) -> str:
    """Return the precision of matrix products: the one that was requested, or the devices' default.

    Raises
    ------
    ConfigError
        The precision is unknown, or a device does not support it.
    """
    kind = devices[0].type
    if kind == "cpu" and requested not in {None, "ieee"}:
        raise ConfigError(
            f"{setting('precision', requested)} needs a GPU; the interpreter ({setting('devices', ('cpu',))}) "
            "computes only in ieee"
        )
    chosen = requested or ("ieee" if kind == "cpu" or torch.version.hip else "tf32")
    if chosen not in PRECISIONS:
        raise ConfigError(f"{setting('precision', chosen)} is not known; there are {', '.join(PRECISIONS)}")
    launch: Any = import_module("refnet_triton._launch")
    for device in devices:
        if f"multiply/{chosen}" not in launch.table(device).configs:
            raise ConfigError(
                f"{setting('precision', chosen)} is not supported on {launch.architecture(device)}; use "
                f"{setting('precision', 'ieee')}"
            )
    return chosen


def _find(name: str) -> torch.device:
    """Return the device of that name, if this machine has it."""
    launch: Any = import_module("refnet_triton._launch")
    if name == "cpu" or (name == "meta" and launch.tracing()):  # arrays on "meta" have no memory
        return torch.device(name)
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise BackendUnavailableError(
            f"backend triton has no device {name}; name cuda:0, cuda:1, ... (AMD's GPUs too), or cpu"
        )
    if not torch.cuda.is_available():
        raise BackendUnavailableError(
            f"backend triton finds no GPU here; {setting('devices', ('cpu',))} runs its kernels in the interpreter, to "
            f"check them, and {setting('backend', 'auto')} computes on the CPU"
        )
    index, count = int(number or 0), torch.cuda.device_count()
    if index >= count:
        raise BackendUnavailableError(
            f"{setting('devices')} names cuda:{index}, but the last one here is cuda:{count - 1}; "
            f"one device can hold both columns: {setting('devices', ('cuda:0',))}"
        )
    return torch.device("cuda", index)


def _interprets() -> bool:
    """Return whether the environment asks for Triton's interpreter."""
    return os.environ.get(INTERPRET, "").lower() in {"1", "true", "yes", "on", "y"}


def _load_triton(*, interpreted: bool) -> None:
    """Import Triton, either for GPUs or as the interpreter; a process cannot change this after the import."""
    if interpreted and "triton.language" not in sys.modules:
        os.environ[INTERPRET] = "1"
    try:
        standard = import_module("triton.language.standard")
    except ImportError as error:
        raise BackendUnavailableError(
            f"backend triton needs triton, which cannot be imported ({error}); pip install 'refnet[triton]'"
        ) from error
    is_interpreter = type(standard.zeros).__name__ == "InterpretedFunction"
    if interpreted and not is_interpreter:
        raise BackendUnavailableError(
            f"Triton has been imported for GPUs in this process; for {setting('devices', ('cpu',))} set "
            f"{INTERPRET}=1 before it starts"
        )
    if not interpreted and (is_interpreter or _interprets()):
        raise BackendUnavailableError(
            f"Triton is the interpreter in this process ({INTERPRET}=1); unset it for a GPU, or use "
            f"{setting('devices', ('cpu',))}"
        )
