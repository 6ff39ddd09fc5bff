"""``refnet tune``: fit a backend's kernels to the machine at hand."""

import argparse
import sys
from typing import Any, cast

import numpy as np

from refnet.backend.loading import load
from refnet.backend.powers import Tuning
from refnet.cli import within
from refnet.errors import ConfigError
from refnet.nets import NetSpec
from refnet.network import passes
from refnet.terminal import progress
from refnet.training.step import begin


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--backend", default="triton", help="whose kernels (default: triton)")
    parser.add_argument("--devices", default="", help="the device to tune for (default: the backend's choice)")
    parser.add_argument("--precision", help="ieee, tf32x3 or tf32 (default: the backend's choice)")
    parser.add_argument("--net", default="paper", help="the network whose training step is timed (default: paper)")
    parser.add_argument("--batch", type=int, default=128, help="images in a step (default: 128)")


def run(arguments: argparse.Namespace) -> int:
    """Time training steps with one configuration after the other, and write down the best."""
    within("--batch", arguments.batch, 1)
    show = progress.on(sys.stdout)
    spec = NetSpec(arguments.net)
    net = spec.net()
    devices = tuple(arguments.devices.split(",")) if arguments.devices else ()
    backend: Any = load(arguments.backend, columns=spec.columns, devices=devices, precision=arguments.precision)
    tunable: object = backend
    if not isinstance(tunable, Tuning):
        raise ConfigError(f"backend {arguments.backend} has nothing to tune; --backend triton has")
    training = begin(spec.plan(), backend)
    rng = np.random.default_rng(0)
    drawn = rng.uniform(-120, 135, (arguments.batch, *net.input_shape)).astype(np.float32)
    images = passes.place(training.plan, drawn, backend)
    labels = rng.integers(0, net.outputs, arguments.batch)
    # At a rate of zero the parameters stay as they are, however many steps are timed.
    path = tunable.tune(lambda: cast("None", training.take(images, labels, 0.0, 1)), show.say)
    show.say(f"written to {path}, which is read from now on; delete it to go back to the table of this version")
    return 0
