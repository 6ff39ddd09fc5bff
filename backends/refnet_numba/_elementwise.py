"""Calls of elementwise kernels: each result depends only on the numbers at the same index of the arguments."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet_numba import _memory

Floats = npt.NDArray[np.float32]


def run(kernel: Callable[..., None], *arrays: Floats, others: Sequence[Any] = ()) -> Floats:
    """Return the result of a kernel on arrays of one shape.

    The kernel is called with the arrays, flattened, then `others`, then the flattened array to write to.
    """
    _memory.require(*arrays)
    result = _memory.empty(arrays[0].shape)
    kernel(*(a.reshape(-1) for a in arrays), *others, result.reshape(-1))
    return result
