"""``refnet summary``: a network in one table."""

import argparse
import json
import sys

from rich.console import Console

from refnet.nets import NetSpec
from refnet.nets.summary import summarise
from refnet.pictures import summary as text


def run(arguments: argparse.Namespace) -> int:
    """Print the summary."""
    net = NetSpec(arguments.net, outputs=arguments.outputs).net()
    summary = summarise(net, arguments.columns, arguments.batch)
    if arguments.json:
        print(json.dumps(summary.as_dict()))
        return 0
    console = Console(width=None if sys.stdout.isatty() else text.WIDTH, highlight=False)
    text.show(summary, console)
    return 0
