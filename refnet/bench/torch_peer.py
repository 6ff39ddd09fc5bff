"""The same networks and layers in PyTorch, to compare speed with. Imported only if PyTorch is installed.

Columns are groups of channels. A convolution that reads its own column is a grouped convolution; one that reads all
columns is not. Local response normalisation stays within each column's channels.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from refnet.bench.timing import Work
from refnet.errors import BackendUnavailableError
from refnet.nets import Net
from refnet.network.initial import initialise
from refnet.network.plan import IMAGE, Plan
from refnet.network.walk import SGD_OPTIONS, Visit, images_of, labels_of
from refnet.ops._rules import overhang
from refnet.terminal.spelling import setting

LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}

Tensor = torch.Tensor
Options = Mapping[str, Any]


def _conv2d(x: Tensor, w: Tensor, b: Tensor, groups: int, *, stride: int, pad: int, ceil: bool = False) -> Tensor:
    if ceil:
        x = functional.pad(x, _missing(x, w.shape[2], stride, pad))
    return functional.conv2d(x, w, b, stride, pad, groups=groups)


def _conv2d_apart(x: Tensor, w: Tensor, b: Tensor, groups: int, **options: Any) -> Tensor:
    """Return the same as `_conv2d`, from a convolution of its own for each group."""
    parts = zip(x.chunk(groups, dim=1), w.chunk(groups), b.chunk(groups), strict=True)
    return torch.cat([_conv2d(*part, 1, **options) for part in parts], dim=1)


def _missing(x: Tensor, window: int, stride: int, pad: int) -> tuple[int, int, int, int]:
    """Return the padding that lets PyTorch, which rounds sizes down, include windows that extend beyond the edge."""
    right, bottom = (
        overhang(n, window, stride, pad, 1 - (window - n - 2 * pad) // stride) for n in (x.shape[3], x.shape[2])
    )
    return (0, right, 0, bottom)


def _linear(x: Tensor, w: Tensor, b: Tensor, _: int) -> Tensor:
    return functional.linear(x.flatten(1), w, b)


def _lrn(x: Tensor, groups: int, *, n: int, k: float, alpha: float, beta: float) -> Tensor:
    # PyTorch divides alpha by the window's length.
    parts = [functional.local_response_norm(part, n, alpha * n, beta, k) for part in x.chunk(groups, dim=1)]
    return parts[0] if groups == 1 else torch.cat(parts, dim=1)


def _rnorm(x: Tensor, _: int, *, n: int, k: float, alpha: float, beta: float) -> Tensor:
    # PyTorch has no such layer; a mean divided by 1 is a sum.
    squares = functional.avg_pool2d(x * x, n, stride=1, padding=n // 2, divisor_override=1)
    return x * (k + alpha * squares) ** -beta


def _dropout(x: Tensor, _: int, *, drop: float) -> Tensor:
    return functional.dropout(x, drop)


def _maxpool(x: Tensor, _: int, *, size: int, stride: int, ceil: bool = False) -> Tensor:
    return functional.max_pool2d(x, size, stride, ceil_mode=ceil)


def _avgpool(x: Tensor, _: int, *, size: int, stride: int, ceil: bool = False) -> Tensor:
    return functional.avg_pool2d(x, size, stride, ceil_mode=ceil)


OPS: Mapping[str, Callable[..., Tensor]] = {
    "conv2d": _conv2d,
    "relu": lambda x, _: functional.relu(x),
    "conv2d_relu": lambda *args, **options: functional.relu(_conv2d(*args, **options)),
    "tanh": lambda x, _: torch.tanh(x),
    "lrn": _lrn,
    "rnorm": _rnorm,
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "linear": _linear,
    "linear_relu": lambda *args: functional.relu(_linear(*args)),
    "dropout": _dropout,
}


class Peer(nn.Module):
    """A whole network.

    Parameters
    ----------
    params
        The parameters of refnet's network, by name.
    grouped
        Whether a convolution of two columns is one with groups, which some compilers run slowly, or two.

    Raises
    ------
    BackendUnavailableError
        It has a layer that has no PyTorch equivalent here.
    """

    def __init__(self, net: Net, plan: Plan, params: Mapping[str, npt.NDArray[Any]], *, grouped: bool = True) -> None:
        super().__init__()
        apart: Mapping[str, Callable[..., Tensor]] = {"conv2d": _conv2d_apart}
        self._ops = OPS if grouped else {**OPS, **apart}
        self._layers: list[tuple[str, list[str], int, Options]] = []
        for layer in net.layers:
            nodes = [node for node in plan.nodes if node.layer == layer]
            reads_all = layer.reads == "all" or nodes[0].inputs == (IMAGE,)
            groups = 1 if reads_all else len(nodes)
            if layer.op not in OPS or (groups > 1 and layer.op.startswith("linear")):
                raise BackendUnavailableError(
                    f"{layer.op} in {groups} columns has no PyTorch version here; choose other {setting('contenders')}"
                )
            names = [f"{layer.name}_{letter}" for letter in nodes[0].params]
            for name, letter in zip(names, nodes[0].params, strict=True):
                whole = np.concatenate([params[f"{node.name}.{letter}"] for node in nodes])
                self.register_parameter(name, nn.Parameter(torch.from_numpy(whole)))
            self._layers.append((layer.op, names, groups, dict(layer.options)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores (N,K) of images (N,C,H,W)."""
        for op, names, groups, options in self._layers:
            if op == "dropout" and not self.training:
                x = x * (1 - options["drop"])  # as in the paper; PyTorch's dropout scales in training instead
            else:
                x = self._ops[op](x, *(getattr(self, name) for name in names), groups, **options)
        return x


