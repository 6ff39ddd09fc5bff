"""``refnet warmup``: compile everything that training needs, so that it starts at once."""

import argparse
import json
import sys

from refnet.nets import NETS, NetSpec, get
from refnet.terminal import progress
from refnet.training.warmup import Warmth, warm_up


def run(arguments: argparse.Namespace) -> int:
    """Compile, and print how many functions were compiled and where they are cached."""
    specs = [NetSpec(name, columns=get(name).columns) for name in arguments.net or NETS]
    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    warmth = warm_up(arguments.backend, specs, show)
    if arguments.json:
        print(json.dumps(warmth.as_dict()))
    else:
        print(_sentence(warmth))
    return 0


def _sentence(warmth: Warmth) -> str:
    head = f"backend {warmth.backend}, {warmth.seconds:.1f} s"
    if not warmth.keeps:
        return f"{head}: it caches no machine code, so there is nothing to warm up"
    if warmth.directory is None:
        return (
            f"{head}: no cache can be used, so every start compiles again; "
            "set XDG_CACHE_HOME to a directory of your own that nobody else may write to"
        )
    return f"{head}: {warmth.compiled} functions compiled; {warmth.held} are cached in {warmth.directory}"
