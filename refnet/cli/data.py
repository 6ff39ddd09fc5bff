"""``refnet data``: prepare images once for all epochs, look at what was prepared, fetch public data sets."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refnet.cli import within
from refnet.data import fetch, prepared
from refnet.data.meta import read_meta
from refnet.data.opening import is_prepared, read_source
from refnet.data.parallel import Reading
from refnet.data.prepare import prepare
from refnet.data.prepared import BAD
from refnet.errors import ConfigError, DataError
from refnet.terminal import progress
from refnet.terminal.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own commands, and their arguments."""
    commands = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], purpose: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".", epilog=parser.epilog
        )
        added.set_defaults(run=run, parser=added)
        added.add_argument("--json", action="store_true", help="print the result as one JSON object")
        return added

    making = command("prepare", _prepare, "decode every image once, and write what trainings read")
    making.add_argument("source", metavar="SRC", help="images: a tree, ILSVRC2012, CIFAR-10 or IDX files")
    making.add_argument("destination", metavar="DST", type=Path, help="a new directory, or one to go on with")
    making.add_argument("--size", type=int, default=256, help="side of the square images (default: 256, the paper's)")
    making.add_argument("--channels", type=int, default=3, help="1 (gray) or 3 (RGB, the default)")
    making.add_argument("--strict", action="store_true", help="fail if a single image cannot be read")
    making.add_argument("--threads", type=int, help="threads that decode (default: one for each core)")
    making.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for an image (default: 60)")

    looking = command("info", _info, "describe a prepared directory, and verify its checksums")
    looking.add_argument("directory", metavar="DST", type=Path)

    getting = command("fetch", _fetch, "download a public data set, and verify its checksums")
    getting.add_argument("name", metavar="NAME", help=f"one of {', '.join(fetch.SETS)}")
    getting.add_argument("--to", type=Path, help="the directory to make (default: in the user's cache)")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    code: int = arguments.run(arguments)
    return code


def _prepare(arguments: argparse.Namespace) -> int:
    within("--size", arguments.size, 1, 4096)
    within("--channels", arguments.channels, 1, 3)
    if arguments.threads is not None:
        within("--threads", arguments.threads, 1)
    if not arguments.timeout > 0:
        raise ConfigError(f"--timeout {arguments.timeout} is not allowed; it must be above 0")
    show = _show(arguments)
    source = read_source(arguments.source)
    if source.form:
        raise ConfigError(f"{printable(source.name)} needs no preparing: give a folder of images")
    show.say(f"{printable(source.name)} ({printable(source.where)}): {source.layout}; {len(source.classes)} classes")
    summary = prepare(
        source,
        arguments.destination,
        size=arguments.size,
        channels=arguments.channels,
        strict=arguments.strict,
        reading=Reading(arguments.threads, arguments.timeout),
        show=show,
    )
    count = sum(summary.images.values())
    destination = printable(arguments.destination)
    lines = [
        f"{destination}: {count:,} images ({_counts(summary.images)}) in {summary.shards} shards",
        f"{summary.seconds:.1f} s",
        *([f"{summary.shards_kept} shards had been done before"] if summary.shards_kept else []),
        *([f"{summary.left_out} images could not be read: see {destination}/{BAD}"] if summary.left_out else []),
        f"train on it: refnet train --data {destination} --net NET",
    ]
    return _report(arguments, lines, {"directory": str(arguments.destination), **vars(summary)})


def _info(arguments: argparse.Namespace) -> int:
    root: Path = arguments.directory
    if not is_prepared(str(root)):
        raise DataError(f"{printable(root)} is no prepared directory: make one with refnet data prepare")
    meta = read_meta(root)
    prepared.check_lengths(root, meta)
    with _show(arguments).task("verifying", meta.nbytes) as advance:
        for done in prepared.verify(root, meta):
            advance(done)
    images = {split: meta.images(split) for split in meta.splits}
    form = "x".join(map(str, meta.image_shape))
    mean, deviations = ([round(v, 2) for v in a.tolist()] for a in (meta.principal.mean, meta.principal.deviations))
    lines = [
        f"{printable(meta.name)}, prepared from {printable(meta.source)}: {meta.layout}",
        f"{len(meta.classes):,} classes; {_counts(images)} images of {form}",
        f"{meta.nbytes / 1e9:.2f} GB in {len(meta.files)} files, all as written; {meta.left_out} images left out",
        f"mean colour {mean}, deviations along the principal axes {deviations} (grey levels)",
    ]
    figures = {
        "name": meta.name,
        "source": meta.source,
        "layout": meta.layout,
        "classes": len(meta.classes),
        "image_shape": meta.image_shape,
        "images": images,
        "left_out": meta.left_out,
        "bytes": meta.nbytes,
        "files": len(meta.files),
        "verified": True,
        "colours": {name: values.tolist() for name, values in vars(meta.principal).items()},
    }
    return _report(arguments, lines, figures)


def _fetch(arguments: argparse.Namespace) -> int:
    show = _show(arguments)
    place = fetch.fetch(arguments.name, arguments.to, show)
    return _report(
        arguments,
        [f"{printable(place)}", f"train on it: refnet train --data {printable(place)} --net NET"],
        {"directory": str(place)},
    )


def _report(arguments: argparse.Namespace, lines: list[str], figures: dict[str, Any]) -> int:
    print(json.dumps(figures) if arguments.json else "\n".join(lines))
    return 0


def _show(arguments: argparse.Namespace) -> progress.Show:
    return progress.on(sys.stderr if arguments.json else sys.stdout)


def _counts(images: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in images.items())
