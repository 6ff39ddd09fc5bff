"""``refnet train``: train a network as configured, and test it."""

import argparse
import json
import os
import sys
from pathlib import Path

from refnet import config, files
from refnet.errors import ConfigError
from refnet.machine import environment
from refnet.nets import NETS, NetSpec
from refnet.runs import directory, inventory
from refnet.runs.checkpoint import remedy
from refnet.runs.resume import Resume
from refnet.terminal import progress
from refnet.terminal.printable import counted, duration
from refnet.terminal.spelling import quoted_path
from refnet.training.loop import Result, train


def config_file(given: argparse.Namespace) -> Path | None:
    """Return the TOML file to read: that of --config, or that of the run to resume.

    Raises
    ------
    ConfigError
        The flags contradict each other, or the folder has no run.
    """
    given_paths = (getattr(given, name, None) for name in ("resume", "config"))
    resume, named = (files.expanded(path) if path else None for path in given_paths)
    if not resume:
        if getattr(given, "changed_data", False):
            raise ConfigError("--changed-data is for a run that is resumed; give it with --resume")
        return Path(named) if named else None
    for flag in ("config", "run_dir"):
        if getattr(given, flag, None):
            raise ConfigError(f"--{flag.replace('_', '-')} cannot be given with --resume: the run has its own")
    file = directory.configuration(Path(resume))
    net = inventory.inspect(Path(resume)).net
    if net and net not in NETS:
        raise ConfigError(f"{resume} trains net {net}, which is not known here; {remedy(NetSpec(net))}")
    return file


def run(arguments: argparse.Namespace) -> int:
    """Train, and print the result and what to try next."""
    show = progress.on(sys.stderr if arguments.json else sys.stdout)
    settings = config.to_config(vars(arguments))
    resume = None
    if arguments.resume:
        resume = Resume(arguments.resume, arguments.given & config.KEYS.keys(), arguments.changed_data)
    if note := environment.note(os.environ, settings.threads):
        show.say(note)
    result = train(settings, show, resume, board=arguments.tensorboard)
    if arguments.json:
        print(json.dumps(result.figures()), flush=True)
    else:
        for line in _ending(settings, result):
            show.say(line)
    return 0


def _ending(settings: config.Config, result: Result) -> list[str]:
    same = f"--net {settings.net}" + (f" --data {quoted_path(settings.data)}" if settings.data else "")
    same += "" if settings.flip is None else " --flip" if settings.flip else " --no-flip"
    length = f"{counted(result.steps, 'step')} in {counted(result.epochs, 'epoch')}"
    return [
        "",
        f"test error   {', '.join(f'{name} {error:.2%}' for name, error in result.errors.items())}",
        f"time         {duration(result.seconds)} for {length}",
        f"run          {result.run}",
        "",
        "What to try next:",
        f"  refnet summary {settings.net}",
        f"  refnet train {same} --columns {3 - settings.columns} --seed 1",
        "  refnet train --net paper --data FOLDER  (photographs, FOLDER/CLASS/*.jpg)",
    ]
