"""``refnet predict``: the most probable classes of images."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from refnet.cli import _common
from refnet.data.dataset import Pixels
from refnet.errors import DataError
from refnet.evaluation.protocol import PROTOCOLS, classify
from refnet.evaluation.trained import Trained
from refnet.terminal.printable import printable
from refnet.terminal.spelling import with_flags

TOP_K = 5
BAR_WIDTH = 30  # characters of a probability of 1
STDIN = "-"
MAX_STDIN_BYTES = 1 << 28


def run(arguments: argparse.Namespace) -> int:
    """Classify each image. One that cannot be read is reported, and the others are classified."""
    console = None if arguments.json or not sys.stdout.isatty() else Console(highlight=False)
    described: list[dict[str, Any]] = []
    code = 0
    with _common.network(arguments, arguments.checkpoint) as trained:
        for path in arguments.images:
            try:
                pixels = read(trained, path)
            except DataError as error:
                message = with_flags(error.message)
                print(f"refnet: {printable(message)}", file=sys.stderr)
                described.append({"image": path, "error": message})
                code = error.exit_code
                continue
            p = classify(trained, pixels[None], {arguments.crops: PROTOCOLS[arguments.crops]})[arguments.crops][0]
            places = [int(k) for k in np.argsort(-p, kind="stable")[:TOP_K]]
            described.append({"image": path, "top5": [_entry(trained, k, float(p[k])) for k in places]})
            if console:
                for text in _texts(trained, path, places, p.tolist()):
                    console.print(text, soft_wrap=True)
            elif not arguments.json:
                print("\n".join(text.plain for text in _texts(trained, path, places, p.tolist())), flush=True)
    if arguments.json:
        print(json.dumps({"checkpoint": trained.where, "images": described}))
    return code


def read(trained: Trained, path: str) -> Pixels:
    """Read an image from a file or, for "-", from standard input. Raises ``DataError``."""
    if path != STDIN:
        return trained.read(path)
    if sys.stdin is None:
        raise DataError("standard input is closed: send an image to it, or name a file")
    content = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(content) > MAX_STDIN_BYTES:
        raise DataError(f"standard input has more than {MAX_STDIN_BYTES:,} bytes, which is no image: send less")
    return trained.read_bytes(content, "standard input")


def _entry(trained: Trained, output: int, probability: float) -> dict[str, Any]:
    known = output < len(trained.facts.classes)
    return {
        "class": trained.facts.classes[output] if known else None,
        "words": trained.words[output] if known else None,
        "output": output,
        "probability": probability,
    }


def _texts(trained: Trained, path: str, places: list[int], p: list[float]) -> Iterator[Text]:
    yield Text(printable(path), "bold")
    for k in places:
        bar = "#" * round(BAR_WIDTH * p[k])
        yield Text.assemble(f"  {p[k]:7.2%}  ", (f"{bar:{BAR_WIDTH}}", "green"), f"  {trained.called(k)}")
