"""``refnet summary``: print a network as one table."""

import argparse
import json

from refnet.nets import NetSpec
from refnet.nets.summary import summarise
from refnet.pictures import summary as text
from refnet.terminal.tables import stdout


def run(arguments: argparse.Namespace) -> int:
    """Print the summary."""
    net = NetSpec(arguments.net, outputs=arguments.outputs).net()
    summary = summarise(net, arguments.columns, arguments.batch)
    if arguments.json:
        print(json.dumps(summary.as_dict()))
        return 0
    text.show(summary, stdout())
    return 0
