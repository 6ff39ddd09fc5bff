"""Choose the configurations of matrix products for a GPU, by an explicit command that writes them to a file.

For each kernel in turn, the configuration with which a whole training step took the least time is chosen, the other
kernels being as chosen so far. Candidates that the GPU cannot run are left out.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from refnet.errors import BackendUnavailableError, DeviceMemoryError
from refnet.terminal.spelling import setting
from refnet_triton import _configs
from refnet_triton._configs import Config, product

_CORRELATE = (
    product(32, 128, 128, 8, 1),
    product(32, 128, 64, 4, 1),
    product(64, 64, 64, 4, 1),
    product(32, 64, 128, 4, 1),
    product(32, 64, 64, 4, 1),
    product(16, 64, 64, 4, 1),
)
_LARGE = (product(64, 128, 128, 8, 1),)  # more than the registers of sm_80 hold
_MULTIPLY = (
    product(128, 128, 32, 8, 3),
    product(128, 128, 32, 8, 4),
    product(64, 128, 32, 4, 4),
    product(64, 64, 32, 4, 3),
)
_TALL = (product(128, 64, 32, 4, 4),)  # the compiler spills registers of it on sm_90
_SMALL = (product(64, 64, 16, 4, 3),)  # the compiler spills registers of it on sm_100
# AMD's chips have less shared memory, so that fewer steps run ahead, and twice the threads in a warp.
_AMD = (
    product(128, 128, 32, 4, 2),
    product(128, 64, 32, 4, 2),
    product(64, 128, 32, 4, 2),
    product(64, 64, 32, 4, 2),
    product(64, 64, 16, 4, 2),
)
CANDIDATES: Mapping[str, Mapping[str, tuple[Config, ...]]] = {
    "sm_80": {"multiply": _MULTIPLY + _TALL + _SMALL, "correlate": _CORRELATE},
    "sm_90": {"multiply": _MULTIPLY + _SMALL, "correlate": _CORRELATE + _LARGE},
    "sm_100": {"multiply": _MULTIPLY + _TALL, "correlate": _CORRELATE + _LARGE},
    "gfx942": {"multiply": _AMD, "correlate": _CORRELATE + _LARGE},
}


def tune(
    step: Callable[[], None],
    architecture: str,
    precision: str,
    say: Callable[[str], None],
    seconds: Callable[[Callable[[], None]], float] | None = None,
) -> Path:
    """Find the fastest configurations, write the table that is read from then on, and return its path.

    Parameters
    ----------
    step
        Takes one training step and waits for it.
    seconds
        Times a step; by default the shortest of five, after one that compiles.

    Raises
    ------
    BackendUnavailableError
        The GPU can run no configuration of a kernel; ``DeviceMemoryError`` if the step does not fit in its memory.
    """
    measure = seconds or _shortest
    table = _configs.find(architecture)
    for kernel, candidates in CANDIDATES[_configs.kin(architecture)].items():
        name = f"{kernel}/{precision}"
        times = {}
        for config in dict.fromkeys((table.configs[name], *candidates)):
            _configs.use(architecture, replace(table, configs={**table.configs, name: config}))
            try:
                times[config] = measure(step)
            except DeviceMemoryError:
                raise  # it is the step that does not fit, not the kernel
            except BackendUnavailableError as error:
                say(f"{name} {config}: skipped ({error})")
            else:
                say(f"{name} {config}: {times[config] * 1e3:.2f} ms a step")
        if not times:
            raise BackendUnavailableError(
                f"{architecture} cannot run any configuration of {name}; try another {setting('precision')}"
            )
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
