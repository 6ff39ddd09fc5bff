"""``refnet plot``: draw runs as pictures."""

import argparse
import sys
from pathlib import Path

from refnet.cli import _common
from refnet.pictures.plot import plot
from refnet.terminal import progress
from refnet.terminal.printable import printable


def run(arguments: argparse.Namespace) -> int:
    """Draw, and print the path of the picture."""
    output = arguments.output or Path(f"{arguments.kind}.png")
    _common.refuse_unwritable(output)
    show = progress.on(sys.stderr)
    options = {"backend": arguments.backend, "image": arguments.image, "data": arguments.data}
    plot(arguments.kind, arguments.runs, output, show, reading=_common.reading(arguments), **options)
    print(printable(output))
    return 0
