"""``refnet similar``: find the labelled images that a network finds most like given ones (the paper's figure 4)."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from refnet import files
from refnet.cli import _common
from refnet.data.dataset import Dataset, Split
from refnet.evaluation import neighbours
from refnet.evaluation.neighbours import Neighbours
from refnet.pictures import neighbours as figure
from refnet.terminal import progress
from refnet.terminal.printable import printable


def run(arguments: argparse.Namespace) -> int:
    """Find the nearest images by Euclidean distance in the last hidden layer, list them and draw them."""
    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    path = arguments.output
    _common.refuse_existing(path)
    with _common.network(arguments, arguments.checkpoint, show) as trained:
        paths = [path for named in arguments.images for path in _common.image_paths(named)]
        images = [_common.read_image(trained, path) for path in paths]
        dataset, split, features = _common.features(arguments, trained, show)
        points = [neighbours.of_images(trained, pixels[None])[0] for pixels in images]
    results = [neighbours.nearest(point, features, arguments.count) for point in points]
    picture = figure.draw([(pixels, split.images(near.indices)) for pixels, near in zip(images, results, strict=True)])
    with files.replacing(path) as file:
        picture.save(file, "PNG")
    if arguments.json:
        described = [
            {"image": image, "similar": [*_entries(dataset, split, near)]}
            for image, near in zip(paths, results, strict=True)
        ]
        print(json.dumps({"picture": str(path), "images": described}))
        return 0
    for image, near in zip(paths, results, strict=True):
        show.say(printable(image))
        for index, distance in zip(near.indices.tolist(), near.distances, strict=True):
            name = printable(dataset.names[split.labels[index]])
            number, place = f"image {index}", split.where(index)
            named = place if place.startswith(number) else f"{number}  {place}"  # a set without files has numbers only
            show.say(f"  {distance:10.3f}  {name}  {named}")
    show.say(f"picture      {printable(path)}")
    return 0


def _entries(dataset: Dataset, split: Split, near: Neighbours) -> Iterator[dict[str, Any]]:
    for index, distance in zip(near.indices.tolist(), near.distances.tolist(), strict=True):
        label = split.labels[index]
        yield {
            "class": dataset.classes[label],
            "words": dataset.words[label],
            "index": index,
            "where": split.where(index),
            "distance": distance,
        }
