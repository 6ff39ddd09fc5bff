"""The search for the fastest configurations of matrix products on a GPU: ``refnet tune``, which saves them in a file.

Each product of a training step is timed by itself, on the arrays that the step gave it and in every configuration. The
product is recorded several times in a CUDA graph, so that the GPU's time is measured and not Python's. Each kernel then
gets the configuration with the least total time over its products. A product gets a configuration of its own if that is
faster by at least `MIN_GAIN`. Configurations that the GPU cannot run are left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from refnet.errors import BackendUnavailableError, DeviceMemoryError
from refnet.terminal.spelling import setting
from refnet_triton import _configs, _product
from refnet_triton._configs import Config, Product, Table, product
from refnet_triton._measured import graph_seconds

MIN_GAIN = 0.03  # fraction of its time that a product must gain to get a configuration of its own; less may be noise

_CORRELATE = (
    product(32, 128, 128, 8, 1),
    product(32, 128, 64, 4, 1),
    product(64, 64, 64, 4, 1),
    product(32, 64, 128, 4, 1),
    product(32, 64, 64, 4, 1),
    product(16, 64, 64, 4, 1),
)
_LARGE = (product(64, 128, 128, 8, 1),)  # too large for the registers of sm_80
_WIDE = (product(256, 64, 32, 8, 3),)  # blocks of 256x128 spill registers on sm_90 and sm_100, with 8 and 16 warps
_MULTIPLY = (
    product(128, 128, 32, 8, 3),
    product(128, 128, 32, 8, 4),
    product(64, 128, 32, 4, 4),
    product(64, 64, 32, 4, 3),
)
_TALL = (product(128, 64, 32, 4, 4),)  # spills registers on sm_90
_SMALL = (product(64, 64, 16, 4, 3),)  # spills registers on sm_100
# AMD's chips have less shared memory, so fewer steps are loaded ahead, and twice as many threads in a warp.
_AMD = (
    product(128, 128, 32, 4, 2),
    product(128, 64, 32, 4, 2),
    product(64, 128, 32, 4, 2),
    product(64, 64, 32, 4, 2),
    product(64, 64, 16, 4, 2),
)
_SPLIT = tuple(
    replace(config, factors=_configs.SPLIT) for config in _CORRELATE
)  # not of _LARGE, which spills registers
CANDIDATES: Mapping[str, Mapping[str, tuple[Config, ...]]] = {
    "sm_80": {"multiply": _MULTIPLY + _TALL + _SMALL, "correlate": _CORRELATE},
    "sm_90": {"multiply": _MULTIPLY + _SMALL + _WIDE, "correlate": _SPLIT},
    "sm_100": {"multiply": _MULTIPLY + _TALL, "correlate": _SPLIT},
    "gfx942": {"multiply": _AMD, "correlate": _CORRELATE + _LARGE},
}


@dataclass
class _Timed:
    """The measurements of one product.

    Attributes
    ----------
    compute
        Computes the product again, on the same arrays.
    count
        How many times a step computes it.
    seconds
        Its time in each configuration that the GPU can run.
    """

    compute: Callable[[], None]
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
    products = _products(step)
    configs = dict(table.configs)
    for kernel, candidates in CANDIDATES[_configs.in_tables(architecture)].items():
        name = f"{kernel}/{precision}"
        of_kernel = {shape: timed for shape, timed in products.items() if shape.kernel == name}
        tried = dict.fromkeys((table.configs[name], *candidates))
        for shape, timed in of_kernel.items():
            for config in tried:
                _configs.use(architecture, replace(table, configs={**table.configs, str(shape): config}))
                _time(shape, timed, config, say, seconds)
        configs |= _fastest(name, of_kernel, tried)
    chosen = Table(table.programs, configs)
    _configs.use(architecture, chosen)
    return _configs.write(architecture, chosen)


def _products(step: Callable[[], None]) -> dict[Product, _Timed]:
    """Take a step, and return its products, each with how often it was computed."""
    products: dict[Product, _Timed] = {}

    def listen(shape: Product, compute: Callable[[], None]) -> None:
        products.setdefault(shape, _Timed(compute)).count += 1

    _product.listener = listen
    try:
        step()
    finally:
        _product.listener = None
    return products


def _time(
    shape: Product, timed: _Timed, config: Config, say: Callable[[str], None], seconds: Callable[..., float]
) -> None:
    """Time a product in a configuration, which is in use, and report the time; skip it if the GPU cannot run it."""
    try:
        timed.seconds[config] = seconds(timed.compute)
    except DeviceMemoryError:
        raise  # the step does not fit in memory, whatever the configuration
    except BackendUnavailableError as error:
        say(f"{shape} {config}: skipped ({error})")
    else:
        say(f"{shape} {config}: {timed.seconds[config] * 1e6:.1f} us, {timed.count} in a step")


def _fastest(name: str, products: Mapping[Product, _Timed], tried: Mapping[Config, None]) -> dict[str, Config]:
    """Return the fastest configuration of a kernel, and of each product that gains `MIN_GAIN` by its own.

    Raises ``BackendUnavailableError`` if no configuration can run all products of the kernel.
    """
    runnable = [config for config in tried if all(config in timed.seconds for timed in products.values())]
    if not runnable:
        raise BackendUnavailableError(f"no configuration of {name} can run here; try another {setting('precision')}")
    shared = min(runnable, key=lambda config: sum(timed.count * timed.seconds[config] for timed in products.values()))
    chosen = {name: shared}
    for shape, timed in products.items():
        own = min(timed.seconds, key=timed.seconds.__getitem__)
        if timed.seconds[own] < (1 - MIN_GAIN) * timed.seconds[shared]:
            chosen[str(shape)] = own
    return chosen
