"""``refnet backends``: what can compute here."""

import argparse
import json

from refnet.backend.loading import available


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--json", action="store_true", help="print one JSON object: null where a backend can run")


def run(arguments: argparse.Namespace) -> int:
    """Print each backend with the reason why it cannot run here, if it cannot."""
    reasons = available()
    if arguments.json:
        print(json.dumps(reasons))
    else:
        for name, reason in reasons.items():
            print(f"{name:10} {reason or 'ready'}")
    return 0
