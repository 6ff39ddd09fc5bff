"""The Triton GPU backend: the ops of :mod:`refnet.ops` as GPU kernels.

Each op has a module of the same name. Its public functions check the arguments' layout and dtype (``_memory.require``),
allocate the results (``_memory.empty``) and launch kernels (``_launch.launch``). A launch runs a grid of programs, each
of which computes one block of the result. The docstring of a kernel is its formula, and its numbered comments say which
block a program computes and how. Block sizes come from a table for the device's architecture (``_configs``). A kernel's
arguments in capitals are sizes; those marked ``tl.constexpr`` are compiled into it.

The matrix products of conv2d and linear are in ``_product``. Torch provides memory, streams and copies; all arithmetic
is Triton's. Importing this module imports neither.
"""

import inspect
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from refnet.backend.interface import METHODS
from refnet.errors import ArgumentError, BackendUnavailableError, ConfigError, ShapeError
from refnet.ops import OPS, chapter
from refnet.ops._arguments import described, host_array
from refnet.terminal.spelling import setting

if TYPE_CHECKING:
    import torch


class _Process:
    """The process that a backend was loaded in, and the lock that its Python threads take to launch an op's kernels.

    Triton's interpreter, a recording and the numbers of a step belong to the whole process, so ops are launched one
    after the other.
    """

    def __init__(self) -> None:
        self.turn = threading.RLock()


_process = _Process()


def _begin_process() -> None:
    """Tell a forked process from its parent."""
    global _process  # noqa: PLW0603
    _process = _Process()


os.register_at_fork(after_in_child=_begin_process)


