"""A model of the time that a kernel takes on an H100, from what its compiled code and its launch ask of the chip.

It is a prediction, for chips that are not at hand: no number here is measured with these kernels. A launch costs
``LAUNCH_SECONDS``. In the loop of a matrix product, each round asks three parts of a multiprocessor to work, and the
slowest decides:

1. the tensor cores (or in ieee the cores for float32), for the products of two blocks;
2. shared memory, one cycle for each wavefront of the loop's accesses (:mod:`._banks`);
3. the L2 cache, for the bytes of both blocks.

The programs are spread evenly over the multiprocessors, and a last, partly filled wave costs as much as a full one. All
other kernels move their arrays: what they request from the L2 cache, or their arrays once from memory if that takes
longer.
"""

import re
from functools import cache
from math import prod
from typing import Any

from refnet_triton._banks import accesses
from refnet_triton._launch import Launch
from refnet_triton._offline import compiled

ARCHITECTURE = "sm_90"
MULTIPROCESSORS, CYCLES_PER_SECOND = 132, 1.70e9  # H100 SXM; a clock that it keeps under load
# FLOP of a multiprocessor in a cycle, from the data sheet; each product of tf32x3 and bf16x3 is three, of bf16x6 six.
FLOPS_PER_CYCLE = {"ieee": 256.0, "tf32": 2048.0, "tf32x3": 2048 / 3, "bf16x3": 4096 / 3, "bf16x6": 4096 / 6}
TENSOR_SHARE = 0.75  # of that peak, which kernels compiled by Triton reach at best
CACHE_BYTES_PER_SECOND = 6.2e12  # from the L2 cache: 28 bytes of a multiprocessor in a cycle
MEMORY_BYTES_PER_SECOND = 2.7e12  # what long copies reach of 3.35e12
LAUNCH_SECONDS = 3e-6

_LABEL = re.compile(r"(\$L\w+):")
_BRANCH = re.compile(r"\bbra(?:\.uni)?\s+(\$L\w+)")


def seconds(launch: Launch, requested: int) -> float:
    """Return the seconds that a launch takes, which requests that many bytes."""
    if "PRECISION" in launch.constants:
        return LAUNCH_SECONDS + _product(launch)
    arrays: int = sum(a.numel() * a.element_size() for a in launch.arguments.values() if hasattr(a, "numel"))
    return LAUNCH_SECONDS + max(requested / CACHE_BYTES_PER_SECOND, arrays / MEMORY_BYTES_PER_SECOND)


def _product(launch: Launch) -> float:
    sizes: dict[str, Any] = launch.constants
    m, k, d = (sizes[f"BLOCK_{letter}"] for letter in "MKD")
    if "DY_IMAGE" in sizes:  # correlate: its sums are over the windows, M
        rounds, summed, sides = -(-launch.arguments["M"] // m), m, k + d
    else:
        rounds, summed, sides = sizes["R"] * -(-sizes["RUN"] // d), d, m + k
    tensor = 2 * m * k * d / FLOPS_PER_CYCLE[sizes["PRECISION"]] / TENSOR_SHARE
    shared = _loop_wavefronts(compiled(launch, ARCHITECTURE).asm["ptx"]) * launch.config.warps
    cached = 4 * summed * sides / (CACHE_BYTES_PER_SECOND / MULTIPROCESSORS / CYCLES_PER_SECOND)
    waves = -(-prod(launch.programs) // MULTIPROCESSORS)
    cycles: float = waves * rounds / sizes["PARTS"] * max(tensor, shared, cached)
    return cycles / CYCLES_PER_SECOND


@cache
def _loop_wavefronts(ptx: str) -> int:
    """Return the wavefronts of a warp in one round of a kernel's longest loop."""
    lines = ptx.splitlines()
    labels: dict[str, int] = {}
    first = last = 0
    for number, line in enumerate(lines):
        if label := _LABEL.match(line):
            labels[label[1]] = number
        if (branch := _BRANCH.search(line)) and number - labels.get(branch[1], number) > last - first:
            first, last = labels[branch[1]], number
    before = len(list(accesses("\n".join(lines[:first]))))
    within = list(accesses("\n".join(lines[: last + 1])))[before:]
    return sum(access.wavefronts for access in within if access)
