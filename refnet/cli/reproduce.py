"""``refnet reproduce``: test a claim of the paper with small networks, which a laptop can train."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from refnet import nets
from refnet.backend.loading import load
from refnet.cli import _common
from refnet.pictures.plot import check_output
from refnet.reproduce import claims
from refnet.reproduce.claims import CLAIMS, Claim, Measure, Outcome
from refnet.reproduce.experiment import EPOCHS, IMAGES, SCORED_IMAGES, Settings, net_for, perform
from refnet.reproduce.picture import draw
from refnet.reproduce.verdict import Comparison, compare, explain
from refnet.terminal import progress
from refnet.terminal.printable import counted
from refnet.terminal.progress import Show
from refnet.terminal.signals import Interrupted
from refnet.terminal.tables import print_table, stdout
from refnet.terminal.wrapping import print_lines


def run(arguments: argparse.Namespace) -> int:
    """Test a claim and print the result. If stopped by a signal, print the result of the finished runs."""
    if arguments.claim is None or arguments.list:
        _list(as_json=arguments.json)
        return 0
    claim = claims.get(arguments.claim)
    settings = _settings(arguments, claim)
    if arguments.output:
        check_output(arguments.output)
    load(settings.backend, columns=2, threads=settings.threads)
    show = progress.on(sys.stderr)
    if not arguments.json:
        _introduce(claim, settings)
    outcomes, interrupt = _outcomes(claim, settings, show)

    by_variant = [_of(outcomes, variant.name) for variant in claim.variants]
    pairs = min(map(len, by_variant))
    outcomes = [outcome for own in by_variant for outcome in own[:pairs]]
    compared = (
        [compare(*([m.of(o) for o in own[:pairs]] for own in by_variant)) for m in claim.measures] if pairs else []
    )
    if arguments.json:
        print(json.dumps(_as_dict(claim, settings, outcomes, compared)), flush=True)
    elif compared:
        _print(claim, outcomes, compared)
    if arguments.output and compared:
        draw(claim, outcomes, arguments.output)
        show.say(f"picture: {arguments.output}")
    if interrupt:
        total = settings.seeds * len(claim.variants)
        number = interrupt.number if isinstance(interrupt, Interrupted) else signal.SIGINT
        raise Interrupted(
            number, f"; {sum(map(len, by_variant))} of {total} runs are finished; repeat the command to resume"
        )
    return 0


def _settings(arguments: argparse.Namespace, claim: Claim) -> Settings:
    net = net_for(arguments.data)
    return Settings(
        net=net,
        data=arguments.data,
        images=IMAGES[net] if arguments.images is None else arguments.images,
        epochs=arguments.epochs or claim.epochs.get(net, EPOCHS[net]),
        seeds=arguments.seeds,
        backend=arguments.backend,
        threads=arguments.threads or nets.get(net).recipe.get("threads"),
        folder=Path(arguments.run_dir) if arguments.run_dir else Path("runs", "reproduce", f"{claim.name}-{net}"),
        reading=_common.reading(arguments),
    )


def _introduce(claim: Claim, settings: Settings) -> None:
    images = "all" if settings.images is None else f"{settings.images:,}"
    print(f"{claim.question} (paper, section {claim.section})")
    length = f"{counted(settings.epochs, 'epoch')}, {counted(settings.seeds, 'seed')}"
    print(f"net {settings.net}, {images} training images, {length}")
    if claim.common:
        print(f"both: {_keys(claim.common)}")
    for variant in claim.variants:
        print(f"{variant.name}: {_keys(variant.keys)}", flush=True)


def _outcomes(claim: Claim, settings: Settings, show: Show) -> tuple[list[Outcome], KeyboardInterrupt | None]:
    outcomes: list[Outcome] = []
    try:
        for outcome in perform(claim, settings, show):
            outcomes.append(outcome)
            figures = ", ".join(_figure(measure, outcome) for measure in claim.measures)
            show.say(f"{outcome.variant}, seed {outcome.seed}: {figures}")
    except KeyboardInterrupt as interrupt:
        return outcomes, interrupt
    return outcomes, None


def _figure(measure: Measure, outcome: Outcome) -> str:
    """Return a measure of one run, with its unit: ``test error 1.39 %``."""
    name, _, unit = measure.name.partition(", ")
    return f"{name} {measure.of(outcome):.2f} {unit}".rstrip()


def _of(outcomes: Sequence[Outcome], variant: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.variant == variant]


def _print(claim: Claim, outcomes: Sequence[Outcome], compared: Sequence[Comparison]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("measure", no_wrap=True)
    for heading in (*(variant.name for variant in claim.variants), "difference [95 %]"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("the paper", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for measure, comparison in zip(claim.measures, compared, strict=True):
        table.add_row(
            measure.name,
            f"{comparison.without:.2f} ± {comparison.without_spread:.2f}",
            f"{comparison.paper:.2f} ± {comparison.paper_spread:.2f}",
            f"{comparison.difference:+.2f} [{comparison.low:+.2f}, {comparison.high:+.2f}]",
            measure.paper,
            comparison.verdict,
        )
    print_table(table, stdout())
    if claim.rates:
        rates = (f"{variant.name} {_of(outcomes, variant.name)[0].lr:g}" for variant in claim.variants)
        print_lines([f"learning rates, the best of {', '.join(map(str, claim.rates))}: {', '.join(rates)}"])
    seeds = len(_of(outcomes, claim.paper.name))
    print_lines([f"{claim.name}: {compared[0].verdict} with {counted(seeds, 'seed')}: {explain(compared[0])}."])


def _as_dict(
    claim: Claim, settings: Settings, outcomes: Sequence[Outcome], compared: Sequence[Comparison]
) -> dict[str, Any]:
    return {
        "claim": claim.name,
        "question": claim.question,
        "section": claim.section,
        "net": settings.net,
        "data": settings.data,
        "images": settings.images,
        "scored_images": SCORED_IMAGES,
        "epochs": settings.epochs,
        "seeds": settings.seeds,
        "arms": [
            {
                "name": variant.name,
                "keys": dict(variant.keys),
                "runs": [
                    {
                        "seed": outcome.seed,
                        "lr": outcome.lr,
                        "train_top1_errors": outcome.train_errors,
                        "validation_top1_errors": outcome.validation_errors,
                        "test_top1_error": outcome.test_error,
                    }
                    for outcome in _of(outcomes, variant.name)
                ],
            }
            for variant in claim.variants
        ],
        "measures": [
            {"name": measure.name, "paper_says": measure.paper, **comparison.as_dict()}
            for measure, comparison in zip(claim.measures, compared, strict=False)
        ],
        "verdict": compared[0].verdict if compared else None,
    }


def _list(*, as_json: bool) -> None:
    if as_json:
        listed = [
            {"claim": c.name, "question": c.question, "section": c.section, "measures": [m.name for m in c.measures]}
            for c in CLAIMS.values()
        ]
        print(json.dumps({"claims": listed}))
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("claim", "question", "section"):
        table.add_column(heading)
    for claim in CLAIMS.values():
        table.add_row(claim.name, claim.question, claim.section)
    print_table(table, stdout())


def _keys(keys: Any) -> str:
    """Return settings as they are given on the command line."""
    flags = []
    for name, value in keys.items():
        flag = f"--{name.replace('_', '-')}"
        if value is False:
            flags.append(flag.replace("--", "--no-", 1))
        elif value == ():
            flags.append(f"no {flag}")
        else:
            flags.append(f"{flag} {','.join(value) if isinstance(value, tuple) else format(value, 'g')}")
    return " ".join(flags) or "the unchanged net"
