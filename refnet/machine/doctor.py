"""What this machine computes with, and what slows it down.

A backend that has more to tell than whether it can run has the power ``Examinable``
(:mod:`refnet.backend.powers`).
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refnet.backend.loading import available, load
from refnet.backend.powers import Doctor, Examinable
from refnet.backend.wrapped import unwrapped
from refnet.machine import environment
from refnet.machine.environment import Throttle
from refnet.terminal.spelling import setting, with_flags

QUOTA = Path("/sys/fs/cgroup/cpu.max")
TOOL_SECONDS = 20  # that a driver's own tool may take


@dataclass(frozen=True)
class Examination:
    """What this machine computes with.

    Attributes
    ----------
    surroundings
        Versions, processor, cores, matrix products.
    backends
        By name, None if it can run, otherwise the reason why it cannot.
    details
        By name, a backend's description of what it runs on.
    caches
        By name of a backend that keeps machine code, in which folder and how much; None if it cannot keep any.
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
    backends = available()
    able = [name for name, reason in backends.items() if reason is None]
    doctors = {name: doctor for name in able if (doctor := doctor_of(load(name)))}
    throttles = [*environment.throttles(environ), *_denied()]
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
    """Return what a backend describes itself with; None where it has nothing to tell."""
    inner = unwrapped(backend)
    return inner.doctor if isinstance(inner, Examinable) else None


def _cache(doctor: Doctor) -> dict[str, Any] | None:
    directory = doctor.cache()
    return None if directory is None else {"directory": str(directory), **(doctor.fullness() or {})}


def _denied() -> list[Throttle]:
    """List limits that the system or a container has set: fewer processors than there are, or a share of their time."""
    found = []
    mine, all_of_them = len(environment.cpus()), os.cpu_count() or 1
    if mine < all_of_them:
        cost = f"this process may run on {mine} of {all_of_them} processors"
        found.append(Throttle("CPU affinity", cost, "start it without taskset, or give the container more"))
    quota = _quota()
    if quota is not None and quota < environment.physical_cores():
        cost = f"all threads together get the time of {quota:g} processors"
        cure = f"raise the container's limit, or choose {setting('threads', max(1, int(quota)))}"
        found.append(Throttle(f"CPU quota of {quota:g}", cost, cure))
    return found


def _quota() -> float | None:
    """Return how many processors' time this control group gets; None if it is not limited."""
    try:
        limit, period = QUOTA.read_text(encoding="ascii").split()
        return int(limit) / int(period)
    except (OSError, ValueError):  # ValueError: "max"
        return None


def _gpus() -> list[str]:
    """Return what NVIDIA's own tool reports, if it is installed."""
    question = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    if not shutil.which(question[0]):
        return []
    try:
        told = subprocess.run(question, capture_output=True, text=True, timeout=TOOL_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []  # the tool without a card or a driver
    return [line.strip() for line in told.stdout.splitlines() if line.strip()]
