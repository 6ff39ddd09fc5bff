"""Calls of elementwise kernels: each result depends only on the numbers at the same index of the arguments.

Such a kernel is one ``prange`` loop over flat arrays, so that every thread computes a run of adjacent numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet_numba import _memory

Floats = npt.NDArray[np.float32]


def run(kernel: Callable[..., None], *arrays: Floats, scalars: Sequence[Any] = ()) -> Floats:
    """Return the result of a kernel on arrays of one shape; the result has the same shape.

    The kernel's arguments are the flattened arrays, the scalars, and the flattened result, which it writes.
    """
    _memory.require(*arrays)
    result = _memory.empty(arrays[0].shape)
    kernel(*(a.reshape(-1) for a in arrays), *scalars, result.reshape(-1))
    return result
