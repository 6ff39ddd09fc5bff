"""Time a training step of the paper's network in two columns on a GPU, and the same step in PyTorch with cuDNN.

All contenders are in one process and take turns, round after round. A step starts with images on the GPU and ends when
the parameters are updated. ``--precision`` applies to all: tf32, or ieee, which PyTorch calls float32. PyTorch also
runs in its fastest forms: compiled and recorded as CUDA graphs, with channels last, and with the convolutions of the
two columns apart. Its step in bf16 is shown, but not compared, because it is less accurate. It is run by
``gpu_machine.py``, or by itself::

    python benchmarks/gpu_step.py --batch 128 --precision tf32
"""

import argparse
import json
from dataclasses import dataclass

import torch
from torch.nn import functional

from refnet import backend as backends
from refnet.bench.timing import in_rounds
from refnet.bench.torch_peer import LAYOUTS, Peer
from refnet.errors import end
from refnet.machine import environment
from refnet.nets import NetSpec
from refnet.network import passes
from refnet.network.initial import initialise
from refnet.network.walk import images_of, labels_of
from refnet.training.step import StepSettings, begin

GOAL_RATIO = 1.0  # times as fast as the best of PyTorch, in tf32


def refnet_step(spec, batch, backend, *, graph):
    """Return a step of refnet as a function that returns when the step has finished."""
    plan = spec.plan()
    forward, finish = begin(plan, backend, StepSettings(graph=graph)).halves
    images, labels = passes.place(plan, images_of(plan, batch), backend), backend.asarray(labels_of(plan, batch))

    def step():
        loss, kept = forward(images, labels, 1)
        backend.to_numpy(loss)  # as the trainer does, who looks at it
        finish(kept, 0.01)
        backend.synchronize()

    return step


@dataclass(frozen=True)
class Variant:
    """A way in which PyTorch takes the step.

    Attributes
    ----------
    mode
        That of ``torch.compile``, or None for eager; "reduce-overhead" records CUDA graphs, as refnet does.
    grouped
        Whether a convolution of two columns is one with two groups, or two.
    bf16
        Whether autocast computes products in bf16, which is less accurate than tf32: a row of its own.
    """

    layout: str
    mode: str | None = None
    grouped: bool = True
    bf16: bool = False

    def __str__(self):
        kind = {None: "eager", "default": "compiled", "reduce-overhead": "compiled and recorded"}[self.mode]
        apart = "" if self.grouped else ", convolutions apart"
        return f"PyTorch{' in bf16' if self.bf16 else ''}, {kind}, {self.layout}{apart}"


VARIANTS = (
    Variant("nchw"),
    Variant("nhwc"),
    Variant("nchw", "default"),
    Variant("nhwc", "default"),
    Variant("nhwc", "default", grouped=False),
    Variant("nchw", "reduce-overhead", grouped=False),
    Variant("nhwc", "reduce-overhead"),
    Variant("nhwc", "reduce-overhead", grouped=False),
    Variant("nhwc", "reduce-overhead", grouped=False, bf16=True),
)


def torch_step(spec, batch, device, variant):
    """Return a step of PyTorch as such a function."""
    plan, layout = spec.plan(fused=False), LAYOUTS[variant.layout]
    peer = Peer(spec.net(), plan, initialise(plan, 0), grouped=variant.grouped).to(device, memory_format=layout)
    forward = torch.compile(peer, mode=variant.mode) if variant.mode else peer
    optimiser = torch.optim.SGD(peer.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    x = torch.from_numpy(images_of(plan, batch)).to(device, memory_format=layout)
    labels = torch.from_numpy(labels_of(plan, batch)).to(device)
    autocast = torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=variant.bf16)

    def step():
        optimiser.zero_grad(set_to_none=True)
        with autocast:
            loss = functional.cross_entropy(forward(x), labels)
        loss.backward()
        optimiser.step()
        if device != "cpu":
            torch.cuda.synchronize()

    return step


def contenders(spec, batch, backend, device):
    """Return the steps to time, by name; PyTorch's start with its name. On a CPU none is recorded or compiled."""
    on_cpu = device == "cpu"
    steps = {
        f"refnet, {'recorded' if graph else 'eager'}": refnet_step(spec, batch, backend, graph=graph)
        for graph in ((False,) if on_cpu else (False, True))
    }
    variants = [variant for variant in VARIANTS if not (on_cpu and variant.mode)]
    return steps | {str(variant): torch_step(spec, batch, device, variant) for variant in variants}


def show(timings, options, card):
    """Print the table and the ratio."""
    batch, precision = options.batch, options.precision
    print(f"training step of {options.net}, batch {batch}, {precision}, on {card}\n")
    print("| contender | minimum, ms | median, ms | images/s |\n|---|---|---|---|")
    for name, timing in sorted(timings.items(), key=lambda item: item[1].minimum):
        print(f"| {name} | {timing.minimum * 1e3:.2f} | {timing.median * 1e3:.2f} | {batch / timing.minimum:,.0f} |")
    best = {side: min((t.minimum, name) for name, t in timings.items() if name.startswith(f"{side},"))
            for side in ("refnet", "PyTorch")}  # fmt: skip
    (seconds, name), (torch_seconds, torch_name) = best.values()
    print(f"\n{name}: {torch_seconds / seconds:.2f} times as fast as {torch_name}", end="")
    print(f" (goal: at least {GOAL_RATIO})\n" if precision == "tf32" else "\n", flush=True)


def main(arguments=None):
    """Time the steps and print the result; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128, help="images of a step (default: 128)")
    parser.add_argument("--rounds", type=int, default=20, help="how often each is timed (default: 20)")
    parser.add_argument("--precision", choices=["tf32", "ieee"], default="tf32", help="of products (default: tf32)")
    parser.add_argument("--net", default="paper", help="the network (default: paper)")
    parser.add_argument("--device", default="cuda:0", help="the GPU, or cpu to try this program (default: cuda:0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    tf32 = options.precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    backend = backends.load("triton", columns=2, devices=[options.device], precision=options.precision)
    timings = in_rounds(contenders(NetSpec(options.net), options.batch, backend, options.device), options.rounds)
    card = "a CPU" if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    if options.json:
        seconds = {name: timing.as_dict() for name, timing in timings.items()}
        print(json.dumps({**vars(options), "card": card, "seconds": seconds, "environment": environment.describe()}))
    else:
        show(timings, options, card)
    return 0


if __name__ == "__main__":
    end("gpu_step", main)
