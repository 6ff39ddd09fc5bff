"""What the commands that use a trained network have in common: their flags, and how network and images are opened."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from threadpoolctl import threadpool_limits

from refnet.cli import names, within
from refnet.data.dataset import Dataset, Split, describe
from refnet.data.parallel import Reading
from refnet.errors import ConfigError
from refnet.evaluation import neighbours
from refnet.evaluation.neighbours import Features
from refnet.evaluation.trained import Trained, open_data, open_trained
from refnet.terminal.progress import Show

BATCH = 128


def add_network(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the flags that say which network computes, and with what."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="RUN|FILE",
        action="append" if several else "store",
        help="a .safetensors file, or a run's folder, of which the best by validation is taken"
        + ("; give it several times for an ensemble" if several else ""),
    )
    parser.add_argument("--backend", default="auto", help="the code that computes (default: auto, the fastest)")
    parser.add_argument("--devices", help="where each column computes, with commas between (default: the backend's)")
    parser.add_argument("--threads", type=int, help="threads that compute (default: one for each core)")


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which labelled images are read."""
    parser.add_argument("--data", help="'digits' or a path (default: what the network was trained on)")
    splits = ("test", "validation", "train")
    parser.add_argument("--split", choices=splits, default="test", help="which images (default: test)")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"images at a time (default: {BATCH})")
    parser.add_argument("--read-threads", type=int, help="threads that read images (default: one for each core)")
    parser.add_argument("--read-timeout", type=float, default=60.0, help="seconds to wait for an image (default: 60)")


@contextmanager
def network(arguments: argparse.Namespace, where: Path) -> Iterator[Trained]:
    """Open a network; while it is used, BLAS has no more threads than asked for."""
    if arguments.threads is not None:
        within("--threads", arguments.threads, 1)
    devices = names("--devices", arguments.devices)
    with threadpool_limits(arguments.threads, "blas"):
        yield open_trained(where, arguments.backend, devices=devices, threads=arguments.threads)


def dataset(arguments: argparse.Namespace, trained: Trained, show: Show) -> Dataset:
    """Open the images that are named, or those that the network was trained on, and hold the network to them."""
    within("--batch", arguments.batch, 1)
    found = open_data(trained, show, what=arguments.data, reading=reading(arguments))
    show.say(describe(found))
    return found


def features(arguments: argparse.Namespace, trained: Trained, show: Show) -> tuple[Dataset, Split, Features]:
    """Open the images that were asked for, and give what the last hidden layer makes of them."""
    found = dataset(arguments, trained, show)
    images = split(arguments, found)
    with show.task("looking", len(images)) as advance:
        seen = neighbours.features(trained, images, batch=arguments.batch, reading=reading(arguments), advance=advance)
    return found, images, seen


def split(arguments: argparse.Namespace, found: Dataset) -> Split:
    """Give the images that were asked for."""
    asked: Split = getattr(found, arguments.split)
    return asked


def reading(arguments: argparse.Namespace) -> Reading:
    """Say how images are read."""
    if arguments.read_threads is not None:
        within("--read-threads", arguments.read_threads, 1)
    if not arguments.read_timeout > 0:
        raise ConfigError(f"--read-timeout {arguments.read_timeout} is not allowed; it must be above 0")
    return Reading(arguments.read_threads, arguments.read_timeout)


def add_output(parser: argparse.ArgumentParser, default: str, help_: str) -> None:
    """Add the flags that say where to write, a file with the ending of `default`, and how to tell of it."""
    metavar = f"FILE{Path(default).suffix}"
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(default), metavar=metavar, help=f"{help_} (default: {default})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def output(arguments: argparse.Namespace, ending: str) -> Path:
    """Give the file to write. Raises ``ConfigError`` where it ends otherwise."""
    path: Path = arguments.output
    if path.suffix != ending:
        raise ConfigError(f"-o {path} is not allowed; it must end in {ending}")
    return path


def refuse_existing(*paths: Path) -> None:
    """Raise ``ConfigError`` for a file that is there already, or could not be written, before any work is done."""
    for path in paths:
        if path.exists() or path.is_symlink():
            raise ConfigError(f"{path} is there already; remove it, or choose another file with -o")
        refuse_unwritable(path)


def refuse_unwritable(path: Path) -> None:
    """Raise ``ConfigError`` where a file could not be made, before any work is done."""
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: {path.parent} is no folder; make it, or choose another with -o")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{path} cannot be written: {path.parent} does not let you write to it; choose another with -o"
        )
