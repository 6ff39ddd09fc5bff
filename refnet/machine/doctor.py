"""What this machine computes with, and what slows it down.

A backend that can describe what it runs on has the capability ``Examinable`` (:mod:`refnet.backend.capabilities`).
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refnet.backend.capabilities import Doctor, Examinable
from refnet.backend.loading import available, load
from refnet.backend.wrapped import unwrapped
from refnet.machine import environment
from refnet.machine.environment import Throttle
from refnet.terminal.spelling import setting, with_flags

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of control groups, version 2: the limit and the period
OLD_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")  # version 1
TOOL_SECONDS = 20  # time limit of the driver's own tool


@dataclass(frozen=True)
class Examination:
    """What this machine computes with.

    Attributes
    ----------
    surroundings
        Versions, processor, cores, libraries of matrix products.
    backends
        By name of a backend, None if it can run, otherwise the reason why it cannot.
    details
        By name of a backend, its description of what it runs on.
    caches
        By name of a backend, the folder of its cached machine code and what is in it; None if it cannot cache any.
    gpus
        Names of the GPUs that a driver reports.
    throttles
        What makes this process slower than the machine could be.
    """

    surroundings: Mapping[str, Any]
    backends: Mapping[str, str | None]
    details: Mapping[str, Mapping[str, Any]]
    caches: Mapping[str, Mapping[str, Any] | None]
    gpus: tuple[str, ...]
    throttles: tuple[Throttle, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {**asdict(self), "throttles": [{**asdict(t), "cure": with_flags(t.cure)} for t in self.throttles]}


def examine(environ: Mapping[str, str]) -> Examination:
    """Return what this machine computes with, and what slows it down."""
    backends = available(with_flags)
    working = [name for name, reason in backends.items() if reason is None]
    doctors = {name: doctor for name in working if (doctor := doctor_of(load(name)))}
    throttles = [*environment.throttles(environ), *_limits()]
    for doctor in doctors.values():
        throttles += doctor.throttles(environ)
    return Examination(
        environment.describe() | {"physical cores": environment.physical_cores()},
        backends,
        {name: doctor.examine() for name, doctor in doctors.items()},
        {name: _cache(doctor) for name, doctor in doctors.items()},
        tuple(_gpus()),
        tuple(throttles),
    )


def doctor_of(backend: object) -> Doctor | None:
    """Return the functions with which a backend describes what it runs on; None if it has none."""
    inner = unwrapped(backend)
    return inner.doctor if isinstance(inner, Examinable) else None


def _cache(doctor: Doctor) -> dict[str, Any] | None:
    directory = doctor.cache()
    return None if directory is None else {"directory": str(directory), **(doctor.fullness() or {})}


def _limits() -> list[Throttle]:
    """List the limits that the system or a container sets: on the number of processors, or on their time."""
    limits = []
    allowed, total = len(environment.cpus()), os.cpu_count() or 1
    if allowed < total:
        cost = f"this process may run on {allowed} of {total} processors"
        limits.append(
            Throttle("CPU affinity", cost, "start refnet without taskset, or give the container more processors")
        )
    quota = _quota()
    if quota is not None and quota < environment.physical_cores():
        cost = f"all threads together get the processor time of {quota:g} processors"
        cure = f"raise the container's limit, or choose {setting('threads', max(1, int(quota)))}"
        limits.append(Throttle(f"CPU quota of {quota:g}", cost, cure))
    return limits


def _quota() -> float | None:
    """Return the processor time of this control group, in processors; None if it is not limited."""
    try:
        files = (QUOTA,) if QUOTA.exists() else OLD_QUOTA
        limit, period = " ".join(file.read_text(encoding="ascii") for file in files).split()
        return int(limit) / int(period) if int(limit) > 0 else None  # version 1 writes no limit as -1
    except (OSError, ValueError):  # ValueError: version 2 writes no limit as "max"
        return None


def _gpus() -> list[str]:
    """Return a line for each GPU that NVIDIA's tool reports; empty if it is not installed."""
    command = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    if not shutil.which(command[0]):
        return []
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []  # there is no card or no driver
    return [line.strip() for line in result.stdout.splitlines() if line.strip()]