class TritonBackend:
    """A backend whose ops are Triton kernels, with column c on the c-th device.

    Arrays are contiguous torch tensors; floating-point numbers are float32.

    Parameters
    ----------
    columns
        Number of columns of the network (1 or 2).
    devices
        One device for all columns, or one for each: ``cuda:0``, ``cuda:1``, or ``cpu``. On ``cpu``, Triton's
        interpreter runs the kernels; this is slow, and meant for checking them. Empty for ``cuda:0``, or for ``cpu`` if
        ``TRITON_INTERPRET=1`` is set.
    threads
        Ignored: the devices do the work.
    precision
        How matrix products round their factors: ``ieee`` (float32, not rounded), ``tf32x3`` (three TF32 products) or
        ``tf32`` (11 significant bits: rounded to them in convolutions, truncated in fully connected layers, whose
        matrices are read where they are). None for tf32 on NVIDIA and ieee elsewhere. Sums are always float32.
    exchange
        Precision of activations and gradients that are sent from column to column: ``fp32`` (unchanged) or ``fp16``
        (activations rounded to fp16, gradients to bf16).
    graph
        Whether steps will be recorded (``graphed``), so that devices that cannot record are rejected at once.

    Raises
    ------
    BackendUnavailableError
        Torch, Triton or a device is missing, or this process has already loaded kernels for another kind of device.
    ConfigError
        The devices do not support that precision, or cannot record steps.
    DeviceMemoryError
        A device has no memory left. Every method and every op can raise this error.
    """

    name = "triton"

    def __init__(
        self,
        columns: int = 1,
        devices: Sequence[str] = (),
        threads: int | None = None,  # noqa: ARG002
        *,
        precision: str | None = None,
        exchange: str = "fp32",
        graph: bool = False,
    ) -> None:
        try:
            self._torch = import_module("torch")
        except ImportError as error:
            raise BackendUnavailableError(
                f"backend triton needs torch, which cannot be imported ({error}); pip install 'refnet[triton]'"
            ) from error
        device_module = import_module("refnet_triton._devices")
        named = device_module.find(devices)
        self.columns = columns
        self._process = _process
        self.devices: list[torch.device] = named if len(named) == columns else named[:1] * columns
        self.memory = import_module("refnet_triton._memory")
        self.precision: str = self._watched(device_module.precision)(precision, self.devices)
        if graph and self.devices[0].type == "cpu":
            raise ConfigError(f"{setting('graph')} records the steps of GPUs; leave it out on the CPU")
        self.exchange = exchange
        self._elementwise = import_module("refnet_triton._elementwise")
        self._streams: dict[tuple[torch.device, torch.device], tuple[Any, Any]] = {}
        self._uploads: dict[torch.device, Any] = {}
        for op in OPS:
            module = import_module(f"refnet_triton.{op}")
            setattr(self, op, self._bound(module, {"precision": self.precision, "device": self.devices[0]}))
        for method in (*METHODS, "send"):
            setattr(self, method, self._watched(getattr(self, method)))

    @property
    def exchange_itemsize(self) -> int:
        """Bytes of a number that is sent from column to column."""
        return 2 if self.exchange == "fp16" else 4

    def asarray(self, a: npt.NDArray[Any], column: int = 0) -> "torch.Tensor":
        """Return a copy of a host array on a column's device.

        Raises ``ConfigError`` for floating-point numbers that are not float32.
        """
        a = host_array("asarray: a", a)
        if a.dtype.kind == "f" and a.dtype != np.float32:
            raise ConfigError(f"backend triton computes in float32, not {a.dtype}; convert it, or use backend numpy")
        host = self._torch.from_numpy(np.ascontiguousarray(a).reshape(a.shape))
        device = self.devices[column]
        if device.type == "cuda":
            return self._uploaded(host, device)
        copy: torch.Tensor = self.memory.empty(a.shape, host.dtype, device)
        return copy.copy_(host)

    def argument(self, label: str, a: "torch.Tensor", *, changes: bool = False) -> "torch.Tensor":
        """Return an argument as kernels take it: contiguous (:class:`refnet.backend.capabilities.Arguments`)."""
        if not isinstance(a, self._torch.Tensor):
            raise ArgumentError(
                f"{label} must be an array of backend triton (a torch tensor), it is {described(a)}; asarray makes one"
            )
        if a.device not in self.devices:
            places = " and ".join(str(device) for device in dict.fromkeys(self.devices))
            raise ArgumentError(f"{label} is on device {a.device}, the backend computes on {places}; move it there")
        if changes and not a.is_contiguous():
            raise ArgumentError(f"{label} is changed in place, so it must be contiguous, not a view; copy it")
        half = a.dtype in {self._torch.float16, self._torch.bfloat16}
        if a.dtype.is_floating_point and a.dtype != self._torch.float32 and (changes or not half):
            raise ShapeError(f"{label} is {a.dtype}, and backend triton computes in float32; convert it with .float()")
        taken: torch.Tensor = a.float() if half else a
        return taken.contiguous()

    def to_numpy(self, a: "torch.Tensor") -> npt.NDArray[Any]:
        """Wait until an array has been computed, and return it as a NumPy array."""
        self.memory.arrive(a)
        array: npt.NDArray[Any] = a.cpu().numpy()
        return array

    def move(self, a: "torch.Tensor", column: int) -> "torch.Tensor":
        """Return an array on the device of another column."""
        self.memory.arrive(a)
        target = self.devices[column]
        return a if a.device == target else self._across(a, target)

    def send(self, a: "torch.Tensor", column: int, *, gradient: bool) -> "torch.Tensor":
        """Return an activation or a gradient on the device of another column; with ``exchange="fp16"``, rounded.

        Both are rounded to 16 bits, activations to fp16 (a relative error of at most 2^-11). Most gradients are below
        6.1e-5, where fp16 loses digits and then everything, so they are rounded to bf16, which has the range of
        float32 (a relative error of at most 2^-9).
        """
        if self.exchange == "fp32":
            return self.move(a, column)
        rounded = self._converted(a, self._torch.bfloat16 if gradient else self._torch.float16)
        return self._converted(self.move(rounded, column), self._torch.float32)

    def concat(self, parts: Sequence["torch.Tensor"]) -> "torch.Tensor":
        """Return arrays (N,C,...) of one column joined along their channels (axis 1)."""
        self.memory.begin(*parts)
        first = parts[0]
        shape = (first.shape[0], sum(part.shape[1] for part in parts), *first.shape[2:])
        joined = self.memory.empty(shape, first.dtype, first.device)
        whole: torch.Tensor = self._torch.cat(list(parts), dim=1, out=joined)
        return whole

    def split(self, a: "torch.Tensor", widths: Sequence[int]) -> list["torch.Tensor"]:
        """Return an array (N,C,...) in parts that have the given numbers of channels: the reverse of ``concat``."""
        self.memory.begin(a)
        return [
            self.memory.empty(tuple(view.shape), a.dtype, a.device).copy_(view) for view in a.split(list(widths), dim=1)
        ]

    def add(self, a: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
        """Return a + b, two gradients of the same array."""
        total: torch.Tensor = self._elementwise.result(self._elementwise.add, a, b)
        return total

    def graphed(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> tuple[Any, Any]:
        """Return the two halves of a training step as functions that are recorded and then repeated (``_graph``)."""
        step = import_module("refnet_triton._graph").GraphedStep(forward, backward, self.devices)
        return self._watched(step.forward), self._watched(step.backward)

    def tune(self, step: Callable[[], None], say: Callable[[str], None]) -> Path:
        """Find the fastest kernel configurations for a training step, save them, and return the path of that file.

        Parameters
        ----------
        step
            Takes one training step on this backend.
        say
            Gets a line of text for each configuration.

        Raises
        ------
        BackendUnavailableError
            There is no GPU to tune for.
        """
        if self.devices[0].type == "cpu":
            raise BackendUnavailableError(
                f"the interpreter cannot be tuned; name a GPU, {setting('devices', ('cuda:0',))}"
            )
        architecture = import_module("refnet_triton._launch").architecture(self.devices[0])

        def synchronized_step() -> None:
            step()
            self.synchronize()

        path: Path = import_module("refnet_triton._tune").tune(synchronized_step, architecture, self.precision, say)
        return path

    def synchronize(self) -> None:
        """Wait until all results have been computed."""
        for device in self.devices:
            if device.type == "cuda":
                self._torch.cuda.synchronize(device)

    def _converted(self, a: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
        """Return a copy with another dtype."""
        self.memory.begin(a)
        converted: torch.Tensor = self.memory.empty(tuple(a.shape), dtype, a.device)
        return converted.copy_(a)

    def _uploaded(self, host: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
        """Return a copy of a host array on a GPU, whose other work need not wait: only readers of the copy do.

        The array is first copied to pinned memory, from which the GPU reads it while the caller goes on, on a stream of
        its own: so the next batch arrives while a step is computed.
        """
        cuda, memory = self._torch.cuda, self.memory
        if device not in self._uploads:
            self._uploads[device] = cuda.Stream(device)
        pinned = memory.pinned(host)
        with cuda.stream(self._uploads[device]):
            copy: torch.Tensor = memory.empty(tuple(host.shape), host.dtype, device)
            copy.copy_(pinned, non_blocking=True)
            setattr(copy, memory.ARRIVAL, self._uploads[device].record_event())
        copy.record_stream(cuda.current_stream(device))
        return copy

    def _across(self, a: "torch.Tensor", target: "torch.device") -> "torch.Tensor":
        """Return a copy on another device; only work that reads the copy waits for it (``_memory.arrive``).

        Torch makes the current streams of both devices wait for a copy. So the copy runs on an extra stream of each
        device, and starts when `a` has been computed. Its memory comes from the pool of the target's extra stream;
        memory of the current stream could still be in use by earlier work. A recorded step keeps both arrays.
        """
        cuda, memory = self._torch.cuda, self.memory
        pair = (a.device, target)
        if pair not in self._streams:
            self._streams[pair] = cuda.Stream(a.device), cuda.Stream(target)
        sending, receiving = self._streams[pair]
        if memory.recorder:
            memory.recorder.cut()
        with cuda.stream(receiving):
            copy: torch.Tensor = memory.empty(tuple(a.shape), a.dtype, target)

        def send() -> Any:
            sending.wait_stream(cuda.current_stream(a.device))
            with cuda.stream(sending), cuda.stream(receiving):
                copy.copy_(a, non_blocking=True)
                return receiving.record_event()

        setattr(copy, memory.ARRIVAL, memory.recorder.copy(send) if memory.recorder else send())
        if not memory.recorder:
            a.record_stream(sending)
            copy.record_stream(cuda.current_stream(target))
        return copy

    def _bound(self, module: ModuleType, settings: dict[str, Any]) -> SimpleNamespace:
        """Return the functions of an op's module that are in its chapter's interface, with `settings` as arguments."""
        names = chapter(module.__name__.rpartition(".")[2]).INTERFACE
        functions = {name: _bind(getattr(module, name), settings) for name in names}
        return SimpleNamespace(**{name: self._watched(function) for name, function in functions.items()})

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that calls this one, in one Python thread at a time.

        It raises ``DeviceMemoryError`` if a device runs out of memory, and ``BackendUnavailableError`` in a process
        that was forked after the backend was loaded: its parent's devices and threads are not copied.
        """

        @wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            if self._process is not _process:
                raise BackendUnavailableError(
                    "backend triton cannot compute in a process that was forked after it was loaded; start processes "
                    "with multiprocessing.get_context('spawn')"
                )
            try:
                with _process.turn:
                    return function(*args, **kwargs)
            except RuntimeError as error:
                if shortage := self.memory.shortage(error, self.devices):
                    raise shortage from error
                raise

        return watched


def _bind(function: Callable[..., Any], settings: dict[str, Any]) -> Callable[..., Any]:
    """Return the function with those settings fixed that it takes; they are then no longer its parameters."""
    signature = inspect.signature(function)
    fixed = {name: value for name, value in settings.items() if name in signature.parameters}
    if not fixed:
        return function
    bound: Any = partial(function, **fixed)
    remaining = [parameter for name, parameter in signature.parameters.items() if name not in fixed]
    bound.__signature__ = signature.replace(parameters=remaining)
    return bound  # type: ignore[no-any-return]
