"""What ``refnet doctor`` and ``refnet warmup`` report about this backend: the processor, the threads, the cache."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba

from refnet.machine.environment import Throttle, physical_cores
from refnet_numba import _cache, _instructions, _threads

# The cost of each of Numba's settings. Settings that are not listed do not slow a run down.
COSTS = {
    "NUMBA_DISABLE_JIT": "nothing is compiled: every kernel runs as plain Python, thousands of times slower",
    "NUMBA_BOUNDSCHECK": "kernels check every index, on one thread and without vector instructions",
    "NUMBA_OPT": "kernels are optimised less than with the default, 3",
    "NUMBA_CPU_NAME": "kernels are compiled for that processor, without the other instructions of this one",
    "NUMBA_CPU_FEATURES": "kernels use only those instructions",
    "NUMBA_DEBUGINFO": "kernels contain debug information and are optimised less",
}
# Values of those settings that cost nothing.
HARMLESS_VALUES = {
    "NUMBA_DISABLE_JIT": ("0",),
    "NUMBA_BOUNDSCHECK": ("0",),
    "NUMBA_OPT": ("3", "max"),
    "NUMBA_DEBUGINFO": ("0",),
}


def examine() -> dict[str, Any]:
    """Return, ready for JSON, the processor that kernels are compiled for and the threads that run them."""
    features = llvmlite.binding.get_host_cpu_features()
    return {
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "processor": llvmlite.binding.get_host_cpu_name(),
        "features": sorted(name for name, present in features.items() if present),
        "vector": f"{_instructions.LANES} float32",
        "threads": _threads.count(),
        "threads at most": _threads.most(),
        "threading layer": _threads.layer(),
    }


def cache() -> Path | None:
    """Return the folder that keeps machine code between runs; None if no folder can."""
    return _cache.cache_directory()


def fullness() -> dict[str, int] | None:
    """Return the number of functions in the cache, their bytes, and the free bytes of its file system."""
    directory = cache()
    if directory is None:
        return None
    sizes = [file.stat().st_size for file in directory.iterdir() if file.is_file()]
    return {"functions": len(sizes), "bytes": sum(sizes), "free_bytes": shutil.disk_usage(directory).free}


def throttles(environ: Mapping[str, str]) -> list[Throttle]:
    """List the environment variables that make kernels slower than they could be on this machine."""
    throttling = [
        Throttle(f"{name}={environ[name]}", cost, f"unset {name}")
        for name, cost in COSTS.items()
        if environ.get(name) and environ[name] not in HARMLESS_VALUES.get(name, ())
    ]
    settings: Any = numba.config
    if physical_cores() > settings.NUMBA_NUM_THREADS:
        limit = environ.get("NUMBA_NUM_THREADS", str(settings.NUMBA_NUM_THREADS))
        cost = f"kernels run on at most {settings.NUMBA_NUM_THREADS} of {physical_cores()} cores"
        throttling.append(Throttle(f"NUMBA_NUM_THREADS={limit}", cost, "unset NUMBA_NUM_THREADS"))
    return throttling
