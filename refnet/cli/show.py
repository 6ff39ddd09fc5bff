"""``refnet show``: describe one run or checkpoint, and check that it is intact."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from refnet.data.naming import names
from refnet.runs import checkpoint, inventory
from refnet.runs.checkpoint import plan_of
from refnet.runs.inventory import CheckpointFile, RunSummary
from refnet.runs.state import Facts, State, informative
from refnet.terminal.printable import duration
from refnet.terminal.spelling import quoted_path, with_flags
from refnet.terminal.wrapping import print_lines


def run(arguments: argparse.Namespace) -> int:
    """Print a description. Every checkpoint is read completely, so one shown as intact is."""
    if arguments.what.is_dir():
        described = inventory.inspect(arguments.what)
        verified = [inventory.verify(saved.path) for saved in described.checkpoints]
        content: dict[str, Any] = {
            **inventory.as_dict(described),
            "damaged": [str(s.path) for s in verified if s.problem],
        }
        lines = _run(described, verified)
    else:
        facts = checkpoint.read(arguments.what).facts
        content, lines = asdict(facts), _checkpoint(facts, arguments.what)
    if arguments.json:
        print(json.dumps(content, default=str))
    else:
        print_lines(lines)
    return 0


def _run(run: RunSummary, verified: list[CheckpointFile]) -> Iterator[str]:
    yield f"run          {run.path}, {run.status}"
    yield f"net          {run.net} in {run.config.get('columns')} columns, backend {run.backend}"
    yield f"data         {run.data}"
    yield f"progress     epoch {run.epoch} of {run.epochs}, step {run.step:,}"
    if run.seconds is not None:
        yield f"time         {duration(run.seconds)}"
    if run.state:
        yield from _progress(run.state, run.outputs)
    if run.result:
        yield f"test error   {', '.join(f'{error} {name}' for name, error in run.test_errors.items())}"
    for saved in verified:
        yield f"checkpoint   {saved.path}: {with_flags(saved.problem) if saved.problem else _size(saved)}"
    if run.status in {"stopped", "unknown"}:
        unless = "" if run.status == "stopped" else " (unless a process trains it: its file system has no locks)"
        yield f"continue     refnet train --resume {quoted_path(run.path)}{unless}"
    yield from _settings(run.config)


def _checkpoint(facts: Facts, path: Path) -> Iterator[str]:
    state = facts.state
    yield f"checkpoint   {path}, {path.stat().st_size / 1e6:,.1f} MB, intact"
    yield f"net          {facts.spec.name} in {facts.spec.columns} columns, backend {facts.backend}"
    count = sum(map(prod, plan_of(facts.spec).param_shapes().values()))
    yield f"parameters   {count:,}, and as many velocities"
    height, width, channels = facts.data.image_shape
    yield f"data         {facts.data.name} ({facts.data.where}): images of {height}x{width}x{channels}"
    classes = ", ".join(names(facts.classes, facts.words or facts.classes)[:10])
    yield f"classes      {len(facts.classes)}: {classes}{', ...' if len(facts.classes) > 10 else ''}"
    yield f"progress     {state.progress}"
    yield f"time         {duration(state.seconds)}"
    yield from _progress(state, facts.outputs)
    yield f"made on      refnet {facts.environment.get('refnet')}, Python {facts.environment.get('python')}"
    yield from _settings(facts.config)


def _progress(state: State, outputs: int | None) -> Iterator[str]:
    times = {0: "not lowered yet", 1: "lowered once", 2: "lowered twice"}
    lowered = times.get(state.rate.drops, f"lowered {state.rate.drops} times")
    yield f"schedule     learning rate {state.rate.lr:g} ({lowered})"
    for name, score in (("latest", state.latest), ("best", state.best)):
        if score:
            errors = informative(score.top1_error, score.top5_error, outputs)
            yield (
                f"{name:12} {', '.join(f'{error:.2%} {kind}' for kind, error in errors.items())} on validation, "
                f"loss {score.loss:.4f}, after epoch {score.epoch}, step {score.step:,}"
            )


def _settings(config: dict[str, Any]) -> Iterator[str]:
    for name, value in config.items():
        if value is not None:
            yield f"  {name} = {value}"


def _size(saved: CheckpointFile) -> str:
    assert saved.facts is not None
    return f"step {saved.facts.state.step:,}, {saved.nbytes / 1e6:,.1f} MB, intact"
