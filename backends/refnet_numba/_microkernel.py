"""The innermost loops of the large ops, as vector instructions that Numba would not generate by itself.

``tile`` is a small matrix product that keeps its sums in registers and multiplies single numbers of a with vectors of
b. ``transpose`` transposes a square block of numbers. ``best`` returns the largest of some numbers and its index. Each
is written twice: here as a loop nest in plain Python, which defines it (and runs under ``NUMBA_DISABLE_JIT=1``), and as
LLVM instructions in :mod:`refnet_numba._instructions`.
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
Places = npt.NDArray[np.int32]


def _plain_tile(
    a: Floats, ao: int, a_row: int, a_outer: int, a_inner: int, rows: int,
    b: Floats, bo: int, b_outer: int, b_inner: int, vectors: int,
    c: Floats, co: int, c_row: int, outer: int, inner: int,
) -> None:  # fmt: skip
    """Add a matrix product to c (rows, vectors * LANES).

    Row i and column j of c is increased by the sum, over o < outer and t < inner, of
    ``a[ao + i*a_row + o*a_outer + t*a_inner] * b[bo + o*b_outer + t*b_inner + j]``.
    All counts are at least 1; `rows` is at most ROWS and `vectors` at most VECTORS.
    """
    for i in range(rows):
        for j in range(vectors * LANES):
            total = np.float32(0)
            for o in range(outer):
                for t in range(inner):
                    total += a[ao + i * a_row + o * a_outer + t * a_inner] * b[bo + o * b_outer + t * b_inner + j]
            c[co + i * c_row + j] += total


def _plain_transpose(source: Floats, at: int, pitch: int, target: Floats, to: int, places: Ints, first: int) -> None:
    """Write the transpose of LANES rows, `pitch` apart, of LANES numbers: column j goes to to + places[first + j]."""
    for i in range(LANES):
        for j in range(LANES):
            target[to + places[first + j] + i] = source[at + i * pitch + j]


def _plain_best(
    values: Floats, vo: int, step: int, places: Places, po: int, place_step: int, rise: int, count: int,
    best: Floats, bo: int, at: Places, ao: int, vectors: int,
) -> None:  # fmt: skip
    """Write the largest of `count` >= 2 numbers that are `step` apart, and its place, for vectors * LANES starts j.

    The place of number o is ``places[po + o*place_step + j] + o*rise``. Of equal numbers the one with the smallest
    place counts as the largest. NaN counts as larger than every number.
    """
    for j in range(vectors * LANES):
        held, place = values[vo + j], places[po + j]
        for o in range(1, count):
            value, new = values[vo + o * step + j], np.int32(places[po + o * place_step + j] + o * rise)
            unordered, was_unordered = value != value, held != held  # noqa: PLR0124
            equal = value == held or (unordered and was_unordered)
            if value > held or (unordered and not was_unordered) or (equal and new < place):
                held, place = value, new
        best[bo + j], at[ao + j] = held, place


def _call(interface: tuple[str, list[Any]], context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Emit a call of one of the LLVM functions; an array and the offset after it become one pointer."""
    link()
    name, kinds = interface
    given, values = iter(zip(signature.args, arguments, strict=True)), []
    for kind, value in given:
        if isinstance(kind, types.Array):
            data = context.make_array(kind)(context, builder, value).data
            values.append(builder.gep(data, [next(given)[1]]))
        else:
            values.append(value)
    builder.call(declare(builder.module, name, ir.VoidType(), kinds), values)
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
    _: Any, source: Any, at: Any, pitch: Any, target: Any, to: Any, places: Any, first: Any
) -> tuple[Any, Any]:
    long = types.int64
    return types.void(source, long, long, target, long, places, long), partial(_call, TRANSPOSE)


@intrinsic
def _called_best(
    _: Any,
    values: Any, vo: Any, step: Any, places: Any, po: Any, place_step: Any, rise: Any, count: Any,
    best: Any, bo: Any, at: Any, ao: Any, vectors: Any,
) -> tuple[Any, Any]:  # fmt: skip
    long = types.int64
    return types.void(values, long, long, places, *[long] * 4, best, long, at, long, long), partial(_call, BEST)


_SETTINGS: Any = numba.config
# Bounds are checked only in plain Python: vector instructions do not know where an array ends.
_PLAIN = bool(_SETTINGS.DISABLE_JIT or _SETTINGS.BOUNDSCHECK)
tile: Callable[..., None] = _jit.serial(_plain_tile) if _PLAIN else _called_tile
transpose: Callable[..., None] = _jit.serial(_plain_transpose) if _PLAIN else _called_transpose
best: Callable[..., None] = _jit.serial(_plain_best) if _PLAIN else _called_best
