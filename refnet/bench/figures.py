"""The results of one run of ``refnet bench``, and the ratios between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refnet.bench.contender import PEERS
from refnet.bench.machine import Peak
from refnet.bench.ops import LayerTiming
from refnet.bench.step import Entry
from refnet.machine.version import __version__
from refnet.network.plan import IMAGE, Plan

BASELINE = "numpy"  # the contender to which the others are compared, layer by layer
PASSES = ("training", "forward")


@dataclass(frozen=True)
class Figures:
    """Everything that one run measured.

    Attributes
    ----------
    net, columns, rounds
        The network that was timed, and the number of rounds.
    fingerprint
        See :func:`refnet.bench.machine.fingerprint`.
    layers_at
        Batch and threads of `rows`.
    """

    net: str
    plan: Plan
    rounds: int
    fingerprint: Mapping[str, Any]
    peak: Peak
    layers_at: tuple[int, int]
    rows: Sequence[LayerTiming]
    entries: Sequence[Entry]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as keys and values, ready for JSON."""
        table: dict[str, Any] = {
            "refnet": __version__,
            "net": self.net,
            "columns": self.plan.columns,
            "rounds": self.rounds,
            "fingerprint": dict(self.fingerprint),
            "peak": self.peak.as_dict(),
            "ops": [self._row(row) for row in self.rows],
            "steps": [self._entry(entry) for entry in self.entries],
        }
        if len({(entry.spec.batch, entry.spec.threads) for entry in self.entries}) == 1:
            table["images_per_second"] = {
                name: {what: fastest(own, what).images_per_second(what) for what in PASSES}
                for name, own in by_contender(self.entries).items()
            }
            table["times_best_torch"] = times_best_torch(self.entries)
        return table

    def flops(self, batch: int, what: str) -> int:
        """Return the floating-point operations of a pass: in training, three products per layer."""
        # In training the first layer has only two products: the gradient of the pixels is not computed.
        first, later = {"forward": (1, 1), "training": (2, 3)}[what]
        return 2 * batch * sum(node.macs() * (first if node.inputs == (IMAGE,) else later) for node in self.plan.nodes)

    def _row(self, row: LayerTiming) -> dict[str, Any]:
        batch, threads = self.layers_at
        return {
            "layer": row.layer,
            "op": row.op,
            "direction": row.direction,
            "batch": batch,
            "threads": threads,
            "flops": row.flops,
            "bytes": row.nbytes,
            "contenders": {
                name: timing.as_dict()
                | {
                    "gflops_per_s": row.flops / timing.minimum / 1e9,
                    "gbytes_per_s": row.nbytes / timing.minimum / 1e9,
                    "share_of_peak": self.peak.seconds(row.flops, row.nbytes) / timing.minimum,
                }
                for name, timing in row.timings.items()
            },
            f"times_{BASELINE}": times_baseline(row),
        }

    def _entry(self, entry: Entry) -> dict[str, Any]:
        spec = entry.spec
        table: dict[str, Any] = {
            "contender": spec.contender,
            "layout": spec.layout or None,
            "batch": spec.batch,
            "threads": spec.threads,
        }
        for what in PASSES:
            timing = entry.timing(what)
            rate = self.flops(spec.batch, what) / timing.minimum
            table[what] = timing.as_dict() | {
                "images_per_second": entry.images_per_second(what),
                "gflops_per_s": rate / 1e9,
                "share_of_peak": rate / self.peak.flops,
            }
        return {**table, "peak_bytes": entry.peak_bytes}


def by_contender(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return the entries of each contender, by its name, in their order."""
    table: dict[str, list[Entry]] = {}
    for entry in entries:
        table.setdefault(entry.spec.contender, []).append(entry)
    return table


def fastest(entries: Sequence[Entry], what: str) -> Entry:
    """Return the entry with the most images per second."""
    return max(entries, key=lambda entry: entry.images_per_second(what))


def times_baseline(row: LayerTiming) -> dict[str, float]:
    """Return how many times faster than the baseline each contender is, by name."""
    slow = row.timings.get(BASELINE)
    return {} if slow is None else {name: slow.minimum / timing.minimum for name, timing in row.timings.items()}


def times_best_torch(entries: Sequence[Entry]) -> dict[str, dict[str, float]]:
    """Return the ratios of each contender to the best PyTorch variant: images per second, and memory in training.

    A ratio of images per second above 1 means faster. The memory is that of the variant which trains fastest; a ratio
    below 1 means less. Empty if PyTorch was not measured.
    """
    peers = [entry for entry in entries if entry.spec.contender in PEERS]
    if not peers:
        return {}
    memory = fastest(peers, "training").peak_bytes
    return {
        name: {
            what: fastest(own, what).images_per_second(what) / fastest(peers, what).images_per_second(what)
            for what in PASSES
        }
        | {"memory": fastest(own, "training").peak_bytes / memory}
        for name, own in by_contender(entries).items()
    }
