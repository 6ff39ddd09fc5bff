"""Functions of the commands that use a trained network: open it, open images, and check the file to write."""

import argparse
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from threadpoolctl import threadpool_limits

from refnet.data import image_files
from refnet.data.dataset import Dataset, Pixels, Split, describe
from refnet.data.parallel import Reading
from refnet.errors import ConfigError, DataError
from refnet.evaluation import labelled, neighbours
from refnet.evaluation.neighbours import Features
from refnet.evaluation.trained import Trained, open_trained
from refnet.machine.compiling import noted
from refnet.terminal.printable import printable
from refnet.terminal.progress import Show
from refnet.terminal.spelling import setting

STDIN = "-"
MAX_STREAM_BYTES = 1 << 28  # of an image from standard input or a pipe


@contextmanager
def network(arguments: argparse.Namespace, where: Path, show: Show) -> Iterator[Trained]:
    """Open a network; while it is open, BLAS uses at most the configured number of threads."""
    trained = open_trained(where, arguments.backend, devices=arguments.devices, threads=arguments.threads)
    threads = arguments.threads or trained.net.recipe.get("threads")
    with threadpool_limits(threads, "blas"), noted(show, trained.backend):
        yield trained


def dataset(arguments: argparse.Namespace, trained: Trained, show: Show, *, keep_unknown: bool = False) -> Dataset:
    """Return the data set of --data, or the one that the network was trained on, under the network's classes."""
    opened = labelled.open_images(trained, show, what=arguments.data, reading=reading(arguments))
    matched, note = labelled.matched(trained, opened, keep_unknown=keep_unknown)
    show.say(describe(opened))
    if opened.warning:
        show.say(opened.warning)
    if note:
        show.say(note)
    return matched


def features(arguments: argparse.Namespace, trained: Trained, show: Show) -> tuple[Dataset, Split, Features]:
    """Return the data set, the images of --split, and their activations in the last hidden layer.

    Images of classes that the network does not know are among them, since no class is needed.
    """
    opened = dataset(arguments, trained, show, keep_unknown=True)
    images = split(arguments, opened)
    with show.task("images", len(images)) as advance:
        activations = neighbours.features(
            trained, images, batch=arguments.batch, reading=reading(arguments), advance=advance
        )
    return opened, images, activations


def split(arguments: argparse.Namespace, opened: Dataset) -> Split:
    """Return the images of --split. Raises ``DataError`` if there are none."""
    images: Split = getattr(opened, arguments.split)
    if not len(images):
        raise DataError(
            f"{printable(opened.where)}: its {arguments.split} images are of none of the network's classes: give "
            f"others with {setting('data')}, or another {setting('split')}"
        )
    return images


def image_paths(named: str) -> list[str]:
    """Return the image files that an argument names, or "-"; print what is skipped. Raises ``DataError``."""
    if named == STDIN:
        return [named]
    files = image_files.listed(named)
    if files.skipped:
        print(f"refnet: {files.skipped}", file=sys.stderr)
    return files.paths


def read_image(trained: Trained, path: str) -> Pixels:
    """Read an image from a file, a pipe or, for "-", from standard input. Raises ``DataError``."""
    if path == STDIN:
        if sys.stdin is None:
            raise DataError("standard input is closed: send an image to it, or name a file")
        stream = getattr(sys.stdin, "buffer", None)
        if stream is None:  # as in a notebook or an editor
            raise DataError("standard input is text here, as in a notebook, not an image: name a file")
        return _read_stream(trained, stream, "standard input")
    try:
        piped = stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116 - no Path is needed
    except OSError:
        piped = False
    if not piped:
        return trained.read(path)
    with open(path, "rb") as stream:  # noqa: PTH123
        return _read_stream(trained, stream, path)


def _read_stream(trained: Trained, stream: BinaryIO, name: str) -> Pixels:
    try:
        content = stream.read(MAX_STREAM_BYTES + 1)
    except OSError as error:
        raise DataError(f"{printable(name)} cannot be read: {error.strerror}; name a file") from error
    if not content:
        raise DataError(f"{printable(name)} is empty: send an image to it, or name a file")
    if len(content) > MAX_STREAM_BYTES:
        raise DataError(f"{printable(name)} has more than {MAX_STREAM_BYTES:,} bytes: send a smaller image")
    return trained.read_bytes(content, name)


def reading(arguments: argparse.Namespace) -> Reading:
    """Return how images are read: the threads, the time limit and what happens to damaged ones."""
    return Reading(arguments.read_threads, arguments.read_timeout, arguments.bad, arguments.follow_links)


def refuse_existing(*paths: Path) -> None:
    """Raise ``ConfigError``, before any work is done, for a file that exists already or could not be written."""
    for path in paths:
        if path.exists() or path.is_symlink():
            raise ConfigError(f"{path} exists already; remove it, or choose another file with -o")
        refuse_unwritable(path)


def refuse_unwritable(path: Path) -> None:
    """Raise ``ConfigError``, before any work is done, for a file that could not be written."""
    if path.is_dir():
        raise ConfigError(f"{path} cannot be written: it is a folder; name a file with -o")
    if not path.parent.is_dir():
        raise ConfigError(
            f"{path} cannot be written: {path.parent} is not a folder; make it, or choose another with -o"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{path} cannot be written: {path.parent} does not let you write to it; choose another with -o"
        )
