"""``refnet features``: what the last hidden layer of a network makes of labelled images, as an array in a file."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from refnet import files, progress
from refnet.cli import using
from refnet.errors import ConfigError
from refnet.printable import printable

LABELS = "-labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    using.add_network(parser)
    using.add_images(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("features.npy"),
        metavar="FILE.npy",
        help="where to write; the labels go to FILE-labels.npy beside it (default: features.npy)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Write features, float32 (n,K), and labels, int64 (n,), in the order of the split."""
    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    path: Path = arguments.output
    labels = path.with_name(f"{path.stem}{LABELS}.npy")
    if path.suffix != ".npy":
        raise ConfigError(f"-o {path} is not allowed; it must end in .npy")
    using.refuse_existing(path, labels)
    with using.network(arguments, arguments.checkpoint) as trained:
        dataset, split, found = using.features(arguments, trained, show)
    for where, array in ((labels, split.labels), (path, found)):
        with files.replacing(where) as file:
            np.save(file, array, allow_pickle=False)
    if arguments.json:
        figures = {
            "features": str(path),
            "labels": str(labels),
            "shape": found.shape,
            "classes": dataset.classes,
            "words": dataset.words,
        }
        print(json.dumps(figures))
    else:
        show.say(f"features     {printable(path)}: float32 {found.shape}")
        show.say(f"labels       {printable(labels)}: int64 {split.labels.shape}")
    return 0
