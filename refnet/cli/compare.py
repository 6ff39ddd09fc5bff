"""``refnet compare``: check backends against the NumPy reference."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from refnet.backend.capabilities import Precision
from refnet.backend.interface import Backend
from refnet.backend.loading import load
from refnet.backend.wrapped import unwrapped
from refnet.errors import ConfigError
from refnet.machine.compiling import noted
from refnet.nets import NetSpec, get
from refnet.terminal import progress, tables
from refnet.terminal.wrapping import print_lines

if TYPE_CHECKING:
    from refnet.testing.compare import Comparison

BREACH_CODE = 1  # exit code


def run(arguments: argparse.Namespace) -> int:
    """Compare, print the tables, and return exit code 1 if there was a breach."""
    net = get(arguments.net)
    labelled = {columns: dict(_labelled(arguments, columns)) for columns in arguments.columns}
    if not find_spec("hypothesis"):
        raise ConfigError(
            "refnet compare needs the package hypothesis, which is not installed; pip install 'refnet[testing]'"
        )
    from refnet.testing.compare import compare_layers, compare_ops  # noqa: PLC0415 - they need hypothesis

    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    first, *_ = labelled.values()
    with noted(show, *first.values()):
        rows = compare_ops(first, arguments.examples, show)
        for columns, backends in labelled.items():
            rows += compare_layers(NetSpec(net.name, columns=columns), arguments.batch, backends, show)
    breached = any(row.breaches for row in rows)
    if arguments.json:
        settings = {"net": net.name, "columns": arguments.columns, "batch": arguments.batch}
        rows_ = [row.as_dict() for row in rows]
        print(json.dumps({**settings, "examples": arguments.examples, "agree": not breached, "rows": rows_}))
    else:
        _print(rows, list(first), f"{net.name}, batch {arguments.batch}")
    return BREACH_CODE if breached else 0


def _labelled(arguments: argparse.Namespace, columns: int) -> Iterator[tuple[str, Backend]]:
    """Load each backend, once for each precision where it has several, and yield it with the heading of its errors."""
    for name in arguments.backends:
        backend = load(name, columns=columns, checked=False)
        if not arguments.precision or not isinstance(unwrapped(backend), Precision):
            yield name, backend
            continue
        for precision in arguments.precision:
            yield f"{name} {precision}", load(name, columns=columns, precision=precision, checked=False)


def _print(rows: Sequence["Comparison"], labels: Sequence[str], title: str) -> None:
    console = tables.stdout()
    for (part, columns), group in groupby(rows, key=lambda row: (row.part, row.columns)):
        what = "ops, on drawn calls" if part == "op" else f"layers of {title}, {columns} column{'s' * (columns != 1)}"
        table = Table(title=f"{what}: largest error over its bound", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in (part, "function"):
            table.add_column(heading, no_wrap=True)
        for label in labels:
            table.add_column(label, justify="right", no_wrap=True)
        for row in group:
            table.add_row(row.name, row.function, *(_worst(row, label) for label in labels))
        tables.print_table(table, console)
    breaches = [(label, message) for row in rows for label, message in row.breaches.items()]
    for label, message in breaches:
        print_lines([f"breach: {label}: {message}" if label not in message else f"breach: {message}"])
    print_lines([f"{len(breaches)} breaches" if breaches else "All backends agree with the NumPy reference."])


def _worst(row: "Comparison", name: str) -> str:
    """Format an error divided by its bound; 0 is "exact"."""
    worst = f"{row.worst[name]:.3f}" if row.worst[name] else "exact"
    return f"{worst} BREACH" if name in row.breaches else worst
