"""Tables of the results, for the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from refnet.bench.contender import PEERS
from refnet.bench.figures import BASELINE, PASSES, Figures, by_contender, fastest, times_baseline
from refnet.bench.ops import DATA, WEIGHT, LayerTiming
from refnet.bench.step import Entry
from refnet.terminal.printable import counted


def tables(figures: Figures) -> Iterator[Table | str]:
    """Yield lines and tables with all results."""
    peak = figures.peak
    yield ", ".join(f"{point} {_text(value)}" for point, value in figures.fingerprint.items() if value)
    yield (
        f"peak: {peak.flops / 1e9:.0f} GFLOP/s in a float32 product by {peak.product}, "
        f"{peak.bandwidth / 1e9:.1f} GB/s in a copy; % is of the peak that limits the layer"
    )
    if figures.rows:
        yield _layers(figures)
    if figures.entries:
        yield _steps(figures)
        yield from _scaling(figures.entries)


def compared(changes: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of a comparison."""
    table = Table(
        title="compared with the saved table (minimum of the rounds)", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("what", no_wrap=True)
    for heading in ("then", "now", "times faster"):
        table.add_column(heading, justify="right")
    for change in changes:
        table.add_row(
            change["what"], _milliseconds(change["then"]), _milliseconds(change["now"]), f"{change['times_faster']:.2f}"
        )
    return table


def _layers(figures: Figures) -> Table:
    names = list(dict.fromkeys(name for row in figures.rows for name in row.timings))
    batch, threads = figures.layers_at
    rounds = counted(figures.rounds, "round")
    table = Table(
        title=f"{figures.net}, column 0, batch {batch}, threads {threads}: minimum of {rounds}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in ("layer", "direction"):
        table.add_column(heading, no_wrap=True)
    for heading in ("FLOP", "bytes", *(heading for name in names for heading in _headings(name, names))):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in figures.rows:
        direction = f"  {row.direction}" if _is_part(row) else row.direction
        cells = [row.layer, direction, _amount(row.flops), _amount(row.nbytes)]
        table.add_row(*cells, *(cell for name in names for cell in _cells(figures, row, name, names)))
    table.add_section()
    table.add_row("sum", "", "", "", *(cell for name in names for cell in _sums(figures.rows, name, names)))
    return table


def _is_part(row: LayerTiming) -> bool:
    """Return whether the time of this row is part of another row's."""
    return row.direction in {DATA, WEIGHT}


def _headings(name: str, names: Sequence[str]) -> list[str]:
    compared_with = [f"x {BASELINE}"] if name != BASELINE and BASELINE in names else []
    return [f"{name} ms", "GFLOP/s", "GB/s", "%", *compared_with]


def _cells(figures: Figures, row: LayerTiming, name: str, names: Sequence[str]) -> list[str]:
    cells = [""] * len(_headings(name, names))
    if name not in row.timings:
        return cells
    seconds = row.timings[name].minimum
    cells[0] = _milliseconds(seconds)
    cells[1] = f"{row.flops / seconds / 1e9:.0f}" if row.flops else ""
    cells[2] = f"{row.nbytes / seconds / 1e9:.1f}"
    cells[3] = f"{figures.peak.seconds(row.flops, row.nbytes) / seconds:.0%}"
    if len(cells) > 4 and BASELINE in row.timings:
        cells[4] = f"{times_baseline(row)[name]:.1f}"
    return cells


def _sums(rows: Sequence[LayerTiming], name: str, names: Sequence[str]) -> list[str]:
    """Return sums over the rows that are not part of other rows; the ratio is over rows that both contenders have."""
    own = [row for row in rows if name in row.timings and not _is_part(row)]
    cells = [""] * len(_headings(name, names))
    cells[0] = _milliseconds(sum(row.timings[name].minimum for row in own))
    if len(cells) > 4:
        shared = [row for row in own if BASELINE in row.timings]
        slow, fast = (sum(row.timings[contender].minimum for row in shared) for contender in (BASELINE, name))
        cells[4] = f"{slow / fast:.1f}"
    return cells


def _steps(figures: Figures) -> Table:
    rounds = counted(figures.rounds, "round")
    table = Table(
        title=f"{figures.net}, {figures.plan.columns} columns, whole network: {rounds} in turn",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("contender", no_wrap=True)
    for heading in (
        "batch",
        "threads",
        "training s",
        "median",
        "images/s",
        "%",
        "forward s",
        "median",
        "images/s",
        "%",
        "peak memory",
        "training",
        "forward",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    peers = [entry for entry in figures.entries if entry.spec.contender in PEERS]
    for entry in figures.entries:
        spec = entry.spec
        cells = [f"{spec.contender} {spec.layout}".strip(), str(spec.batch), str(spec.threads)]
        for what in PASSES:
            timing = entry.timing(what)
            share = figures.flops(spec.batch, what) / timing.minimum / figures.peak.flops
            cells += [_seconds(timing.minimum), _seconds(timing.median)]
            cells += [f"{entry.images_per_second(what):.1f}", f"{share:.0%}"]
        cells.append(f"{entry.peak_bytes / 1e9:.2f} GB")
        same_size = [peer for peer in peers if (peer.spec.batch, peer.spec.threads) == (spec.batch, spec.threads)]
        for what in PASSES:
            best = fastest(same_size, what) if same_size else None
            cells.append(f"x {entry.images_per_second(what) / best.images_per_second(what):.2f}" if best else "")
        table.add_row(*cells)
    if peers:
        table.caption = "x: images/s divided by those of the best PyTorch variant with this batch and number of threads"
    return table


def _scaling(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield lines on the gain from more threads, and on whether time is proportional to the batch size."""
    for name, own in by_contender(entries).items():
        for layout in dict.fromkeys(entry.spec.layout for entry in own):
            group = [entry for entry in own if entry.spec.layout == layout]
            label = f"{name} {layout}".strip()
            for batch in dict.fromkeys(entry.spec.batch for entry in group):
                fewest, *others = sorted((e for e in group if e.spec.batch == batch), key=lambda e: e.spec.threads)
                for entry in others:
                    ratio = fewest.training.minimum / entry.training.minimum
                    yield (
                        f"{label}: a training step of {batch} is {ratio:.2f} times faster "
                        f"on {entry.spec.threads} threads than on {fewest.spec.threads}"
                    )
            for threads in dict.fromkeys(entry.spec.threads for entry in group):
                sizes = sorted((e for e in group if e.spec.threads == threads), key=lambda e: e.spec.batch)
                if len(sizes) > 1:
                    count = "1 thread" if threads == 1 else f"{threads} threads"
                    each = ", ".join(f"{e.spec.batch}: {1e3 * e.training.minimum / e.spec.batch:.2f}" for e in sizes)
                    yield f"{label}: milliseconds of training per image, by batch, with {count}: {each}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(map(str, value))
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in value.items())
    return str(value)


def _amount(count: float) -> str:
    """Return a number with three digits and a prefix (k, M, G, ...); an empty text for 0."""
    thousands = 0
    while count >= 999.5:
        count /= 1000
        thousands += 1
    return f"{count:.3g}{' kMGTP'[thousands].strip()}" if count else ""


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"
