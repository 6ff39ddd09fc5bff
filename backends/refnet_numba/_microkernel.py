"""The innermost loops of convolution, as vector instructions that Numba would not find by itself.

``tile`` is an outer product: rows of a (one number each) times vectors of b, summed in registers over k. ``dots`` is an
inner product: rows of a times rows of b, summed along both. Each is written once as a loop nest in plain Python, which
says what it computes (and runs under ``NUMBA_DISABLE_JIT=1``), and once as LLVM instructions, whose blocks of registers
are chosen from what the processor has: see ``BLOCKS``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding
import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from refnet_numba._jit import serial

Floats = npt.NDArray[np.float32]


class Block(NamedTuple):
    """How many numbers a vector register holds, and how many registers a kernel's block of sums takes.

    The sums of ``tile`` (rows x vectors), with `vectors` of b and one number of a, must fit in the register file; so
    must those of ``dots`` (side x side), with `side` of a and one of b.
    """

    lanes: int
    rows: int
    vectors: int
    side: int


BLOCKS = {
    "avx512f": Block(lanes=16, rows=14, vectors=2, side=5),  # 32 registers
    "avx2": Block(lanes=8, rows=6, vectors=2, side=3),  # 16 registers
    "neon": Block(lanes=4, rows=14, vectors=2, side=5),  # 32 registers
    "": Block(lanes=4, rows=6, vectors=2, side=3),  # any other
}
FEATURES = llvmlite.binding.get_host_cpu_features()
LANES, ROWS, VECTORS, SIDE = next(block for feature, block in BLOCKS.items() if not feature or FEATURES.get(feature))
WIDTH = LANES * VECTORS
PITCH = WIDTH + LANES  # of b's rows: room for the vector that a copy may write beyond its end

_FLOAT, _INT = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)


def _plain_tile(a: Floats, ao: int, rows: int, b: Floats, bo: int, vectors: int, c: Floats, co: int, k: int) -> None:
    """Add to c (rows, WIDTH) the product of a (k, rows) transposed and the first `vectors` vectors of b (k, PITCH).

    All three are stored row by row from their offsets ao, bo, co. 1 <= rows <= ROWS, 1 <= vectors <= VECTORS.
    """
    for i in range(rows):
        for j in range(vectors * LANES):
            total = np.float32(0)
            for t in range(k):
                total += a[ao + t * rows + i] * b[bo + t * PITCH + j]
            c[co + i * WIDTH + j] += total


def _plain_dots(a: Floats, ao: int, b: Floats, bo: int, b_row: int, count: int, c: Floats, co: int) -> None:
    """Add to c (SIDE, SIDE, LANES) the products of SIDE rows of a with SIDE rows of b, each `count` vectors long.

    a is stored vector by vector, (count, SIDE, LANES), b row by row, `b_row` numbers apart. Lane l gathers the products
    of lane l of each vector; the sum over lanes is left to who calls.
    """
    for i in range(SIDE):
        for j in range(SIDE):
            for lane in range(LANES):
                total = np.float32(0)
                for t in range(count):
                    total += a[ao + (t * SIDE + i) * LANES + lane] * b[bo + j * b_row + t * LANES + lane]
                c[co + (i * SIDE + j) * LANES + lane] += total


def _plain_copy(target: Floats, to: int, source: Floats, at: int) -> None:
    """Copy one vector, LANES numbers."""
    target[to : to + LANES] = source[at : at + LANES]


class _Emit:
    """LLVM instructions by short names."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder = context, builder
        self.types, self.values = signature.args, arguments

    def array(self, position: int, offset: Any) -> Any:
        """Point into the array that is the argument at a position."""
        array = self.context.make_array(self.types[position])(self.context, self.builder, self.values[position])
        return self.builder.gep(array.data, [offset])

    def int(self, value: int) -> Any:
        return ir.Constant(_INT, value)

    def at(self, pointer: Any, *offsets: Any) -> Any:
        for offset in offsets:
            pointer = self.builder.gep(pointer, [offset])
        return pointer

    def vector(self, pointer: Any) -> Any:
        return self.builder.bitcast(pointer, _VECTOR.as_pointer())

    def load(self, pointer: Any) -> Any:
        return self.builder.load(self.vector(pointer), align=4)

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, self.vector(pointer), align=4)

    def splat(self, number: Any) -> Any:
        undefined, first = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(self.builder.insert_element(undefined, number, first), undefined, lanes)

    def call(self, name: str, result: Any, *arguments: Any, **flags: Any) -> Any:
        """Call one of LLVM's own functions, by the name it has for these vectors."""
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, [a.type for a in arguments]), name)
        return self.builder.call(function, arguments, **flags)

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        return self.call(f"llvm.fma.v{LANES}f32", _VECTOR, x, y, z)

    def block(self, name: str) -> Any:
        return self.builder.append_basic_block(name)

    def loop(self, count: Any, start: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Carry values through `count` >= 1 rounds of a body; return what the last round made of them."""
        builder, before, again, after = self.builder, self.builder.block, self.block("loop"), self.block("after")
        builder.branch(again)
        builder.position_at_end(again)
        index = builder.phi(_INT)
        carried = [builder.phi(value.type) for value in start]
        made = body(index, carried)
        following = builder.add(index, self.int(1))
        last = builder.block  # the body may have made blocks of its own
        for phi, first, then in zip([index, *carried], [self.int(0), *start], [following, *made], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(then, last)
        builder.cbranch(builder.icmp_signed("<", following, count), again, after)
        builder.position_at_end(after)
        return made


@intrinsic
def _emitted_tile(
    _: Any, a: Any, ao: Any, rows: Any, b: Any, bo: Any, vectors: Any, c: Any, co: Any, k: Any
) -> tuple[Any, Any]:
    """Emit ``_plain_tile``: one loop over k for each number of rows and vectors, and a switch to it."""
    long = types.int64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = _Emit(context, builder, signature, arguments)
        _, ao, rows, _, bo, vectors, _, co, k = arguments
        a, b, c = emit.array(0, ao), emit.array(3, bo), emit.array(6, co)
        done = emit.block("done")
        which = builder.add(builder.mul(rows, emit.int(VECTORS)), vectors)
        switch = builder.switch(which, done)
        for height in range(1, ROWS + 1):
            for width in range(1, VECTORS + 1):
                block = emit.block(f"tile{height}x{width}")
                switch.add_case(emit.int(height * VECTORS + width), block)
                builder.position_at_end(block)
                _tile_of(emit, a, b, c, k, height, width)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(a, long, long, b, long, long, c, long, long), generate


def _tile_of(emit: _Emit, a: Any, b: Any, c: Any, k: Any, rows: int, vectors: int) -> None:
    places = [
        emit.at(c, emit.int(i * WIDTH + j * LANES)) for i in range(rows) for j in range(vectors)
    ]  # fmt: skip

    def body(t: Any, sums: list[Any]) -> list[Any]:
        a_row = emit.at(a, emit.builder.mul(t, emit.int(rows)))
        b_row = emit.at(b, emit.builder.mul(t, emit.int(PITCH)))
        right = [emit.load(emit.at(b_row, emit.int(j * LANES))) for j in range(vectors)]
        made = []
        for i in range(rows):
            left = emit.splat(emit.builder.load(emit.at(a_row, emit.int(i))))
            made += [emit.multiply_add(left, right[j], sums[i * vectors + j]) for j in range(vectors)]
        return made

    # The sums start from zero and meet what is there at the end: a sum of short sums is more exact than a long one.
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    for value, place in zip(emit.loop(k, [zero] * len(places), body), places, strict=True):
        emit.store(emit.builder.fadd(emit.load(place), value), place)


@intrinsic
def _emitted_dots(_: Any, a: Any, ao: Any, b: Any, bo: Any, b_row: Any, count: Any, c: Any, co: Any) -> tuple[Any, Any]:
    """Emit ``_plain_dots``."""
    long = types.int64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = _Emit(context, builder, signature, arguments)
        _, ao, _, bo, b_row, count, _, co = arguments
        a, b, c = emit.array(0, ao), emit.array(2, bo), emit.array(6, co)
        rows = [emit.at(b, builder.mul(b_row, emit.int(j))) for j in range(SIDE)]

        def body(t: Any, sums: list[Any]) -> list[Any]:
            vector = emit.at(a, builder.mul(t, emit.int(SIDE * LANES)))
            along = builder.mul(t, emit.int(LANES))
            left = [emit.load(emit.at(vector, emit.int(i * LANES))) for i in range(SIDE)]
            made = list(sums)
            for j in range(SIDE):
                right = emit.load(emit.at(rows[j], along))
                for i in range(SIDE):
                    made[i * SIDE + j] = emit.multiply_add(left[i], right, sums[i * SIDE + j])
            return made

        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        for place, value in enumerate(emit.loop(count, [zero] * (SIDE * SIDE), body)):
            at = emit.at(c, emit.int(place * LANES))
            emit.store(builder.fadd(emit.load(at), value), at)
        return context.get_dummy_value()

    return types.void(a, long, b, long, long, long, c, long), generate


@intrinsic
def _emitted_copy(_: Any, target: Any, to: Any, source: Any, at: Any) -> tuple[Any, Any]:
    """Emit ``_plain_copy``: one load, one store."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = _Emit(context, builder, signature, arguments)
        emit.store(emit.load(emit.array(2, arguments[3])), emit.array(0, arguments[1]))
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), generate


_SETTINGS: Any = numba.config
# Bounds are checked in the plain texts alone: vector instructions know no array's end.
_PLAIN = bool(_SETTINGS.DISABLE_JIT or _SETTINGS.BOUNDSCHECK)
tile: Callable[..., None] = serial(_plain_tile) if _PLAIN else _emitted_tile
dots: Callable[..., None] = serial(_plain_dots) if _PLAIN else _emitted_dots
copy: Callable[..., None] = serial(_plain_copy) if _PLAIN else _emitted_copy
