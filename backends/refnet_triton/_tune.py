"""Choose the configurations of products for the card at hand: an explicit command, whose result is a file.

Each kernel's configuration is the one with which a whole training step took the least time, the others being as
chosen so far. Candidates that the card cannot run are passed over.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from refnet.errors import BackendUnavailableError
from refnet_triton import _configs
from refnet_triton._configs import Config, product

CANDIDATES: dict[str, tuple[Config, ...]] = {
    "multiply": (
        product(128, 128, 32, 8, 3),
        product(128, 128, 32, 8, 4),
        product(128, 64, 32, 4, 4),
        product(64, 128, 32, 4, 4),
        product(64, 64, 32, 4, 3),
        product(64, 64, 16, 4, 3),
        product(128, 256, 32, 8, 3),
        product(256, 128, 32, 8, 3),
    ),
    "correlate": (
        product(32, 128, 128, 8, 1),
        product(64, 128, 128, 8, 1),
        product(32, 128, 64, 4, 1),
        product(64, 64, 64, 4, 1),
        product(32, 64, 128, 4, 1),
        product(32, 64, 64, 4, 1),
        product(16, 64, 64, 4, 1),
    ),
}


def tune(
    step: Callable[[], None],
    architecture: str,
    precision: str,
    say: Callable[[str], None],
    seconds: Callable[[Callable[[], None]], float] | None = None,
) -> Path:
    """Find the best configurations and write the table that is read from then on; return its path.

    Parameters
    ----------
    step
        One training step, waited for.
    seconds
        Measures a step; by default the shortest of five, after one that compiles.
    """
    measure = seconds or _shortest
    table = _configs.find(architecture)
    for kernel, candidates in CANDIDATES.items():
        name = f"{kernel}/{precision}"
        times = {}
        for config in dict.fromkeys((table.configs[name], *candidates)):
            _configs.use(architecture, replace(table, configs={**table.configs, name: config}))
            try:
                times[config] = measure(step)
            except BackendUnavailableError as error:
                say(f"{name} {config}: passed over ({error})")
            else:
                say(f"{name} {config}: {times[config] * 1e3:.2f} ms a step")
        best = min(times, key=times.__getitem__)
        table = replace(table, configs={**table.configs, name: best})
    _configs.use(architecture, table)
    return _configs.write(architecture, table)


def _shortest(step: Callable[[], None]) -> float:
    step()
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - began)
    return best
