"""``refnet compare``: check backends against the NumPy reference."""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from refnet.backend.loading import load
from refnet.errors import ConfigError
from refnet.machine.compiling import noted
from refnet.nets import NetSpec, get
from refnet.terminal import progress

if TYPE_CHECKING:
    from refnet.testing.compare import Comparison

WIDTH = 120
BREACH = 1  # the exit code


def run(arguments: argparse.Namespace) -> int:
    """Compare, print the table, and tell by the exit code whether there was a breach."""
    net = get(arguments.net)
    columns = arguments.columns
    backends = [load(name, columns=columns) for name in arguments.backends]
    if not find_spec("hypothesis"):
        raise ConfigError(
            "refnet compare needs the package hypothesis, which is not installed; pip install 'refnet[testing]'"
        )
    from refnet.testing.compare import compare_layers, compare_ops  # noqa: PLC0415 - they need hypothesis

    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    with noted(show, *backends):
        rows = compare_ops(backends, arguments.examples, show)
        rows += compare_layers(NetSpec(net.name, columns=columns), arguments.batch, backends, show)
    breached = any(row.breaches for row in rows)
    if arguments.json:
        settings = {"net": net.name, "columns": columns, "batch": arguments.batch, "examples": arguments.examples}
        print(json.dumps({**settings, "agree": not breached, "rows": [row.as_dict() for row in rows]}))
    else:
        _print(rows, [backend.name for backend in backends], f"{net.name}, batch {arguments.batch}")
    return BREACH if breached else 0


def _print(rows: Sequence["Comparison"], backends: Sequence[str], title: str) -> None:
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, soft_wrap=True)
    for part, what in (("op", "ops, on drawn calls"), ("layer", f"layers of {title}")):
        table = Table(title=f"{what}: largest error over its bound", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in (part, "function"):
            table.add_column(heading, no_wrap=True)
        for name in backends:
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            if row.part == part:
                table.add_row(row.name, row.function, *(_worst(row, name) for name in backends))
        console.print(table)
    breaches = [(name, message) for row in rows for name, message in row.breaches.items()]
    for _, message in breaches:
        console.print(f"breach: {message}", markup=False)
    console.print(f"{len(breaches)} breaches" if breaches else "All backends agree with the NumPy reference.")


def _worst(row: "Comparison", name: str) -> str:
    """Write a share of the bound; an op without one is exact or a breach."""
    worst = f"{row.worst[name]:.3f}" if row.worst[name] else "exact"
    return f"{worst} BREACH" if name in row.breaches else worst
