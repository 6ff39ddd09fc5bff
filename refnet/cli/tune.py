"""``refnet tune``: choose the fastest kernel configurations for this machine."""

import argparse
import sys
from typing import Any, cast

import numpy as np

from refnet.backend.capabilities import Tuning
from refnet.backend.loading import load
from refnet.errors import ConfigError
from refnet.nets import NetSpec
from refnet.network import passes
from refnet.terminal import progress
from refnet.terminal.spelling import setting
from refnet.training.step import begin


def run(arguments: argparse.Namespace) -> int:
    """Time training steps with one configuration after another, and save the fastest."""
    show = progress.on(sys.stdout)
    spec = NetSpec(arguments.net)
    net = spec.net()
    backend: Any = load(
        arguments.backend,
        columns=spec.columns,
        devices=arguments.devices,
        checked=False,
        precision=arguments.precision,
    )
    tunable: object = backend
    if not isinstance(tunable, Tuning):
        raise ConfigError(f"backend {arguments.backend} has nothing to tune; use {setting('backend', 'triton')}")
    training = begin(spec.plan(), backend)
    rng = np.random.default_rng(0)
    pixels = rng.uniform(-120, 135, (arguments.batch, *net.input_shape)).astype(np.float32)
    images = passes.place(training.plan, pixels, backend)
    labels = rng.integers(0, net.outputs, arguments.batch)
    # At a learning rate of zero the parameters do not change, however many steps are timed.
    path = tunable.tune(lambda: cast("None", training.take(images, labels, 0.0, 1)), show.say)
    show.say(f"written to {path}, which is used from now on; delete it to use the table of this version again")
    return 0
