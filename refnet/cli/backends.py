"""``refnet backends``: what can compute here."""

import argparse
import json

from refnet.backend.loading import available, installed


def run(arguments: argparse.Namespace) -> int:
    """Print each backend with what it lacks, or with the reason why it cannot run here."""
    reasons = available() if arguments.check else installed()
    if arguments.json:
        print(json.dumps(reasons))
    else:
        for name, reason in reasons.items():
            print(f"{name:10} {reason or ('ready' if arguments.check else 'installed')}")
    return 0
