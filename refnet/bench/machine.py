"""What the machine could do, measured, and the fingerprint without which figures cannot be compared."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from refnet.bench.timing import timed
from refnet.machine import environment
from refnet.machine.environment import BLAS_CHOICES, THREAD_LIMITS

SIDE = 2048  # of the square matrices: 17 GFLOP
COPIED = 1 << 28  # bytes, more than any cache holds
TRIES = 5
PACKAGES = ("numba", "llvmlite", "torch")


@dataclass(frozen=True)
class Peak:
    """The most that was measured.

    Attributes
    ----------
    flops
        Floating-point operations a second in a float32 product of large matrices.
    bandwidth
        Bytes a second, read and written, in a copy of a large array.
    product
        Whose product it was.
    """

    flops: float
    bandwidth: float
    product: str

    def seconds(self, flops: float, nbytes: float) -> float:
        """Tell how long work takes that is limited by arithmetic or by memory alone, whichever takes longer."""
        return max(flops / self.flops, nbytes / self.bandwidth)

    def as_dict(self) -> dict[str, Any]:
        """Give keys and values for JSON."""
        return asdict(self)


def measure(threads: int) -> Peak:
    """Measure the peaks, with PyTorch's product too where PyTorch is installed (it is imported)."""
    products = {"NumPy": _numpys(threads)}
    if has_torch():
        products["PyTorch"] = _torchs(threads)
    best = min(products, key=lambda name: products[name])
    return Peak(2 * SIDE**3 / products[best], 2 * COPIED / _copy(threads), best)


def has_torch() -> bool:
    """Tell whether PyTorch can be imported, by importing it."""
    try:
        import torch  # noqa: F401, PLC0415 - it takes seconds, and most commands do without
    except (ImportError, OSError):  # OSError: its libraries cannot be loaded
        return False
    return True


def fingerprint(threads: Sequence[int], environ: dict[str, str]) -> dict[str, Any]:
    """Tell all that makes figures of two runs comparable, but for refnet itself: that is what one compares."""
    found = environment.describe()
    return {
        "processor": found["processor"],
        "cores": found["cores"],
        "physical cores": environment.physical_cores(),
        "threads": list(threads),
        "BLAS": [f"{pool['internal_api']} {pool['version']}" for pool in found["blas"]],
        "BLAS kernels": [pool["architecture"] for pool in found["blas"]],
        "python": found["python"],
        "numpy": found["numpy"],
        **{package: environment.installed(package) for package in PACKAGES},
        "variables": {
            name: environ[name]
            for name in sorted(environ)
            if name in {*BLAS_CHOICES, *THREAD_LIMITS} or name.startswith("NUMBA_")
        },
    }


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say in which points two fingerprints differ, with both values."""
    return [
        f"{point} was {then.get(point)!r} and is {now.get(point)!r}"
        for point in {**then, **now}
        if then.get(point) != now.get(point)
    ]


def _numpys(threads: int) -> float:
    a = np.ones((SIDE, SIDE), np.float32)
    out = np.empty_like(a)
    with threadpool_limits(threads, "blas"):
        return _best(lambda: np.matmul(a, a, out=out))


def _torchs(threads: int) -> float:
    import torch  # noqa: PLC0415 - as above

    torch.set_num_threads(threads)
    a = torch.ones((SIDE, SIDE))
    out = torch.empty_like(a)
    return _best(lambda: torch.mm(a, a, out=out))


def _copy(threads: int) -> float:
    """Time a copy that each thread does a part of."""
    source = np.ones((threads, COPIED // 8 // threads))
    target = np.empty_like(source)
    with ThreadPoolExecutor(threads) as pool:
        return _best(lambda: list(pool.map(np.copyto, target, source)))


def _best(work: Any) -> float:
    work()
    return min(timed(work) for _ in range(TRIES))
