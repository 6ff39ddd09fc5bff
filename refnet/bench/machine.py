"""The measured peak speed of this machine, and the fingerprint that shows whether two runs can be compared."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from refnet.bench.timing import timed
from refnet.machine import environment
from refnet.machine.environment import BLAS_CHOICES, THREAD_LIMITS

MATRIX_SIZE = 2048  # rows and columns of the matrices: 17 GFLOP per product
COPIED_BYTES = 1 << 28  # more than any cache can hold
REPEATS = 5
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
    products = {"NumPy": _time_of_numpy_product(threads)}
    if has_torch():
        products["PyTorch"] = _time_of_torch_product(threads)
    best = min(products, key=lambda name: products[name])
    return Peak(2 * MATRIX_SIZE**3 / products[best], 2 * COPIED_BYTES / _time_of_copy(threads), best)


def has_torch() -> bool:
    """Return whether PyTorch can be imported, by importing it."""
    try:
        import torch  # noqa: F401, PLC0415 - it takes seconds, and most commands do not need it
    except (ImportError, OSError):  # OSError: a shared library cannot be loaded
        return False
    return True


def fingerprint(threads: Sequence[int], environ: dict[str, str]) -> dict[str, Any]:
    """Return everything that must be equal for two runs to be comparable. refnet's version may differ."""
    described = environment.describe()
    return {
        "processor": described["processor"],
        "cores": described["cores"],
        "physical cores": environment.physical_cores(),
        "threads": list(threads),
        "BLAS": [f"{pool['internal_api']} {pool['version']}" for pool in described["blas"]],
        "BLAS kernels": [pool["architecture"] for pool in described["blas"]],
        "python": described["python"],
        "numpy": described["numpy"],
        **{package: environment.installed(package) for package in PACKAGES},
        "variables": {
            name: environ[name]
            for name in sorted(environ)
            if name in {*BLAS_CHOICES, *THREAD_LIMITS} or name.startswith("NUMBA_")
        },
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the differences between two fingerprints, each as text with both values."""
    return [
        f"{item} was {before.get(item)!r} and is {after.get(item)!r}"
        for item in {**before, **after}
        if before.get(item) != after.get(item)
    ]


def _time_of_numpy_product(threads: int) -> float:
    a = np.ones((MATRIX_SIZE, MATRIX_SIZE), np.float32)
    out = np.empty_like(a)
    with threadpool_limits(threads, "blas"):
        return _best(lambda: np.matmul(a, a, out=out))


def _time_of_torch_product(threads: int) -> float:
    import torch  # noqa: PLC0415 - as above

    torch.set_num_threads(threads)
    a = torch.ones((MATRIX_SIZE, MATRIX_SIZE))
    out = torch.empty_like(a)
    return _best(lambda: torch.mm(a, a, out=out))


def _time_of_copy(threads: int) -> float:
    """Return the seconds of a copy of ``COPIED_BYTES``, of which each thread copies an equal part."""
    source = np.ones((threads, COPIED_BYTES // 8 // threads))
    target = np.empty_like(source)
    with ThreadPoolExecutor(threads) as pool:
        return _best(lambda: list(pool.map(np.copyto, target, source)))


def _best(work: Any) -> float:
    work()
    return min(timed(work) for _ in range(REPEATS))
