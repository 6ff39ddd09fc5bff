"""``refnet warmup``: have everything compiled, so that training starts at once."""

import argparse
import json
import sys

from refnet.cli import names
from refnet.nets import NETS, NetSpec, get
from refnet.terminal import progress
from refnet.training.warmup import Warmth, warm_up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--net", metavar="NET,...", help=f"for these nets alone (default: {','.join(NETS)})")
    parser.add_argument("--backend", default="auto", metavar="NAME", help="the backend to warm up (default: auto)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Warm up, and say what that gave."""
    specs = [NetSpec(name, columns=get(name).columns) for name in names("--net", arguments.net) or NETS]
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
