"""On a GPU: a training step of the paper's network in two columns, and the same step in PyTorch with cuDNN.

A step begins with images that lie on the GPU and ends when the parameters are changed. ``--precision`` holds for both
contenders. Run by ``nox -s gpu``, not with the other benchmarks.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional

from refnet import environment, nets, network
from refnet.bench.torch_peer import Peer
from refnet.config import Config
from refnet.fuse import fuse
from refnet.initial import initialise
from refnet.model import begin

NET = nets.get("paper")
PLAN = fuse(NET.plan(2))


def batch_of(request):
    size = request.config.getoption("--batch")
    rng = np.random.default_rng(0)
    return rng.uniform(-120, 135, (size, *PLAN.input_shape)).astype(np.float32), rng.integers(0, 1000, size)


def record(benchmark, request):
    size = request.config.getoption("--batch")
    benchmark.group = f"training step of paper, batch {size}"
    benchmark.extra_info |= {
        "gpu": torch.cuda.get_device_name(),
        "precision": request.config.getoption("--precision"),
        "images_per_second": size / benchmark.stats["min"],
        "environment": environment.describe(),
    }


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_step_refnet(benchmark, two_columns, graph, request):
    images, labels = batch_of(request)
    config = Config(net="paper", columns=2, graph=graph)
    model = begin(PLAN, config, two_columns)
    forward, backward = model.halves
    there, truth = network.place(PLAN, images, two_columns), two_columns.asarray(labels)

    def timed():
        loss, kept = forward(there, truth, 1)
        two_columns.to_numpy(loss)  # as the trainer does, who looks at it
        backward(kept, config.lr)
        two_columns.synchronize()

    benchmark.pedantic(timed, rounds=20, iterations=1, warmup_rounds=2)  # the second is recorded
    record(benchmark, request)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile calls
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_step_torch(benchmark, layout, compiled, request):
    images, labels = batch_of(request)
    tf32 = request.config.getoption("--precision") == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    peer = Peer(NET, NET.plan(2), initialise(PLAN, 0)).to("cuda", memory_format=layout)
    forward = torch.compile(peer) if compiled else peer
    optimiser = torch.optim.SGD(peer.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    x, truth = torch.from_numpy(images).to("cuda", memory_format=layout), torch.from_numpy(labels).to("cuda")

    def timed():
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(forward(x), truth).backward()
        optimiser.step()
        torch.cuda.synchronize()

    benchmark.pedantic(timed, rounds=20, iterations=1, warmup_rounds=2)
    record(benchmark, request)
