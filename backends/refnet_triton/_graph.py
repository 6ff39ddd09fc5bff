"""A training step as CUDA graphs: the launches of each half are recorded once and then repeated, many as one.

The trainer looks at the loss between the halves, so that a step whose loss is not finite changes nothing. A graph
repeats its launches with the arguments of its recording, so its inputs stand at fixed places, and what changes from
step to step stands in memory (:mod:`._scalars`). Its kernels are those of the eager path, in the same order: the same
bits.

A graph is of one device. Where the columns have a device each, a half is cut wherever the work goes over to the other
device (which it does least often in ``Plan.column_by_column``), and the copies between them stand between the graphs,
begun and waited for as in the eager path.
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
    """The two halves of a step, recorded at the second batch; the first one compiles what it needs.

    Batches of another shape than the first, such as the last of an epoch, take the eager path.

    Parameters
    ----------
    forward
        ``forward(images, labels, step)``: the loss, and what `backward` needs.
    backward
        ``backward(kept, lr)``: updates the parameters.
    devices
        Those that the step computes on.
    """

    def __init__(self, forward: Forward, backward: Backward, devices: Sequence[torch.device]) -> None:
        self._eager = forward, backward
        self._places = [_Place(device) for device in dict.fromkeys(devices)]
        self._shape: torch.Size | None = None
        self._inputs: list[Tensor] = []
        self._halves: list[Record] = []
        self._output: tuple[Tensor, Any] | None = None

    def forward(self, images: Sequence[Tensor], labels: Tensor, step: int) -> tuple[Tensor, Any]:
        """Run or repeat the first half."""
        if images[0].shape != self._shape:
            self._shape = self._shape or images[0].shape
            return self._eager[0](images, labels, step)
        _scalars.set_step(step)
        _memory.arrive(*images)
        if not self._inputs:
            self._inputs = [_memory.empty(tuple(a.shape), a.dtype, a.device) for a in (*images, labels)]
        for place, a in zip(self._inputs, (*images, labels), strict=True):
            place.copy_(a)
        if self._output is None:
            self._halves = [Record(self._places)]
            with self._halves[0]:
                self._output = self._eager[0](self._inputs[:-1], self._inputs[-1], step)
        self._halves[0].repeat()
        return self._output[0], self

    def backward(self, kept: Any, lr: float) -> None:
        """Run or repeat the second half, after the first."""
        if kept is not self:
            self._eager[1](kept, lr)
            return
        _scalars.set_lr(lr)
        if len(self._halves) == 1:
            assert self._output
            self._halves.append(Record(self._places))
            with self._halves[1]:
                self._eager[1](self._output[1], lr)
        self._halves[1].repeat()


class _Place:
    """Where graphs of a device are recorded: a stream, and memory that they share, since they are repeated in order."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()


class Record:
    """What one half of a step does: graphs, copies and waiting, in order. Recording it (``with``) runs nothing.

    Whatever works on a device says so first (``_memory.begin``), and what is said while this records comes here.
    """

    def __init__(self, places: Sequence[_Place]) -> None:
        self._places = {place.device: place for place in places}
        self._actions: list[Callable[[], object]] = []
        self._open = ExitStack()
        self._device: torch.device | None = None

    def __enter__(self) -> None:
        _memory.recorder = self

    def __exit__(self, *error: object) -> None:
        _memory.recorder = None
        # A recording that has failed cannot be ended, and what the end would say is less than what is on its way.
        with suppress(RuntimeError) if error[0] else nullcontext():
            self.cut()

    def work(self, device: torch.device) -> None:
        """Go on recording on a device, in its latest graph unless something has come between. One graph is open."""
        if device == self._device:
            return
        self.cut()
        place, graph = self._places[device], torch.cuda.CUDAGraph()
        self._open.enter_context(torch.cuda.graph(graph, pool=place.pool, stream=place.stream))
        self._device = device
        self._actions.append(graph.replay)

    def copy(self, send: Callable[[], Any]) -> list[Any]:
        """Note a copy, ``send() -> event``, and give the place where the event of its latest repetition stands.

        The function holds both arrays, so that no graph is given their memory for anything else.
        """
        arrival: list[Any] = [None]

        def sent() -> None:
            arrival[0] = send()

        self._actions.append(sent)
        return arrival

    def wait(self, device: torch.device, arrival: list[Any]) -> None:
        """Note that the work that follows on a device waits for a copy."""
        self.cut()
        self._actions.append(lambda: torch.cuda.current_stream(device).wait_event(arrival[0]))

    def repeat(self) -> None:
        """Do it all.

        It writes the arrays of the last time again. Those who read them then have done so: a loss needs every device's
        forward pass, a backward pass the loss, and a device does one after the other.
        """
        for action in self._actions:
            action()

    def cut(self) -> None:
        """Close the open graph: what follows is not part of it."""
        self._open.close()
        self._device = None
