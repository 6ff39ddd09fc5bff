"""``refnet plot``: pictures of runs."""

import argparse
import sys
from pathlib import Path

from refnet.cli import _common
from refnet.pictures.plot import KINDS, plot
from refnet.terminal import progress
from refnet.terminal.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("kind", choices=KINDS, help="what to draw")
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="a run's folder; several are drawn in one picture"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="a .png or .svg file (default: KIND.png)")
    parser.add_argument("--image", type=int, default=0, help="activations: of which test image (default: 0)")
    parser.add_argument(
        "--backend", default="auto", help="the code that looks at images; a name of a backend (default: auto)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw, and say where the picture is."""
    output = arguments.output or Path(f"{arguments.kind}.png")
    _common.refuse_unwritable(output)
    show = progress.on(sys.stderr)
    plot(arguments.kind, arguments.runs, output, show, backend=arguments.backend, image=arguments.image)
    print(printable(output))
    return 0
