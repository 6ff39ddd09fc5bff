"""Launches of kernels: on the device of their arguments, with a configuration from that device's table.

A *trace* records launches instead of running them. Their arguments have no memory (torch's ``meta`` device). So a tool
can list and compile every kernel that a network needs, for an architecture that this machine does not have.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from refnet.errors import BackendUnavailableError, ShapeError
from refnet.terminal.spelling import setting
from refnet_triton import _configs
from refnet_triton._configs import Config, Table

MAX_GRID = (2**31 - 1, 2**16 - 1)  # CUDA's largest grid (programming guide, table of compute capabilities)


@dataclass(frozen=True)
class Launch:
    """One launch that a trace has recorded.

    Attributes
    ----------
    kernel
        The function, decorated with ``triton.jit``.
    arguments
        Values of the run-time arguments by name. Arrays are on the ``meta`` device: they have a shape but no memory. An
        argument may be a tuple of arrays.
    constants
        Values of the ``tl.constexpr`` arguments by name.
    programs
        Size of the grid.
    """

    kernel: Any
    arguments: dict[str, Any]
    constants: dict[str, Any]
    config: Config
    programs: tuple[int, ...]

    def numel(self, name: str) -> int:
        """Return how many numbers an array among the arguments has."""
        return int(self.arguments[name].numel())

    def key(self) -> str:
        """Return a text that two launches share if, and only if, they run the same compiled kernel."""
        parts = self.signature(), self.constants, self.attributes(), self.config.warps, self.config.stages
        return f"{self.kernel.__name__} {parts}"

    def signature(self) -> dict[str, Any]:
        """Return the type of every argument by name, in the form that ``triton.compiler.ASTSource`` takes."""
        return {
            name: "constexpr" if name in self.constants else _type(self.arguments[name])
            for name in self.kernel.arg_names
        }

    def attributes(self) -> dict[tuple[int, ...], list[list[Any]]]:
        """Return which arguments are multiples of 16, as a launch on a GPU tells the compiler; all addresses are."""
        return {
            path: [["tt.divisibility", 16]]
            for index, name in enumerate(self.kernel.arg_names)
            if name in self.arguments and name not in self.kernel.do_not_specialize
            for path, a in _entries(index, self.arguments[name])
            if isinstance(a, torch.Tensor) or (isinstance(a, int) and a % 16 == 0)
        }


_trace: tuple[str, list[Launch]] | None = None


@contextmanager
def trace(architecture: str) -> Iterator[list[Launch]]:
    """Record the launches of an architecture instead of running them; yield the list to which they are added."""
    global _trace  # noqa: PLW0603 - the only state: whether launches run or are recorded
    _trace = architecture, []
    try:
        yield _trace[1]
    finally:
        _trace = None


def tracing() -> bool:
    """Return whether launches are being recorded."""
    return _trace is not None


def launch(kernel: Any, programs: tuple[int, ...], *arguments: Any, config: Config, **constants: Any) -> None:
    """Run a kernel on a grid of programs, on the device of its array arguments. An empty grid runs nothing.

    Parameters
    ----------
    kernel
        A function decorated with ``triton.jit``.
    programs
        Size of the grid.
    arguments
        The kernel's run-time arguments, in order.
    constants
        Its ``tl.constexpr`` arguments.

    Raises
    ------
    BackendUnavailableError
        The kernel cannot be compiled for the device.
    ShapeError
        The arrays need more programs than a grid can have.
    """
    if 0 in programs:
        return
    if _trace:
        names = [name for name in kernel.arg_names if name not in constants]
        _trace[1].append(Launch(kernel, dict(zip(names, arguments, strict=True)), constants, config, programs))
        return
    if not fits(programs):
        raise ShapeError(
            f"kernel {kernel.__name__} would need {programs} programs; a grid of CUDA has at most {MAX_GRID}"
        )
    device = next(a.device for a in arguments if isinstance(a, torch.Tensor))
    # A GPU gives no warning when it computes NaN or infinity, so the interpreter's NumPy must give none either.
    with torch.cuda.device(device) if device.type == "cuda" else np.errstate(all="ignore"):
        try:
            kernel[programs](*arguments, **constants, num_warps=config.warps, num_stages=config.stages)
        except _compile_errors() as error:
            if isinstance(error, RuntimeError) and "PassManager" not in str(error):
                raise
            raise BackendUnavailableError(
                f"kernel {kernel.__name__} cannot be compiled for {architecture(device)} ({device}) in "
                f"configuration {config}: {_first_line(error)}; try another {setting('precision')}, or "
                f"{setting('backend', 'auto')}"
            ) from error


def fits(programs: tuple[int, ...]) -> bool:
    """Return whether CUDA allows a grid of this size."""
    return all(count <= limit for count, limit in zip(programs, MAX_GRID, strict=False))


def table(a: torch.Tensor | torch.device) -> Table:
    """Return the table of configurations for a device, or for the device of an array."""
    return _configs.find(architecture(a.device if isinstance(a, torch.Tensor) else a))


def cdiv(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)


def architecture(device: torch.device) -> str:
    """Return the architecture of a device: ``sm_90``, ``gfx942`` and so on, or ``interpreter`` for the CPU."""
    if device.type == "meta":
        assert _trace, "arrays without memory are only for traces"
        return _trace[0]
    return _configs.INTERPRETER if device.type == "cpu" else _of_gpu(device.index)


@cache
def _of_gpu(index: int) -> str:
    properties = torch.cuda.get_device_properties(index)
    if torch.version.hip:
        return str(properties.gcnArchName).partition(":")[0]
    return f"sm_{properties.major}{properties.minor}"


@cache
def _compile_errors() -> tuple[type[Exception], ...]:
    """Return the errors that Triton raises for kernels that it cannot compile; RuntimeError can have other causes."""
    from triton.compiler.errors import CompilationError  # noqa: PLC0415
    from triton.runtime.errors import OutOfResources, PTXASError  # noqa: PLC0415

    return CompilationError, OutOfResources, PTXASError, RuntimeError


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _entries(index: int, argument: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Yield an argument with its index, (index,); for a tuple, each entry i with (index, i)."""
    if isinstance(argument, tuple):
        yield from (((index, i), a) for i, a in enumerate(argument))
    else:
        yield (index,), argument


def _type(value: Any) -> Any:
    """Return Triton's name for the type of a run-time argument; for a tuple, those of its entries."""
    if isinstance(value, tuple):
        return tuple(map(_type, value))
    if isinstance(value, torch.Tensor):
        return "*" + _TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


_TYPES = {
    torch.float32: "fp32",
    torch.uint8: "u8",
    torch.uint32: "u32",
    torch.int32: "i32",
    torch.int64: "i64",
}
