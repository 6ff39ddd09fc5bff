"""``refnet backends``: list the backends, and whether each can run here."""

import argparse
import json

from refnet.backend.loading import available, installed
from refnet.terminal.spelling import with_flags
from refnet.terminal.wrapping import print_lines


def run(arguments: argparse.Namespace) -> int:
    """Print each backend with the packages that it lacks, or with the reason why it cannot run here."""
    reasons = available(with_flags) if arguments.check else installed()
    if arguments.json:
        print(json.dumps(reasons))
    else:
        state = "ready" if arguments.check else "installed"
        print_lines(f"{name:10} {reason or state}" for name, reason in reasons.items())
    return 0
