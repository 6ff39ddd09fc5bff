"""``refnet eval``: the errors of one network or several on labelled images, by the paper's protocol."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from refnet.cli import _common
from refnet.data.dataset import Dataset
from refnet.errors import ConfigError
from refnet.evaluation import protocol
from refnet.evaluation.labelled import without_images
from refnet.evaluation.negative import note_on_split
from refnet.evaluation.protocol import PROTOCOLS, Evaluation, Tally
from refnet.evaluation.trained import Trained, check_members
from refnet.terminal import progress
from refnet.terminal.printable import printable

MAX_PRINTED = 10  # classes with the highest errors, and confusions
WORDS = {"centre": "centre crop", "ten": "ten crops"}


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, and print the errors, the classes with the highest errors and the most frequent confusions."""
    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    protocols = {name: n for name, n in PROTOCOLS.items() if arguments.crops in (name, "both")}
    began = time.monotonic()
    if arguments.weights == "search":
        if len(arguments.checkpoint) == 1:
            raise ConfigError("--weights search is for several networks; give --checkpoint more than once")
        _refuse_same_images(arguments)
    with ExitStack() as stack:
        members = [stack.enter_context(_common.network(arguments, where, show)) for where in arguments.checkpoint]
        check_members(members)
        dataset = _common.dataset(arguments, members[0], show)
        split = _common.split(arguments, dataset)
        for note in filter(None, (without_images(members[0], split), note_on_split(members[0], split))):
            show.say(note)
        batch, reading = arguments.batch, _common.reading(arguments)
        weights = None
        if arguments.weights == "search":
            _refuse_same_images(arguments, dataset)
            with show.task("searching weights", len(dataset.validation)) as advance:
                weights = protocol.search(
                    members, dataset.validation, protocols=protocols, batch=batch, reading=reading, advance=advance
                )
        with show.task("evaluating", len(split)) as advance:
            evaluation = protocol.evaluate(
                members, split, protocols=protocols, weights=weights, batch=batch, reading=reading, advance=advance
            )
    seconds = time.monotonic() - began
    if arguments.json:
        print(json.dumps(_figures(arguments, members, dataset, evaluation, weights) | {"seconds": round(seconds, 3)}))
    else:
        for line in _lines(members, dataset, evaluation, weights):
            show.say(line)
        show.say(f"time         {seconds:.1f} s")
    return 0


def _refuse_same_images(arguments: argparse.Namespace, dataset: Dataset | None = None) -> None:
    if arguments.split == "validation" or (dataset and dataset.test is dataset.validation):
        raise ConfigError(
            "--weights search learns from the validation images, so errors on them would say too little; "
            "give --split test and data with test images of their own"
        )


def _figures(
    arguments: argparse.Namespace,
    members: Sequence[Trained],
    dataset: Dataset,
    evaluation: Evaluation,
    weights: Mapping[str, Sequence[float]] | None,
) -> dict[str, object]:
    final = list(evaluation.together.values())[-1]
    return {
        **_errors(evaluation.together),
        "images": final.count,
        "split": arguments.split,
        "data": dataset.where,
        "weights": weights,
        "members": [
            {
                "checkpoint": trained.where,
                "net": trained.facts.spec.name,
                "step": trained.facts.state.step,
                **_errors(tallies),
            }
            for trained, tallies in zip(members, evaluation.members, strict=True)
        ],
        "classes": dataset.classes,
        "words": dataset.words,
        "class_error": [None if np.isnan(error) else error for error in final.class_errors.tolist()],
        "confusion": final.confusion.tolist(),
    }


def _errors(tallies: Mapping[str, Tally]) -> dict[str, dict[str, float]]:
    return {
        "top1_error": {name: tally.top1_error for name, tally in tallies.items()},
        "top5_error": {name: tally.top5_error for name, tally in tallies.items()},
    }


def _lines(
    members: Sequence[Trained], dataset: Dataset, evaluation: Evaluation, weights: Mapping[str, Sequence[float]] | None
) -> Iterator[str]:
    for trained, tallies in zip(members, evaluation.members, strict=True):
        state = trained.facts.state
        yield f"network      {trained.where}: net {trained.facts.spec.name}, after {state.progress}"
        yield from _table(tallies)
    if len(members) > 1:
        yield "together"
        yield from _table(evaluation.together)
        for name, values in (weights or {}).items():
            yield f"weights      {WORDS[name]}: {', '.join(f'{value:.3f}' for value in values)}"
    protocol, final = list(evaluation.together.items())[-1]
    classes = [printable(name) for name in dataset.names]
    errors, images = final.class_errors, final.confusion.sum(axis=1)
    worst = [c for c in np.argsort(-np.nan_to_num(errors), kind="stable")[:MAX_PRINTED] if errors[c] > 0]
    if worst:
        yield f"worst classes, {WORDS[protocol]}"
        for c in worst:
            yield f"  {errors[c]:7.2%} of {images[c]:,.0f}  {classes[c]}"
    wrong = final.confusion.copy()
    np.fill_diagonal(wrong, 0)
    pairs = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None, kind="stable")[:MAX_PRINTED]]
    if any(wrong[pair] for pair in pairs):
        yield f"confused most, {WORDS[protocol]}"
        for correct, output in pairs:
            if wrong[correct, output]:
                predicted = classes[output] if output < len(classes) else members[0].called(int(output))
                yield f"  {wrong[correct, output]:7.1f}  {classes[correct]} taken for {predicted}"


def _table(tallies: Mapping[str, Tally]) -> Iterator[str]:
    for name, tally in tallies.items():
        errors = ", ".join(f"{kind} {error:7.2%}" for kind, error in tally.errors.items())
        yield f"  {WORDS[name]:12} {errors} of {tally.count:,} images"
