"""``refnet runs``: list the runs in a folder, one line each."""

import argparse
import json
import sys
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from refnet.errors import ConfigError
from refnet.runs import inventory
from refnet.runs.inventory import RunSummary
from refnet.terminal.printable import printable
from refnet.terminal.spelling import with_flags
from refnet.terminal.streams import is_terminal
from refnet.terminal.tables import print_table, stdout


def run(arguments: argparse.Namespace) -> int:
    """Print the table. A run that cannot be read has a line of its own."""
    runs: dict[str, RunSummary | str] = {}
    for path in inventory.run_folders(arguments.folder):
        try:
            runs[str(path)] = inventory.inspect(path)
        except ConfigError as error:
            runs[str(path)] = with_flags(error.message)
    if arguments.json:
        described = {p: {"problem": r} if isinstance(r, str) else inventory.as_dict(r) for p, r in runs.items()}
        print(json.dumps(described, default=str))  # TOML has dates, JSON has none
    elif not runs:
        print(f"no runs in {printable(arguments.folder)}; refnet train makes one")
    else:
        print_table(_table(runs), stdout())
    return 0


def _table(runs: dict[str, RunSummary | str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("run", "net", "data", "backend", "state", "epoch", "step", "best error"):
        right = heading in {"epoch", "step", "best error"}
        # A terminal folds a long path; in a file it stays in one piece, to be copied.
        whole = heading == "run" and not is_terminal(sys.stdout)
        table.add_column(heading, justify="right" if right else "left", no_wrap=whole)
    for path, run in runs.items():
        if isinstance(run, str):
            table.add_row(_text(path), _text("cannot be read: refnet show says why"))
            continue
        best = "" if run.best_error is None else f"{run.best_error:.2%}"
        progress = f"{run.epoch}/{run.epochs}", f"{run.step:,}"
        names = (_text(name) for name in (path, run.net, Path(run.data).name or run.data, run.backend, run.status))
        table.add_row(*names, *map(_text, progress), best)
    return table


def _text(text: str) -> Text:
    """Return a text that rich prints literally: without control characters, and with square brackets as they are."""
    return Text(printable(text))
