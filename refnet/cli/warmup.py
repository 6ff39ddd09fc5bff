"""``refnet warmup``: have everything compiled, so that training starts at once."""

import argparse
import json
import sys

from refnet.nets import NETS, NetSpec, get
from refnet.terminal import progress
from refnet.training.warmup import Warmth, warm_up


def run(arguments: argparse.Namespace) -> int:
    """Warm up, and say what that gave."""
    specs = [NetSpec(name, columns=get(name).columns) for name in arguments.net or NETS]
    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    warmth = warm_up(arguments.backend, specs, show)
    if arguments.json:
        print(json.dumps(warmth.as_dict()))
    else:
        print(_told(warmth))
    return 0


def _told(warmth: Warmth) -> str:
    took = f"backend {warmth.backend}, {warmth.seconds:.1f} s"
    if not warmth.keeps:
        return f"{took}: it keeps no machine code, so there is nothing to warm up"
    if warmth.directory is None:
        return (
            f"{took}: no cache can be used, so every start compiles anew; "
            "set XDG_CACHE_HOME to a directory of your own that nobody else may write to"
        )
    return f"{took}: {warmth.compiled} functions compiled; {warmth.held} are kept in {warmth.directory}"
