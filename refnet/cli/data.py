"""``refnet data``: prepare images once for all epochs, describe prepared images, fetch public data sets."""

import argparse
import json
import os
import sys
from typing import Any

from refnet.data import fetch, prepared
from refnet.data.meta import read_meta
from refnet.data.opening import is_prepared, read_source
from refnet.data.parallel import Reading
from refnet.data.prepare import prepare
from refnet.errors import ConfigError, DataError
from refnet.terminal import progress
from refnet.terminal.printable import dimensions, printable
from refnet.terminal.spelling import quoted_path
from refnet.terminal.wrapping import print_lines


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands of ``refnet data``."""
    return {"prepare": _prepare, "info": _info, "fetch": _fetch}[arguments.action](arguments)


def _prepare(arguments: argparse.Namespace) -> int:
    show = _show(arguments)
    reading = Reading(arguments.read_threads, arguments.read_timeout, arguments.bad, arguments.follow_links)
    source = read_source(arguments.source, follow_links=reading.follow_links)
    if source.form:
        raise ConfigError(f"{printable(source.name)} needs no preparing: give a folder of images")
    show.say(f"{printable(source.name)} ({printable(source.where)}): {source.layout}; {len(source.classes)} classes")
    summary = prepare(
        source,
        arguments.destination,
        size=arguments.size,
        channels=arguments.channels,
        reading=reading,
        show=show,
    )
    if summary.warning:
        show.say(summary.warning)
    count = sum(summary.images.values())
    destination = printable(arguments.destination)
    lines = [
        f"{destination}: {count:,} images ({_counts(summary.images)}) in {summary.shards} shards",
        f"time: {summary.seconds:.1f} s",
        *([f"{summary.shards_kept} shards had been done before"] if summary.shards_kept else []),
        f"train on it: refnet train --data {quoted_path(arguments.destination)} --net NET",
    ]
    figures = {"directory": str(arguments.destination), **vars(summary)}
    del figures["warning"]  # it is printed, and left_out counts
    return _report(arguments, lines, figures)


def _info(arguments: argparse.Namespace) -> int:
    root = arguments.directory
    if not is_prepared(str(root)):
        missing = "is not a prepared directory" if os.path.lexists(root) else "does not exist"
        raise DataError(f"{printable(root)} {missing}; make a prepared directory with refnet data prepare SRC DST")
    meta = read_meta(root)
    prepared.check_lengths(root, meta)
    with _show(arguments).task("verifying", meta.nbytes) as advance:
        for done in prepared.verify(root, meta):
            advance(done)
    images = {split: meta.images(split) for split in meta.splits}
    form = dimensions(meta.image_shape)
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
        [f"{printable(place)}", f"train on it: refnet train --data {quoted_path(place)} --net NET"],
        {"directory": str(place)},
    )


def _report(arguments: argparse.Namespace, lines: list[str], figures: dict[str, Any]) -> int:
    if arguments.json:
        print(json.dumps(figures))
    else:
        print_lines(lines)
    return 0


def _show(arguments: argparse.Namespace) -> progress.Show:
    return progress.on(sys.stderr if arguments.json else sys.stdout)


def _counts(images: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in images.items())
