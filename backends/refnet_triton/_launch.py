"""How a kernel is run: on the device of its arguments, in the configuration of that device's table.

A *trace* records launches instead of running them, with arguments that have no memory (torch's ``meta`` device): so a
tool can list every kernel that a network needs on an architecture that is not at hand, and compile it there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from refnet.errors import BackendUnavailableError, ShapeError, setting
from refnet_triton import _configs
from refnet_triton._configs import Config, Table

GRID = (2**31 - 1, 2**16 - 1)  # programs that CUDA takes (programming guide, table of compute capabilities)


@dataclass(frozen=True)
class Launch:
    """One launch that a trace has seen.

    Attributes
    ----------
    arguments
        The values of its run-time arguments by name; those of the ``meta`` device stand for arrays of their shape. A
        kernel may take a tuple of arrays.
    constants
        Its ``tl.constexpr`` arguments by name.
    programs
        The grid.
    """

    kernel: Any
    arguments: dict[str, Any]
    constants: dict[str, Any]
    config: Config
    programs: tuple[int, ...]

    def key(self) -> str:
        """Tell its compiled kernel from others."""
        of = self.signature(), self.constants, self.attributes(), self.config.warps, self.config.stages
        return f"{self.kernel.__name__} {of}"

    def signature(self) -> dict[str, Any]:
        """Type of every argument, as ``triton.compiler.ASTSource`` takes them."""
        kinds = dict.fromkeys(self.constants, "constexpr")
        return {name: kinds.get(name) or _kind(self.arguments[name]) for name in self.kernel.arg_names}

    def attributes(self) -> dict[tuple[int, ...], list[list[Any]]]:
        """What a run on a GPU would tell the compiler: which arguments are multiples of 16 (all arrays are)."""
        return {
            place: [["tt.divisibility", 16]]
            for number, name in enumerate(self.kernel.arg_names)
            if name in self.arguments and name not in self.kernel.do_not_specialize
            for place, a in _places(number, self.arguments[name])
            if isinstance(a, torch.Tensor) or (isinstance(a, int) and a % 16 == 0)
        }


_trace: tuple[str, list[Launch]] | None = None


@contextmanager
def trace(architecture: str) -> Iterator[list[Launch]]:
    """Record launches as they would be on an architecture; give the list that grows by them."""
    global _trace  # noqa: PLW0603 - the one place that says whether kernels run
    _trace = architecture, []
    try:
        yield _trace[1]
    finally:
        _trace = None


def tracing() -> bool:
    """Say whether launches are recorded now."""
    return _trace is not None


def launch(kernel: Any, programs: tuple[int, ...], *arguments: Any, config: Config, **constants: Any) -> None:
    """Run a kernel in a grid of programs; an empty grid runs nothing.

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
        raise ShapeError(f"kernel {kernel.__name__} would need {programs} programs; a grid of CUDA has at most {GRID}")
    device = next(a.device for a in arguments if isinstance(a, torch.Tensor))
    # A GPU makes NaN and infinity in silence, so the interpreter's NumPy shall too.
    with torch.cuda.device(device) if device.type == "cuda" else np.errstate(all="ignore"):
        try:
            kernel[programs](*arguments, **constants, num_warps=config.warps, num_stages=config.stages)
        except _failures() as error:
            if isinstance(error, RuntimeError) and "PassManager" not in str(error):
                raise
            raise BackendUnavailableError(
                f"kernel {kernel.__name__} cannot be compiled for {architecture(device)} ({device}) in "
                f"configuration {config}: {_first_line(error)}; try another {setting('precision')}, or "
                f"{setting('backend', 'auto')}"
            ) from error


def fits(programs: tuple[int, ...]) -> bool:
    """Say whether a grid of CUDA can have so many programs."""
    return all(count <= most for count, most in zip(programs, GRID, strict=False))


def table(a: torch.Tensor | torch.device) -> Table:
    """Find the table of configurations for an array's device."""
    return _configs.find(architecture(a.device if isinstance(a, torch.Tensor) else a))


def cdiv(a: int, b: int) -> int:
    """Divide and round up."""
    return -(-a // b)


def architecture(device: torch.device) -> str:
    """Name what a device is: ``sm_90``, ``gfx942``, or ``interpreter`` for the CPU."""
    if device.type == "meta":
        assert _trace, "arrays without memory are for traces"
        return _trace[0]
    return _configs.INTERPRETER if device.type == "cpu" else _of_gpu(device.index)


@cache
def _of_gpu(index: int) -> str:
    properties = torch.cuda.get_device_properties(index)
    if torch.version.hip:
        return str(properties.gcnArchName).partition(":")[0]
    return f"sm_{properties.major}{properties.minor}"


@cache
def _failures() -> tuple[type[Exception], ...]:
    """List what Triton raises for a kernel that it cannot make; a RuntimeError may be about something else."""
    from triton.compiler.errors import CompilationError  # noqa: PLC0415
    from triton.runtime.errors import OutOfResources, PTXASError  # noqa: PLC0415

    return CompilationError, OutOfResources, PTXASError, RuntimeError


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _places(number: int, argument: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Tell where the compiler finds an argument: by its number, and in a tuple by its number there, too."""
    if isinstance(argument, tuple):
        yield from (((number, i), a) for i, a in enumerate(argument))
    else:
        yield (number,), argument


def _kind(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_kind, value))
    if isinstance(value, torch.Tensor):
        return "*" + _KINDS[value.dtype]
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


_KINDS = {
    torch.float32: "fp32",
    torch.uint8: "u8",
    torch.uint32: "u32",
    torch.int32: "i32",
    torch.int64: "i64",
}
