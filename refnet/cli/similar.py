"""``refnet similar``: of labelled images, those that look most like given ones to a network (the paper's figure 4)."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from refnet import files, neighbours, progress
from refnet.cli import using, within
from refnet.errors import ConfigError
from refnet.printable import printable

COUNT = 6  # the paper's figure has as many


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, each a row of the picture")
    using.add_network(parser)
    using.add_images(parser)
    parser.add_argument(
        "--count", type=int, default=COUNT, help=f"how many like it (default: {COUNT}, as in the paper)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("similar.png"),
        metavar="FILE.png",
        help="where to write the picture (default: similar.png)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Find the nearest in the last hidden layer by Euclidean distance, list them and draw them."""
    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    within("--count", arguments.count, 1, 100)
    path: Path = arguments.output
    if path.suffix != ".png":
        raise ConfigError(f"-o {path} is not allowed; it must end in .png")
    using.refuse_existing(path)
    with using.network(arguments, arguments.checkpoint) as trained:
        images = [trained.read(image) for image in arguments.images]
        dataset, split, among = using.features(arguments, trained, show)
        points = [neighbours.of_images(trained, pixels[None])[0] for pixels in images]
    found = [neighbours.nearest(point, among, arguments.count) for point in points]
    picture = neighbours.picture(
        [(pixels, split.images(near.indices)) for pixels, near in zip(images, found, strict=True)]
    )
    with files.replacing(path) as file:
        picture.save(file, "PNG")
    described: list[dict[str, Any]] = [
        {
            "image": image,
            "similar": [
                {
                    "class": dataset.classes[split.labels[index]],
                    "words": dataset.words[split.labels[index]],
                    "index": int(index),
                    "where": split.where(int(index)),
                    "distance": distance,
                }
                for index, distance in zip(near.indices, near.distances.tolist(), strict=True)
            ],
        }
        for image, near in zip(arguments.images, found, strict=True)
    ]
    if arguments.json:
        print(json.dumps({"picture": str(path), "images": described}))
        return 0
    for each in described:
        show.say(printable(each["image"]))
        for one in each["similar"]:
            show.say(f"  {one['distance']:10.3f}  {printable(one['words'])}  image {one['index']}  {one['where']}")
    show.say(f"picture      {printable(path)}")
    return 0
