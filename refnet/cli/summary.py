"""``refnet summary``: a network in one table."""

import argparse
import json
import sys

from rich.console import Console

from refnet.cli import within
from refnet.nets import NETS, get
from refnet.nets.summary import summarise
from refnet.pictures import summary as text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "net", nargs="?", default="paper", metavar="NET", help=f"one of {', '.join(NETS)} (default: paper)"
    )
    parser.add_argument("--columns", type=int, help="how many columns to split it into (default: the net's recipe)")
    parser.add_argument("--batch", type=int, default=128, help="images that memory and crossings are counted for")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with every layer and column")


def run(arguments: argparse.Namespace) -> int:
    """Print the summary."""
    net = get(arguments.net)
    columns = net.recipe["columns"] if arguments.columns is None else arguments.columns
    within("--columns", columns, 1, 2)
    within("--batch", arguments.batch, 1)
    summary = summarise(net, columns, arguments.batch)
    if arguments.json:
        print(json.dumps(summary.as_dict()))
        return 0
    console = Console(width=None if sys.stdout.isatty() else text.WIDTH, highlight=False)
    text.show(summary, console)
    return 0
