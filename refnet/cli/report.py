"""``refnet report``: write a run as one page of HTML."""

import argparse
import sys

from refnet import files
from refnet.cli import _common
from refnet.pictures.write import report
from refnet.terminal import progress
from refnet.terminal.printable import printable


def run(arguments: argparse.Namespace) -> int:
    """Write the page, which loads no other file, and print its path."""
    where = arguments.output or arguments.run / "report.html"
    if arguments.output or arguments.run.is_dir():
        _common.refuse_unwritable(where)
    show, reading = progress.on(sys.stderr), _common.reading(arguments)
    page = report(arguments.run, show, arguments.backend, data=arguments.data, reading=reading)
    files.replace(where, page.encode())
    print(printable(where))
    return 0
