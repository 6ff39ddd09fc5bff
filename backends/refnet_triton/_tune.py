"""The search for the fastest configurations of matrix products on a GPU: ``refnet tune``, which saves them in a file.

Every product of a training step is timed by itself, on the arrays that the step gave it and in every configuration. It
is recorded several times in a CUDA graph, so that the time is the GPU's and not Python's. Each kernel then gets the
configuration with the least time over all its products, and a product a configuration of its own where that is faster
by `WORTH`. Configurations that the GPU cannot run are left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from refnet.errors import BackendUnavailableError, DeviceMemoryError
from refnet.terminal.spelling import setting
from refnet_triton import _configs, _product
from refnet_triton._configs import Config, Product, Table, product
from refnet_triton._measured import graph_seconds

WORTH = 0.03  # the share of a product's time for which a configuration of its own is kept; less may be noise

_CORRELATE = (
    product(32, 128, 128, 8, 1),
    product(32, 128, 64, 4, 1),
    product(64, 64, 64, 4, 1),
    product(32, 64, 128, 4, 1),
    product(32, 64, 64, 4, 1),
    product(16, 64, 64, 4, 1),
)
_LARGE = (product(64, 128, 128, 8, 1),)  # more than the registers of sm_80 hold
_WIDE = (product(256, 64, 32, 8, 3),)  # of 256x128 the compiler spills registers on sm_90 and sm_100, of 8 and 16 warps
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
_SPLIT = tuple(replace(config, factors=_configs.SPLIT) for config in _CORRELATE)  # of _LARGE, registers are spilled
CANDIDATES: Mapping[str, Mapping[str, tuple[Config, ...]]] = {
    "sm_80": {"multiply": _MULTIPLY + _TALL + _SMALL, "correlate": _CORRELATE},
    "sm_90": {"multiply": _MULTIPLY + _SMALL + _WIDE, "correlate": _SPLIT},
    "sm_100": {"multiply": _MULTIPLY + _TALL, "correlate": _SPLIT},
    "gfx942": {"multiply": _AMD, "correlate": _CORRELATE + _LARGE},
}


@dataclass
class _Timed:
    """A product of the step: a function that computes it again, how often a step does, and times by configuration."""

    again: Callable[[], None]
    count: int = 0
    seconds: dict[Config, float] = field(default_factory=dict)


def tune(
    step: Callable[[], None],
    architecture: str,
    precision: str,
    say: Callable[[str], None],
    seconds: Callable[[Callable[[], None]], float] = graph_seconds,
) -> Path:
    """Find the fastest configurations, save them as this GPU's table, and return the path of the file.

    Parameters
    ----------
    step
        Takes one training step.
    say
        Gets a line of text for each measurement.
    seconds
        Returns the time in seconds of a function that launches kernels.

    Raises
    ------
    BackendUnavailableError
        The GPU can run no configuration of a kernel; ``DeviceMemoryError`` if the step does not fit in its memory.
    """
    table = _configs.find(architecture)
    timed = _products(step)
    configs = dict(table.configs)
    for kernel, candidates in CANDIDATES[_configs.in_tables(architecture)].items():
        name = f"{kernel}/{precision}"
        of_kernel = {made: times for made, times in timed.items() if made.kernel == name}
        tried = dict.fromkeys((table.configs[name], *candidates))
        for made, times in of_kernel.items():
            for config in tried:
                _configs.use(architecture, replace(table, configs={**table.configs, str(made): config}))
                _time(made, times, config, say, seconds)
        configs |= _best(name, of_kernel, tried)
    chosen = Table(table.programs, configs)
    _configs.use(architecture, chosen)
    return _configs.write(architecture, chosen)


def _products(step: Callable[[], None]) -> dict[Product, _Timed]:
    """Take a step, and return its products."""
    products: dict[Product, _Timed] = {}

    def listen(made: Product, again: Callable[[], None]) -> None:
        products.setdefault(made, _Timed(again)).count += 1

    _product.listener = listen
    try:
        step()
    finally:
        _product.listener = None
    return products


def _time(
    made: Product, timed: _Timed, config: Config, say: Callable[[str], None], seconds: Callable[..., float]
) -> None:
    try:
        timed.seconds[config] = seconds(timed.again)
    except DeviceMemoryError:
        raise  # it is the step that does not fit, not the kernel
    except BackendUnavailableError as error:
        say(f"{made} {config}: skipped ({error})")
    else:
        say(f"{made} {config}: {timed.seconds[config] * 1e6:.1f} us, {timed.count} in a step")


def _best(name: str, products: Mapping[Product, _Timed], tried: Mapping[Config, None]) -> dict[str, Config]:
    """Return the configuration of a kernel, and those of its products that are worth one of their own."""
    able = [config for config in tried if all(config in timed.seconds for timed in products.values())]
    if not able:
        raise BackendUnavailableError(f"no configuration of {name} can run here; try another {setting('precision')}")
    best = min(able, key=lambda config: sum(timed.count * timed.seconds[config] for timed in products.values()))
    found = {name: best}
    for made, timed in products.items():
        own = min(timed.seconds, key=timed.seconds.__getitem__)
        if timed.seconds[own] < (1 - WORTH) * timed.seconds[best]:
            found[str(made)] = own
    return found
