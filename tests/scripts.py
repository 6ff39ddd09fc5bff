"""Load programs of the repository that are not part of the package, for tests."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def load(place):
    """Load the program at a path in the repository as a module."""
    path = ROOT / place
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
