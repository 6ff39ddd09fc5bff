"""The summary of a network as text: a table of its layers, and its totals."""

from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

from refnet.nets.summary import Summary, reads_in_words
from refnet.terminal.printable import dimensions
from refnet.terminal.tables import FILE_WIDTH, print_table
from refnet.terminal.wrapping import wrapped


def text(summary: Summary) -> str:
    """Return the table and the totals as lines of plain text."""
    console = Console(width=FILE_WIDTH, highlight=False, color_system=None, force_jupyter=False)
    with console.capture() as capture:
        show(summary, console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def show(summary: Summary, console: Console) -> None:
    """Print the table and the totals."""
    print_table(_table(summary), console)
    for line in _totals(summary):
        console.print(wrapped(line, console.width), soft_wrap=True)


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
            dimensions(rows[0].input_shape),
            f"{len(rows)} x {dimensions(rows[0].output_shape)}"
            if summary.columns > 1
            else dimensions(rows[0].output_shape),
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
            f"In a step of {summary.batch} images the columns exchange {forward} of activations forward,",
            "and as many bytes of gradients backward. Weights are never exchanged:",
        ]
        lines += [
            f"  {crossing.of:10} -> {f'{crossing.into}@{crossing.target}':10} {_megabytes(crossing.nbytes):>10}"
            for crossing in summary.crossings
        ]
    return lines


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f}" if count >= 1e6 else f"{count / 1e6:.3f}"


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.2f} MB"
