"""``refnet bench``: time each layer and the whole network of several contenders in one run."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from refnet.backend.interface import Backend
from refnet.backend.loading import load
from refnet.bench import earlier, figures, machine, report, step
from refnet.bench.contender import LAYOUTS, PEERS
from refnet.bench.ops import BackendLayers, LayerContender, LayerTiming, time_ops
from refnet.errors import BackendUnavailableError, ConfigError
from refnet.machine import environment
from refnet.machine.compiling import noted
from refnet.nets import NetSpec, get
from refnet.network.plan import Plan
from refnet.terminal import progress
from refnet.terminal.tables import print_table, stdout
from refnet.terminal.wrapping import print_lines

DEFAULT_BACKENDS = ("numba", "numpy")


def run(arguments: argparse.Namespace) -> int:
    """Time the contenders, and print the tables."""
    net = get(arguments.net)
    columns = arguments.columns
    batches = arguments.batch or [net.recipe["batch"]]
    threads = arguments.threads or [net.recipe.get("threads", environment.physical_cores())]
    if arguments.backends and arguments.contenders:
        raise ConfigError("--backends cannot be given with --contenders, which names backends too")
    ops, steps = arguments.ops or not arguments.step, arguments.step or not arguments.ops
    if ops and len(batches) * len(threads) > 1:
        raise ConfigError("single layers are timed at one --batch and with one number of --threads; add --step")

    fingerprint = machine.fingerprint(threads, dict(os.environ))
    before = earlier.read(arguments.against) if arguments.against else None
    if before:
        earlier.require_comparable(before, fingerprint, net.name, columns)
    contenders = _contenders(arguments, columns, threads)
    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    if note := environment.note(os.environ, threads[0]):
        show.say(note)

    peak = machine.measure(max(threads))
    at = (batches[0], threads[0])
    plan = NetSpec(net.name, columns=columns).plan(fused=not arguments.unfused)
    rows = _time_ops(plan, at, contenders, arguments.rounds, show) if ops else []
    specs = step.specs(net.name, columns, contenders, batches, threads)
    entries = step.time_steps(specs, arguments.rounds, show) if steps else []
    results = figures.Figures(net.name, plan, arguments.rounds, fingerprint, peak, at, rows, entries)

    changes = earlier.changes(before, results.as_dict()) if before else []
    if arguments.json:
        print(json.dumps(results.as_dict() | ({"against": changes} if before else {})))
        return 0
    console = stdout()
    for part in (*report.tables(results), *([report.compared(changes)] if before else [])):
        if isinstance(part, str):
            print_lines([part])
        else:
            print_table(part, console)
    return 0


def _contenders(arguments: argparse.Namespace, columns: int, threads: Sequence[int]) -> list[str]:
    """Return the contenders, after checking that each can run here, so that none fails in the middle of the work."""
    chosen = list(arguments.contenders)
    if not chosen:
        chosen = [*(arguments.backends or DEFAULT_BACKENDS), *(PEERS if machine.has_torch() else ())]
    for name in chosen:
        if name not in PEERS:
            load(name, columns=columns, threads=max(threads))
        elif not machine.has_torch():
            raise BackendUnavailableError(f"{name} needs PyTorch, which is not installed here; pip install torch")
    return chosen


def _time_ops(
    plan: Plan, at: tuple[int, int], contenders: Sequence[str], rounds: int, show: progress.Show
) -> list[LayerTiming]:
    batch, threads = at
    with _backends(contenders, plan.columns, threads) as backends:
        layers: list[LayerContender] = [BackendLayers(backend) for backend in backends]
        if "torch-eager" in contenders:
            from refnet.bench import torch_peer  # noqa: PLC0415 - only this contender needs PyTorch

            layers += [torch_peer.TorchLayers(threads, layout) for layout in LAYOUTS]
        walker = backends[0] if backends else load("auto", columns=plan.columns, threads=threads, checked=False)
        with noted(show, walker, *backends):
            return time_ops(plan, batch, walker, layers, rounds, show)


@contextmanager
def _backends(contenders: Sequence[str], columns: int, threads: int) -> Iterator[list[Backend]]:
    with threadpool_limits(threads, "blas"):
        yield [load(name, columns=columns, threads=threads, checked=False) for name in contenders if name not in PEERS]
