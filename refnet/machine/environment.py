"""What a run computes with: versions, processor, cores, the BLAS behind NumPy, and what slows it down."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

from refnet.machine.version import __version__
from refnet.terminal.spelling import setting

# Environment variables that limit the threads of NumPy's matrix products, and those that choose OpenBLAS kernels.
THREAD_LIMITS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
BLAS_CHOICES = {
    "OPENBLAS_CORETYPE": "OpenBLAS uses kernels written for that processor, which may not be the fastest here",
    "OPENBLAS_L2_SIZE": "OpenBLAS blocks matrix products for a cache of that size, which may not be the one here",
}

PACKAGES = ("numba", "llvmlite", "triton", "torch")  # libraries that may compute instead of NumPy


@dataclass(frozen=True)
class Throttle:
    """Something that makes this process slower than the machine.

    Attributes
    ----------
    what
        The setting, with its value.
    cost, cure
        What it costs and how to fix it, in words; `cure` may name settings (:func:`refnet.terminal.spelling.setting`).
    """

    what: str
    cost: str
    cure: str


def describe() -> dict[str, Any]:
    """Return the versions, processor and BLAS of this process, ready for JSON."""
    return {
        "refnet": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "packages": {name: number for name in PACKAGES if (number := installed(name))},
        "system": platform.platform(),
        "processor": processor(),
        "cores": len(cpus()),
        "blas": blas(),
    }


def blas() -> list[dict[str, Any]]:
    """List the libraries of NumPy's matrix products in this process, each with its kernels and threads.

    Other packages may load libraries of their own, which refnet does not use. If NumPy was installed with its library,
    that library is recognised by its folder, and only it is listed; otherwise all are.
    """
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool.get("user_api") == "blas"]
    own = [pool for pool in pools if "numpy.libs" in Path(pool["filepath"]).parts]
    return [
        {key: pool.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
        for pool in own or pools
    ]


def cpus() -> list[int]:
    """List the processors that this process may run on; two hyper-threads of one core are two."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def physical_cores(topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """Count the cores that this process may run on; the hyper-threads of one core are one.

    Two hyper-threads share the multipliers of their core, so the second one does not make a matrix product faster. If
    the system does not list which processors belong to one core (`topology` is Linux's list), each counts as a core.
    """
    cores = set()
    for cpu in cpus():
        try:
            cores.add((topology / f"cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii").strip())
        except OSError:
            cores.add(f"cpu {cpu}")
    return len(cores)


def processor() -> str:
    """Return the name of the processor."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def installed(package: str) -> str | None:
    """Return the version of a package without importing it; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def throttles(environ: Mapping[str, str], threads: int | None = None) -> list[Throttle]:
    """List the environment variables that make NumPy's matrix products slower than they could be here.

    Parameters
    ----------
    threads
        Number of threads that the run sets, which overrides every variable; None if BLAS chooses it.
    """
    listed = [
        Throttle(f"{name}={environ[name]}", cost, f"unset {name}")
        for name, cost in BLAS_CHOICES.items()
        if environ.get(name)
    ]
    cores = physical_cores()
    for name in THREAD_LIMITS if threads is None else ():
        text = environ.get(name, "")
        if text.isdecimal() and 0 < int(text) < cores:
            cost = f"matrix products use {text} of {cores} cores"
            listed.append(Throttle(f"{name}={text}", cost, f"unset {name}, or set more with {setting('threads')}"))
    return listed


def note(environ: Mapping[str, str], threads: int | None = None) -> str | None:
    """Return one line with every item of :func:`throttles`; None if there are none."""
    costs = [f"{throttle.what}: {throttle.cost}" for throttle in throttles(environ, threads)]
    return f"note: {'; '.join(costs)} (refnet doctor explains how to change it)" if costs else None
