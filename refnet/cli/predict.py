"""``refnet predict``: the most probable classes of images."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from refnet.cli import _common
from refnet.data.dataset import Pixels
from refnet.errors import DataError
from refnet.evaluation.negative import negatives, note_on_negatives
from refnet.evaluation.protocol import PROTOCOLS, classify
from refnet.evaluation.trained import Trained
from refnet.terminal import progress
from refnet.terminal.printable import printable
from refnet.terminal.spelling import with_flags
from refnet.terminal.streams import is_terminal

TOP_K = 5
BAR_WIDTH = 30  # characters of a probability of 1


def run(arguments: argparse.Namespace) -> int:
    """Classify each image. An image that cannot be read is reported, and the others are classified."""
    console = None if arguments.json or not is_terminal(sys.stdout) else Console(highlight=False)
    described: list[dict[str, Any]] = []
    negative: list[str] = []
    code = 0
    with _common.network(arguments, arguments.checkpoint, progress.on(sys.stderr)) as trained:
        for path, pixels in _images(trained, arguments.images):
            if isinstance(pixels, DataError):
                message = with_flags(pixels.message)
                print(f"refnet: {printable(message)}", file=sys.stderr)
                described.append({"image": path, "error": message})
                code = pixels.exit_code
                continue
            negative += [path] * len(negatives(trained, pixels[None]))
            p = classify(trained, pixels[None], {arguments.crops: PROTOCOLS[arguments.crops]})[arguments.crops][0]
            ranked = [int(k) for k in np.argsort(-p, kind="stable")[:TOP_K]]
            described.append({"image": path, "top5": [_entry(trained, k, float(p[k])) for k in ranked]})
            if console:
                for text in _texts(trained, path, ranked, p.tolist()):
                    console.print(text, soft_wrap=True)
            elif not arguments.json:
                print("\n".join(text.plain for text in _texts(trained, path, ranked, p.tolist())), flush=True)
    if note := note_on_negatives(negative):
        print(note, file=sys.stderr)
    if arguments.json:
        print(json.dumps({"checkpoint": trained.where, "images": described}))
    return code


def _images(trained: Trained, named: Iterable[str]) -> Iterator[tuple[str, Pixels | DataError]]:
    """Yield each image that the arguments name, or the error of the image or the argument."""
    for argument in named:
        try:
            paths = _common.image_paths(argument)
        except DataError as error:
            yield argument, error
            continue
        for path in paths:
            try:
                yield path, _common.read_image(trained, path)
            except DataError as error:
                yield path, error


def _entry(trained: Trained, output: int, probability: float) -> dict[str, Any]:
    known = output < len(trained.facts.classes)
    return {
        "class": trained.facts.classes[output] if known else None,
        "words": trained.words[output] if known else None,
        "output": output,
        "probability": probability,
    }


def _texts(trained: Trained, path: str, ranked: list[int], p: list[float]) -> Iterator[Text]:
    yield Text(printable(path), "bold")
    for k in ranked:
        bar = "#" * round(BAR_WIDTH * p[k])
        yield Text.assemble(f"  {p[k]:7.2%}  ", (f"{bar:{BAR_WIDTH}}", "green"), f"  {trained.called(k)}")
