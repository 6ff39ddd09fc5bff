"""The micro-kernels: the innermost loops of the large ops, as vector instructions that Numba would not generate.

- ``tile`` adds a small matrix product a b to c. Its sums stay in registers; a single number of a multiplies vectors of
  b. It is used by conv2d and linear.
- ``transpose`` transposes a square block of LANES x LANES numbers. It is used to copy arrays into other layouts.
- ``best`` finds the largest of several numbers and its position. It is used by maxpool.

Each is written twice: here as loops in plain Python, which define it (and run under ``NUMBA_DISABLE_JIT=1``), and as
LLVM instructions in :mod:`refnet_numba._instructions`. Arguments are flat arrays, each followed by the index where its
data begin: `ao` for a, `bo` for b, `so` for source and so on.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from refnet_numba import _jit
from refnet_numba._instructions import BEST, LANES, TILE, TRANSPOSE, VECTORS, declare, link

WIDTH = LANES * VECTORS

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int32]


def _plain_tile(
    a: Floats, ao: int, a_row: int, a_outer: int, a_inner: int, rows: int,
    b: Floats, bo: int, b_outer: int, b_inner: int, vectors: int,
    c: Floats, co: int, c_row: int, outer: int, inner: int,
) -> None:  # fmt: skip
    """Add a matrix product to c (rows, vectors * LANES).

    The number in row i and column j of c, ``c[co + i*c_row + j]``, is increased by the sum, over o < outer and
    t < inner, of ``a[ao + i*a_row + o*a_outer + t*a_inner] * b[bo + o*b_outer + t*b_inner + j]``. So the summed axis
    consists of `outer` pieces of `inner` numbers each. All counts are at least 1; `rows` is at most ROWS and `vectors`
    at most VECTORS.
    """
    for i in range(rows):
        for j in range(vectors * LANES):
            total = np.float32(0)
            for o in range(outer):
                for t in range(inner):
                    total += a[ao + i * a_row + o * a_outer + t * a_inner] * b[bo + o * b_outer + t * b_inner + j]
            c[co + i * c_row + j] += total


def _plain_transpose(source: Floats, so: int, pitch: int, target: Floats, to: int, offsets: Ints, first: int) -> None:
    """Write the transpose of LANES rows of LANES numbers; the rows of the source are `pitch` numbers apart.

    Column j of the source becomes a row of the target, which begins at index to + offsets[first + j].
    """
    for i in range(LANES):
        for j in range(LANES):
            target[to + offsets[first + j] + i] = source[so + i * pitch + j]


def _plain_best(
    values: Floats, vo: int, step: int,
    positions: Positions, po: int, position_step: int, increment: int, count: int,
    best: Floats, bo: int, which: Positions, wo: int, vectors: int,
) -> None:  # fmt: skip
    """Write the largest of `count` >= 2 numbers, and its position, for each j < vectors * LANES.

    Number o is ``values[vo + o*step + j]``, and its position is ``positions[po + o*position_step + j] + o*increment``.
    Of equal numbers, the one with the smallest position counts as the largest. NaN counts as larger than every number.
    """
    for j in range(vectors * LANES):
        largest, winner = values[vo + j], positions[po + j]
        for o in range(1, count):
            value = values[vo + o * step + j]
            position = np.int32(positions[po + o * position_step + j] + o * increment)
            is_nan, largest_is_nan = value != value, largest != largest  # noqa: PLR0124
            equal = value == largest or (is_nan and largest_is_nan)
            if value > largest or (is_nan and not largest_is_nan) or (equal and position < winner):
                largest, winner = value, position
        best[bo + j], which[wo + j] = largest, winner


def _call(interface: tuple[str, list[Any]], context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Emit a call of one of the LLVM functions; an array and the offset after it become one pointer."""
    link()
    name, llvm_types = interface
    pairs, passed = iter(zip(signature.args, arguments, strict=True)), []
    for numba_type, value in pairs:
        if isinstance(numba_type, types.Array):
            data = context.make_array(numba_type)(context, builder, value).data
            _, offset = next(pairs)
            passed.append(builder.gep(data, [offset]))
        else:
            passed.append(value)
    builder.call(declare(builder.module, name, ir.VoidType(), llvm_types), passed)
    return context.get_dummy_value()


@intrinsic
def _called_tile(
    _: Any,
    a: Any, ao: Any, a_row: Any, a_outer: Any, a_inner: Any, rows: Any,
    b: Any, bo: Any, b_outer: Any, b_inner: Any, vectors: Any,
    c: Any, co: Any, c_row: Any, outer: Any, inner: Any,
) -> tuple[Any, Any]:  # fmt: skip
    long = types.int64
    return types.void(a, *[long] * 5, b, *[long] * 4, c, *[long] * 4), partial(_call, TILE)


@intrinsic
def _called_transpose(
    _: Any, source: Any, so: Any, pitch: Any, target: Any, to: Any, offsets: Any, first: Any
) -> tuple[Any, Any]:
    long = types.int64
    return types.void(source, long, long, target, long, offsets, long), partial(_call, TRANSPOSE)


@intrinsic
def _called_best(
    _: Any,
    values: Any, vo: Any, step: Any,
    positions: Any, po: Any, position_step: Any, increment: Any, count: Any,
    best: Any, bo: Any, which: Any, wo: Any, vectors: Any,
) -> tuple[Any, Any]:  # fmt: skip
    long = types.int64
    return types.void(values, long, long, positions, *[long] * 4, best, long, which, long, long), partial(_call, BEST)


_SETTINGS: Any = numba.config
# NUMBA_BOUNDSCHECK needs the loops in plain Python: vector instructions do not know where an array ends.
_PLAIN = bool(_SETTINGS.DISABLE_JIT or _SETTINGS.BOUNDSCHECK)
tile: Callable[..., None] = _jit.serial(_plain_tile) if _PLAIN else _called_tile
transpose: Callable[..., None] = _jit.serial(_plain_transpose) if _PLAIN else _called_transpose
best: Callable[..., None] = _jit.serial(_plain_best) if _PLAIN else _called_best
