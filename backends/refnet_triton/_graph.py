"""Training steps as CUDA graphs: the launches of a step are recorded once and then repeated with few calls.

A step has two halves, forward and backward, which are recorded separately. Between them the trainer checks the loss, so
that a step whose loss is not finite changes nothing. A graph repeats its launches with the arguments of the recording.
So its inputs have fixed addresses, and numbers that change from step to step are in device memory (:mod:`._scalars`).
The same kernels run in the same order as without a recording, so the bits are the same.

A graph belongs to one device. If each column has its own device, a half is divided into several graphs: a new one
begins whenever the device changes. In the order of ``Plan.column_by_column`` it changes least often. Copies between
devices are not part of a graph. They run between the graphs, and start and are waited for as they are without a
recording.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from typing import Any

import torch

from refnet_triton import _memory, _scalars

Tensor = torch.Tensor
Forward = Callable[[Sequence[Tensor], Tensor, int], tuple[Tensor, Any]]
Backward = Callable[[Any, float], None]


class GraphedStep:
    """The two halves of a training step. The first batch of a shape compiles the kernels, and the second is recorded.

    One shape is recorded: the first that is seen twice, until a larger batch is seen twice. All other batches run
    without a recording, such as the short last batch of an epoch, which may be the first batch of a resumed run.

    Parameters
    ----------
    forward
        ``forward(images, labels, step)`` returns the loss, and what `backward` needs, called `kept`.
    backward
        ``backward(kept, lr)`` updates the parameters.
    devices
        The devices that the step uses.
    """

    def __init__(self, forward: Forward, backward: Backward, devices: Sequence[torch.device]) -> None:
        self._eager_forward, self._eager_backward = forward, backward
        self._capturers = [_Capturer(device) for device in dict.fromkeys(devices)]
        self._seen: set[torch.Size] = set()
        self._shape: torch.Size | None = None
        self._step = 0
        self._inputs: list[Tensor] = []
        self._halves: list[Record] = []
        self._output: tuple[Tensor, Any] | None = None

    def forward(self, images: Sequence[Tensor], labels: Tensor, step: int) -> tuple[Tensor, Any]:
        """Run the forward half, recorded or not; return the loss and what `backward` needs."""
        if not self._records(images[0].shape):
            return self._eager_forward(images, labels, step)
        self._step = step
        _scalars.set_step(step)
        _memory.arrive(*images, labels)
        if not self._inputs:
            self._inputs = [_memory.empty(tuple(a.shape), a.dtype, a.device) for a in (*images, labels)]
        for fixed, a in zip(self._inputs, (*images, labels), strict=True):
            fixed.copy_(a)
        if self._output is None:
            self._halves = [Record(self._capturers)]
            with self._halves[0]:
                self._output = self._eager_forward(self._inputs[:-1], self._inputs[-1], step)
        self._halves[0].repeat()
        return self._output[0], self

    def _records(self, shape: torch.Size) -> bool:
        """Return whether batches of a shape are recorded, and choose the shape (see the class)."""
        if shape == self._shape:
            return True
        if shape not in self._seen or (self._shape and shape[0] < self._shape[0]):
            self._seen.add(shape)
            return False
        self._shape, self._inputs, self._halves, self._output = shape, [], [], None
        return True

    def backward(self, kept: Any, lr: float) -> None:
        """Run the backward half, recorded or not. `kept` is the second result of `forward`."""
        if kept is not self:  # `forward` ran without a recording
            self._eager_backward(kept, lr)
            return
        _scalars.set_step(self._step)  # between the halves, another network's step may have set its number
        _scalars.set_lr(lr)
        if len(self._halves) == 1:
            assert self._output
            self._halves.append(Record(self._capturers))
            with self._halves[1]:
                self._eager_backward(self._output[1], lr)
        self._halves[1].repeat()


class _Capturer:
    """The stream on which graphs of one device are recorded, and the memory pool that they share."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()


class Record:
    """The actions of one half of a step, in order: graphs, copies and waits.

    A ``with`` statement records them and runs none; `repeat` runs them. Every op calls ``_memory.begin`` first, which
    calls `work` with the op's device while this object is recording.
    """

    def __init__(self, capturers: Sequence[_Capturer]) -> None:
        self._capturers = {capturer.device: capturer for capturer in capturers}
        self._actions: list[Callable[[], object]] = []
        self._open = ExitStack()
        self._device: torch.device | None = None

    def __enter__(self) -> None:
        _memory.recorder = self

    def __exit__(self, *error: object) -> None:
        _memory.recorder = None
        # After an error, ending the recording fails too; the first error is the useful one.
        with suppress(RuntimeError) if error[0] else nullcontext():
            self.cut()

    def work(self, device: torch.device) -> None:
        """Record the work that follows on a device: in the open graph if it is this device's, else in a new one."""
        if device == self._device:
            return
        self.cut()
        capturer, graph = self._capturers[device], torch.cuda.CUDAGraph()
        self._open.enter_context(torch.cuda.graph(graph, pool=capturer.pool, stream=capturer.stream))
        self._device = device
        self._actions.append(graph.replay)

    def copy(self, send: Callable[[], Any]) -> list[Any]:
        """Record a copy: `send` starts it and returns the CUDA event of its end.

        Return a list with one entry, the event of the latest repetition. `send` refers to both arrays, so that their
        memory is not used for anything else.
        """
        arrival: list[Any] = [None]

        def send_again() -> None:
            arrival[0] = send()

        self._actions.append(send_again)
        return arrival

    def wait(self, device: torch.device, arrival: list[Any]) -> None:
        """Record that the work that follows on a device waits for the copy with this event (see `copy`)."""
        self.cut()
        self._actions.append(lambda: torch.cuda.current_stream(device).wait_event(arrival[0]))

    def repeat(self) -> None:
        """Run all actions.

        They overwrite the arrays of the previous repetition. By then all reads of these have finished: the loss needs
        the forward pass of every device, the backward pass needs the loss, and each device works in order.
        """
        for action in self._actions:
            action()

    def cut(self) -> None:
        """End the open graph; the work that follows is not part of it."""
        self._open.close()
        self._device = None
