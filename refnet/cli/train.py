"""``refnet train``: from a configuration to a test error."""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from refnet import config
from refnet.errors import ConfigError
from refnet.machine import environment
from refnet.nets.registry import INITS, RECIPES
from refnet.runs import directory, tensorboard
from refnet.runs.resume import Resume
from refnet.terminal import progress
from refnet.training.loop import Result, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags: one for each configuration key, and where else to read and write."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="read keys from a TOML file")
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with a run, from the folder it lies in")
    parser.add_argument(
        "--changed-data", action="store_true", help="with --resume: go on although the data have changed since"
    )
    parser.add_argument("--tensorboard", action="store_true", help="write files for TensorBoard, too: RUN/tensorboard")
    parser.add_argument(
        "--json", action="store_true", help="print the result as the last and only line of standard output"
    )
    config.add_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train, and say how it went and what to try next."""
    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    flags = config.given(arguments)
    resume, file = None, arguments.config
    if arguments.resume:
        for flag in ("config", "run_dir"):
            if getattr(arguments, flag, None):
                raise ConfigError(f"--{flag.replace('_', '-')} cannot be given with --resume: the run has its own")
        resume = Resume(arguments.resume, frozenset(flags), arguments.changed_data)
        file = directory.configuration(arguments.resume)
    elif arguments.changed_data:
        raise ConfigError("--changed-data is for a run that is continued; give it with --resume")
    resolved = config.resolve(
        flags,
        environ=os.environ,
        file=file,
        recipes=RECIPES,
        inits=INITS,
    )
    if note := environment.note(os.environ, resolved.config.threads):
        show.say(note)
    if arguments.tensorboard:
        tensorboard.require()
    result = train(resolved.config, show, resume, board=arguments.tensorboard)
    if arguments.json:
        print(json.dumps(result.figures()), flush=True)
    else:
        for line in _ending(resolved.config, result):
            show.say(line)
    return 0


def _ending(settings: config.Config, result: Result) -> list[str]:
    same = f"--net {settings.net}" + (f" --data {shlex.quote(settings.data)}" if settings.data else "")
    return [
        "",
        f"test error   top-1 {result.test.top1_error:.2%}, top-5 {result.test.top5_error:.2%}",
        f"time         {result.seconds:.1f} s for {_many(result.steps, 'step')} in {_many(result.epochs, 'epoch')}",
        f"run          {result.run}",
        "",
        "What to try next:",
        f"  refnet summary {settings.net}",
        f"  refnet train {same} --columns {3 - settings.columns} --seed 1",
        "  refnet train --net paper --data FOLDER  (photographs, FOLDER/CLASS/*.jpg)",
    ]


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
