"""A training step as two CUDA graphs: the launches of each half are recorded once and then repeated as one.

The trainer looks at the loss between the halves, so that a step whose loss is not finite changes nothing. A graph
repeats its launches with the arguments of its recording, so its inputs stand at fixed places, and what changes from
step to step stands in memory (:mod:`._scalars`). Its kernels are those of the eager path, in the same order: the same
bits.
"""

from collections.abc import Callable, Sequence
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
    """

    def __init__(self, forward: Forward, backward: Backward) -> None:
        self._eager = forward, backward
        self._shape: torch.Size | None = None
        self._inputs: list[Tensor] = []
        self._graphs: list[torch.cuda.CUDAGraph] = []
        self._output: tuple[Tensor, Any] | None = None

    def forward(self, images: Sequence[Tensor], labels: Tensor, step: int) -> tuple[Tensor, Any]:
        """Run or repeat the first half."""
        if images[0].shape != self._shape:
            self._shape = self._shape or images[0].shape
            return self._eager[0](images, labels, step)
        _scalars.set_step(step)
        if not self._inputs:
            self._inputs = [_memory.empty(tuple(a.shape), a.dtype, a.device) for a in (*images, labels)]
        for place, a in zip(self._inputs, (*images, labels), strict=True):
            place.copy_(a)
        if self._output is None:
            self._graphs = [torch.cuda.CUDAGraph()]
            with torch.cuda.graph(self._graphs[0]):
                self._output = self._eager[0](self._inputs[:-1], self._inputs[-1], step)
        self._graphs[0].replay()
        return self._output[0], self

    def backward(self, kept: Any, lr: float) -> None:
        """Run or repeat the second half, after the first."""
        if kept is not self:
            self._eager[1](kept, lr)
            return
        _scalars.set_lr(lr)
        if len(self._graphs) == 1:
            assert self._output
            self._graphs.append(torch.cuda.CUDAGraph())
            with torch.cuda.graph(self._graphs[1], pool=self._graphs[0].pool()):
                self._eager[1](self._output[1], lr)
        self._graphs[1].replay()
