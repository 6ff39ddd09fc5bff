"""The measured peak speed of this machine, and the fingerprint that makes figures of two runs comparable."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from refnet.bench.timing import timed
from refnet.machine import environment
from refnet.machine.environment import BLAS_CHOICES, THREAD_LIMITS

SIDE = 2048  # rows and columns of the matrices: 17 GFLOP per product
COPIED = 1 << 28  # bytes, more than any cache can hold
TRIES = 5
PACKAGES = ("numba", "llvmlite", "torch")


@dataclass(frozen=True)
class Peak:
    """The highest speeds that were measured.

    Attributes
    ----------
    flops
        Floating-point operations per second in a float32 product of large matrices.
    bandwidth
        Bytes per second, read and written, in a copy of a large array.
    product
        The library whose product was fastest.
    """

    flops: float
    bandwidth: float
    product: str

    def seconds(self, flops: float, nbytes: float) -> float:
        """Return the seconds that work takes if only arithmetic or only memory limits it, whichever is longer."""
        return max(flops / self.flops, nbytes / self.bandwidth)

    def as_dict(self) -> dict[str, Any]:
        """Return keys and values for JSON."""
        return asdict(self)


def measure(threads: int) -> Peak:
    """Measure and return the peaks. If PyTorch is installed it is imported, and its product is measured too."""
    products = {"NumPy": _numpys(threads)}
    if has_torch():
        products["PyTorch"] = _torchs(threads)
    best = min(products, key=lambda name: products[name])
    return Peak(2 * SIDE**3 / products[best], 2 * COPIED / _copy(threads), best)


def has_torch() -> bool:
    """Return whether PyTorch can be imported, by importing it."""
    try:
        import torch  # noqa: F401, PLC0415 - it takes seconds, and most commands do not need it
    except (ImportError, OSError):  # OSError: its libraries cannot be loaded
        return False
    return True


def fingerprint(threads: Sequence[int], environ: dict[str, str]) -> dict[str, Any]:
    """Return everything that must be equal for figures to be comparable, except refnet's version, which is compared."""
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
    """Return the differences between two fingerprints, each as text with both values."""
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
    """Return the seconds of a copy in which each thread copies a part."""
    source = np.ones((threads, COPIED // 8 // threads))
    target = np.empty_like(source)
    with ThreadPoolExecutor(threads) as pool:
        return _best(lambda: list(pool.map(np.copyto, target, source)))


def _best(work: Any) -> float:
    work()
    return min(timed(work) for _ in range(TRIES))
