"""A whole training step of the paper's network in two columns, and the same step in PyTorch, in the same run."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from refnet import environment, nets
from refnet.config import Config
from refnet.fuse import fuse
from refnet.train import begin, train_step

PLAN = fuse(nets.get("paper").plan(2))


def batch_of(request):
    size = request.config.getoption("--batch")
    rng = np.random.default_rng(0)
    return rng.uniform(-120, 135, (size, *PLAN.input_shape)).astype(np.float32), rng.integers(0, 1000, size)


class Peer(nn.Module):
    """The same network in PyTorch: grouped convolutions, and normalisation within each half of the channels."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.fc6, self.fc7, self.fc8 = nn.Linear(9216, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 1000)
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.normal_(parameter, std=0.01)

    def forward(self, x):
        x = self.pool(self.norm(functional.relu(self.conv1(functional.pad(x, (0, 3, 0, 3))))))
        x = self.pool(self.norm(functional.relu(self.conv2(x))))
        x = functional.relu(self.conv5(functional.relu(self.conv4(functional.relu(self.conv3(x))))))
        x = self.pool(x).flatten(1)
        return self.fc8(functional.dropout(functional.relu(self.fc7(functional.dropout(functional.relu(self.fc6(x)))))))

    @staticmethod
    def norm(x):
        halves = [functional.local_response_norm(half, 5, alpha=5e-4, beta=0.75, k=2.0) for half in x.chunk(2, dim=1)]
        return torch.cat(halves, dim=1)

    @staticmethod
    def pool(x):
        return functional.max_pool2d(x, 3, 2)


def record(benchmark, request):
    size = request.config.getoption("--batch")
    benchmark.group = f"training step of paper, batch {size}"
    benchmark.extra_info |= {
        "images_per_second": size / benchmark.stats["min"],
        "environment": environment.describe(),
        "torch_threads": torch.get_num_threads(),
    }


def test_step_refnet(benchmark, two_columns, request):
    images, labels = batch_of(request)
    config = Config(net="paper", columns=2)
    model = begin(PLAN, config, two_columns)

    def timed():
        train_step(model, images, labels, config, config.lr, 1)
        two_columns.synchronize()

    benchmark.pedantic(timed, rounds=3, iterations=1, warmup_rounds=1)
    record(benchmark, request)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile calls
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_step_torch(benchmark, layout, compiled, request):
    images, labels = batch_of(request)
    peer = Peer().to(memory_format=layout)
    forward = torch.compile(peer) if compiled else peer
    optimiser = torch.optim.SGD(peer.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    x, truth = torch.from_numpy(images).to(memory_format=layout), torch.from_numpy(labels)

    def timed():
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(forward(x), truth).backward()
        optimiser.step()

    benchmark.pedantic(timed, rounds=3, iterations=1, warmup_rounds=1)
    record(benchmark, request)
