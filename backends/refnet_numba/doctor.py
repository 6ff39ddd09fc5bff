"""The answers of this backend to ``refnet doctor`` and ``refnet warmup``: the processor, the threads, the cache."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba

from refnet.machine.environment import Throttle, physical_cores
from refnet_numba import _cache, _instructions

# What Numba's settings cost. Those that are not listed do not slow a run down.
SLOW = {
    "NUMBA_DISABLE_JIT": "nothing is compiled: every kernel runs as plain Python, thousands of times slower",
    "NUMBA_BOUNDSCHECK": "kernels check every index, on one thread and without vector instructions",
    "NUMBA_OPT": "kernels are optimised less than they could be, where it is below 3",
    "NUMBA_CPU_NAME": "kernels are compiled for that processor, whatever this one could do better",
    "NUMBA_CPU_FEATURES": "kernels use those instructions alone",
    "NUMBA_DEBUGINFO": "kernels carry what debuggers read, and are optimised less",
}
OFF = {"NUMBA_DISABLE_JIT": ("0",), "NUMBA_BOUNDSCHECK": ("0",), "NUMBA_OPT": ("3", "max"), "NUMBA_DEBUGINFO": ("0",)}


def examine() -> dict[str, Any]:
    """Describe what kernels are compiled for and run on, ready for JSON."""
    settings: Any = numba.config
    features = llvmlite.binding.get_host_cpu_features()
    return {
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "processor": llvmlite.binding.get_host_cpu_name(),
        "features": sorted(name for name, there in features.items() if there),
        "vector": f"{_instructions.LANES} float32",
        "threads": numba.get_num_threads(),
        "threads at most": settings.NUMBA_NUM_THREADS,
        "threading layer": _threading_layer(),
    }


def cache() -> Path | None:
    """Return the folder in which machine code is kept between runs; None if it cannot be kept."""
    return _cache.cache_directory()


def fullness() -> dict[str, int] | None:
    """Return how many functions the cache has, their bytes, and the free bytes of its file system."""
    directory = cache()
    if directory is None:
        return None
    sizes = [file.stat().st_size for file in directory.iterdir() if file.is_file()]
    return {"functions": len(sizes), "bytes": sum(sizes), "free_bytes": shutil.disk_usage(directory).free}


def throttles(environ: Mapping[str, str]) -> list[Throttle]:
    """List the settings in the environment that make kernels slower than they could be here."""
    found = [
        Throttle(f"{name}={environ[name]}", cost, f"unset {name}")
        for name, cost in SLOW.items()
        if environ.get(name) and environ[name] not in OFF.get(name, ())
    ]
    settings: Any = numba.config
    if physical_cores() > settings.NUMBA_NUM_THREADS:
        limit = environ.get("NUMBA_NUM_THREADS", str(settings.NUMBA_NUM_THREADS))
        cost = f"kernels run on at most {settings.NUMBA_NUM_THREADS} of {physical_cores()} cores"
        found.append(Throttle(f"NUMBA_NUM_THREADS={limit}", cost, "unset NUMBA_NUM_THREADS"))
    return found


def _threading_layer() -> str:
    untyped: Any = numba
    untyped.get_num_threads()  # starts the threads, and with them the layer
    return str(untyped.threading_layer())
