"""``refnet features``: write the outputs of a network's last hidden layer for labelled images to a file."""

import argparse
import json
import sys

import numpy as np

from refnet import files
from refnet.cli import _common
from refnet.terminal import progress
from refnet.terminal.printable import printable

LABELS_SUFFIX = "-labels"


def run(arguments: argparse.Namespace) -> int:
    """Write features, float32 (n,K), and labels, int64 (n,), in the order of the split."""
    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    path = arguments.output
    labels = path.with_name(f"{path.stem}{LABELS_SUFFIX}.npy")
    _common.refuse_existing(path, labels)
    with _common.network(arguments, arguments.checkpoint, show) as trained:
        dataset, split, features = _common.features(arguments, trained, show)
    for where, array in ((labels, split.labels), (path, features)):
        with files.replacing(where) as file:
            np.save(file, array, allow_pickle=False)
    if arguments.json:
        figures = {
            "features": str(path),
            "labels": str(labels),
            "shape": features.shape,
            "classes": dataset.classes,
            "words": dataset.words,
        }
        print(json.dumps(figures))
    else:
        show.say(f"features     {printable(path)}: float32 {features.shape}")
        show.say(f"labels       {printable(labels)}: int64 {split.labels.shape}")
    return 0
