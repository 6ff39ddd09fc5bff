"""``refnet summary``: a network in one table."""

import argparse
import json
import sys
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

from refnet.cli import within
from refnet.nets import NETS, get
from refnet.nets.summary import Summary, reads_in_words, summarise

WIDTH = 120  # of a table that does not go to a terminal


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
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(_table(summary))
    for line in _totals(summary):
        console.print(line)
    return 0


def _table(summary: Summary) -> Table:
    table = Table(
        title=f"{summary.net}: {summary.columns} column{'s' if summary.columns > 1 else ''}, batch {summary.batch}",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("layer", "reads"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        "each column reads",
        "each column makes",
        "parameters",
        "MMAC/image",
        "activations",
        "crosses, each way",
    ):
        table.add_column(heading, justify="right")
    one_way = {crossing.into: crossing.nbytes for crossing in summary.crossings}
    for name, group in groupby(summary.rows, lambda row: row.layer):
        rows = list(group)
        parameters, macs = sum(row.parameters for row in rows), sum(row.macs for row in rows)
        table.add_row(
            name,
            reads_in_words(rows[0]),
            _shape(rows[0].input_shape),
            f"{len(rows)} x {_shape(rows[0].output_shape)}" if summary.columns > 1 else _shape(rows[0].output_shape),
            f"{parameters:,}" if parameters else "",
            _millions(macs) if macs else "",
            _megabytes(sum(row.activation_bytes for row in rows)),
            _megabytes(one_way[name]) if name in one_way else "",
        )
    return table


def _totals(summary: Summary) -> list[str]:
    parameters, macs = summary.total("parameters"), summary.total("macs")
    activations = _megabytes(summary.total("activation_bytes"))
    lines = [
        f"{'total':16} {parameters:>12,} parameters  {_millions(macs):>8} MMAC/image  {activations} of activations"
    ]
    for words, op in (("convolutional", "conv2d"), ("fully connected", "linear")):
        mine, work = summary.total("parameters", op), summary.total("macs", op)
        lines.append(
            f"{words:16} {mine:>12,} parameters  {_millions(work):>8} MMAC/image  "
            f"({mine / parameters:.1%} of the parameters, {work / macs:.1%} of the multiply-adds)"
        )
    if summary.crossings:
        forward = _megabytes(sum(crossing.nbytes for crossing in summary.crossings))
        lines += [
            "",
            f"Between the columns {forward} travel forward in a step of {summary.batch} images, and as many",
            "travel back as gradients; weights never do:",
        ]
        lines += [
            f"  {crossing.of:10} -> {f'{crossing.into}@{crossing.target}':10} {_megabytes(crossing.nbytes):>10}"
            for crossing in summary.crossings
        ]
    return lines


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f}" if count >= 1e6 else f"{count / 1e6:.3f}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in shape)


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.2f} MB"