class WholeNet:
    """A PyTorch network in training and in testing; see :class:`refnet.bench.contender.Contender`."""

    def __init__(self, net: Net, columns: int, batch: int, threads: int, *, layout: str, compiled: bool) -> None:
        torch.set_num_threads(threads)
        plan = net.plan(columns)
        self._peer = Peer(net, plan, initialise(plan, seed=0))
        for parameter in self._peer.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=LAYOUTS[layout])
        self._run = torch.compile(self._peer) if compiled else self._peer
        self._optimiser = _optimiser(self._peer.parameters())
        self._x = torch.from_numpy(images_of(plan, batch)).contiguous(memory_format=LAYOUTS[layout])
        self._labels = torch.from_numpy(labels_of(plan, batch))

    def train(self) -> None:
        """Take a training step."""
        self._peer.train()
        self._optimiser.zero_grad(set_to_none=True)
        loss: Any = functional.cross_entropy(self._run(self._x), self._labels)
        loss.backward()
        self._optimiser.step()

    def forward(self) -> npt.NDArray[np.float32]:
        """Return the scores (N,K) of a test pass."""
        self._peer.eval()
        with torch.inference_mode():
            scores: npt.NDArray[np.float32] = self._run(self._x).numpy()
        return scores


class TorchLayers:
    """PyTorch as a contender, layer by layer; see :class:`refnet.bench.ops.LayerContender`."""

    name = "torch-eager"

    def __init__(self, threads: int, layout: str) -> None:
        torch.set_num_threads(threads)
        self._layout = LAYOUTS[layout]

    def layer(self, visit: Visit) -> dict[str, Work]:
        """Return the functions of a layer by direction; empty for a layer that has no PyTorch equivalent here."""
        node = visit.node
        if node.layer.op not in OPS:
            return {}
        x, *params = (self._tensor(a).requires_grad_() for a in (*visit.inputs, *visit.params.values()))
        dy = self._tensor(visit.dy)

        def forward() -> Tensor:
            return OPS[node.layer.op](x, *params, 1, **node.layer.options)

        y = forward()
        wanted = params if node.inputs == (IMAGE,) else [x, *params]
        works: dict[str, Work] = {"forward": forward, "backward": lambda: _gradients(y, wanted, dy)}
        if params:
            works["weight gradient"] = lambda: _gradients(y, params, dy)
        return works

    def loss(self, z: npt.NDArray[Any], labels: npt.NDArray[Any]) -> dict[str, Work]:
        """Return the functions of the loss."""
        scores, correct = torch.from_numpy(z).requires_grad_(), torch.from_numpy(labels)
        loss = functional.cross_entropy(scores, correct)
        return {
            "forward": lambda: functional.cross_entropy(scores, correct),
            "backward": lambda: _gradients(loss, [scores], torch.ones(())),
        }

    def update(self, params: Mapping[str, npt.NDArray[Any]]) -> dict[str, Work]:
        """Return the function that updates all parameters."""
        tensors = [nn.Parameter(self._tensor(a)) for a in params.values()]
        for tensor in tensors:
            tensor.grad = torch.ones_like(tensor)
        return {"update": _optimiser(tensors).step}

    def _tensor(self, a: npt.NDArray[Any]) -> Tensor:
        tensor = torch.tensor(a)
        return tensor.contiguous(memory_format=self._layout) if tensor.ndim == 4 else tensor


def _gradients(y: Tensor, inputs: Sequence[Tensor], dy: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y, inputs, dy, retain_graph=True)


def _optimiser(params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, **SGD_OPTIONS, fused=True)
