"""Kernels that treat every number alone, or beside those at the same place of other arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet_numba import _memory

Floats = npt.NDArray[np.float32]


def run(kernel: Callable[..., None], *arrays: Floats, others: Sequence[Any] = ()) -> Floats:
    """Give what a kernel makes of arrays of one shape; it takes them flat, then the others, then where to write."""
    _memory.require(*arrays)
    result = _memory.empty(arrays[0].shape)
    kernel(*(a.reshape(-1) for a in arrays), *others, result.reshape(-1))
    return result
