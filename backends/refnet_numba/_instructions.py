"""The LLVM instructions of the micro-kernels, which :mod:`refnet_numba._microkernel` defines in plain Python.

They are compiled here once, and kernels call them by name. A function that Numba compiles would be copied into every
kernel that calls it, and compiled three times for each kernel. The sizes of blocks depend on the processor's vector
instructions: see ``BLOCKS``.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir

from refnet_numba import _cache


class Block(NamedTuple):
    """The block of sums that ``tile`` keeps in registers: `rows` x `vectors` registers of `lanes` float32 each.

    Besides the sums, the registers must have room for `vectors` vectors of b and one repeated number of a.
    """

    lanes: int
    rows: int
    vectors: int


BLOCKS = {
    "avx512f": Block(lanes=16, rows=14, vectors=2),  # 32 registers
    "avx2": Block(lanes=8, rows=6, vectors=2),  # 16 registers
    "neon": Block(lanes=4, rows=14, vectors=2),  # 32 registers
    "": Block(lanes=4, rows=6, vectors=2),  # any other
}
FEATURES = llvm.get_host_cpu_features()
LANES, ROWS, VECTORS = next(block for feature, block in BLOCKS.items() if not feature or FEATURES.get(feature))
WIDTH = LANES * VECTORS

_FLOATS, _INT, _VECTOR = ir.FloatType().as_pointer(), ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
_POSITIONS = ir.IntType(32).as_pointer()


class _Emit:
    """Emit LLVM instructions: short names for those used below. A vector has LANES numbers."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def integer(self, value: int) -> Any:
        """Return a constant of 64 bits."""
        return ir.Constant(_INT, value)

    def address(self, pointer: Any, *offsets: Any) -> Any:
        """Return the pointer moved on by offsets, counted in numbers."""
        for offset in offsets:
            pointer = self.builder.gep(pointer, [offset])
        return pointer

    def to_vectors(self, pointer: Any) -> Any:
        """Return a pointer to numbers as a pointer to vectors."""
        return self.builder.bitcast(pointer, ir.VectorType(pointer.type.pointee, LANES).as_pointer())

    def load(self, pointer: Any) -> Any:
        """Return the vector at a pointer to numbers, which need not be aligned."""
        return self.builder.load(self.to_vectors(pointer), align=4)

    def store(self, value: Any, pointer: Any) -> None:
        """Write a vector to a pointer to numbers, which need not be aligned."""
        self.builder.store(value, self.to_vectors(pointer), align=4)

    def splat(self, number: Any) -> Any:
        """Return a vector that repeats one number."""
        undefined, first = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined), ir.Constant(ir.IntType(32), 0)
        return self.choose(self.builder.insert_element(undefined, number, first), undefined, [0] * LANES)

    def choose(self, a: Any, b: Any, lanes: list[int]) -> Any:
        """Return a vector of numbers picked by index from two vectors; LANES is the index of the first number of b."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes))

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """Return x * y + z for vectors, rounded once."""
        fused = declare(self.builder.module, f"llvm.fma.v{LANES}f32", _VECTOR, [_VECTOR] * 3)
        return self.builder.call(fused, [x, y, z])

    def new_block(self, name: str) -> Any:
        """Return a new basic block of the function."""
        return self.builder.append_basic_block(name)

    def loop(self, count: Any, start: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Emit a loop of `count` >= 1 rounds, and return the values after the last round.

        `start` are the values before the first round; ``body(index, values)`` emits one round and returns the next
        values.
        """
        builder = self.builder
        entry, loop, after = builder.block, self.new_block("loop"), self.new_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        index = builder.phi(_INT)
        values = [builder.phi(value.type) for value in start]
        next_values = body(index, values)
        next_index = builder.add(index, self.integer(1))
        end = builder.block  # the body may have added basic blocks
        initial, following = [self.integer(0), *start], [next_index, *next_values]
        for phi, first, later in zip([index, *values], initial, following, strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, end)
        builder.cbranch(builder.icmp_signed("<", next_index, count), loop, after)
        builder.position_at_end(after)
        return next_values


def declare(module: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Return the function of that name in an LLVM module, declared if the module does not have it yet."""
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


PREFIX = "refnet_microkernel_"  # of the functions' names in machine code
# Name of each function and types of its arguments: those in plain Python, but an array and its offset are one pointer.
TILE = f"{PREFIX}tile", [_FLOATS, *[_INT] * 4, _FLOATS, *[_INT] * 3, _FLOATS, *[_INT] * 3]
TRANSPOSE = f"{PREFIX}transpose", [_FLOATS, _INT, _FLOATS, _INT.as_pointer()]
BEST = f"{PREFIX}best", [_FLOATS, _INT, _POSITIONS, *[_INT] * 3, _FLOATS, _POSITIONS, _INT]


def _emit_tile(module: Any) -> None:
    """Emit ``_plain_tile``: two nested loops for each number of rows and vectors, and a switch that selects them."""
    function = declare(module, TILE[0], ir.VoidType(), TILE[1])
    builder = ir.IRBuilder(function.append_basic_block())
    emit = _Emit(builder)
    a, a_row, a_outer, a_inner, rows, b, b_outer, b_inner, vectors, c, c_row, outer, inner = function.args

    def emit_tile_of(height: int, width: int) -> None:
        row_offsets = [builder.mul(a_row, emit.integer(i)) for i in range(height)]

        def outer_body(o: Any, sums: list[Any]) -> list[Any]:
            a_start, b_start = emit.address(a, builder.mul(o, a_outer)), emit.address(b, builder.mul(o, b_outer))

            def inner_body(t: Any, sums: list[Any]) -> list[Any]:
                a_column = emit.address(a_start, builder.mul(t, a_inner))
                b_row = emit.address(b_start, builder.mul(t, b_inner))
                right = [emit.load(emit.address(b_row, emit.integer(j * LANES))) for j in range(width)]
                next_sums = []
                for i, row_offset in enumerate(row_offsets):
                    left = emit.splat(builder.load(emit.address(a_column, row_offset)))
                    next_sums += [emit.multiply_add(left, right[j], sums[i * width + j]) for j in range(width)]
                return next_sums

            return emit.loop(inner, sums, inner_body)

        # Sums start from zero and are added to c at the end: a sum of short sums is more exact than one long sum.
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        for index, total in enumerate(emit.loop(outer, [zero] * (height * width), outer_body)):
            i, j = divmod(index, width)
            c_vector = emit.address(c, builder.mul(c_row, emit.integer(i)), emit.integer(j * LANES))
            emit.store(builder.fadd(emit.load(c_vector), total), c_vector)

    done = emit.new_block("done")
    switch = builder.switch(builder.add(builder.mul(rows, emit.integer(VECTORS)), vectors), done)
    for height in range(1, ROWS + 1):
        for width in range(1, VECTORS + 1):
            block = emit.new_block(f"tile{height}x{width}")
            switch.add_case(emit.integer(height * VECTORS + width), block)
            builder.position_at_end(block)
            emit_tile_of(height, width)
            builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()


def _emit_transpose(module: Any) -> None:
    """Emit ``_plain_transpose``: stages, each exchanging half of a row with half of the row that is `apart` below."""
    function = declare(module, TRANSPOSE[0], ir.VoidType(), TRANSPOSE[1])
    builder = ir.IRBuilder(function.append_basic_block())
    emit = _Emit(builder)
    source, pitch, target, offsets = function.args
    rows = [emit.load(emit.address(source, builder.mul(pitch, emit.integer(i)))) for i in range(LANES)]
    apart = 1
    while apart < LANES:
        for i in range(LANES):
            if not i & apart:
                above, below = rows[i], rows[i + apart]
                lanes = range(LANES)
                rows[i] = emit.choose(above, below, [j + LANES - apart if j & apart else j for j in lanes])
                rows[i + apart] = emit.choose(above, below, [j + LANES if j & apart else j + apart for j in lanes])
        apart *= 2
    for j, row in enumerate(rows):
        emit.store(row, emit.address(target, builder.load(emit.address(offsets, emit.integer(j)))))
    builder.ret_void()


def _emit_best(module: Any) -> None:
    """Emit ``_plain_best`` with selections instead of branches, which the processor could not predict."""
    function = declare(module, BEST[0], ir.VoidType(), BEST[1])
    builder = ir.IRBuilder(function.append_basic_block())
    emit = _Emit(builder)
    values, step, positions, position_step, increment, count, best, which, vectors = function.args

    def vector_body(v: Any, _: list[Any]) -> list[Any]:
        start = builder.mul(v, emit.integer(LANES))

        def compare(index: Any, winners: list[Any]) -> list[Any]:
            largest, winner = winners
            o = builder.add(index, emit.integer(1))
            value = emit.load(emit.address(values, start, builder.mul(o, step)))
            added = emit.splat(builder.trunc(builder.mul(o, increment), ir.IntType(32)))
            position = builder.add(emit.load(emit.address(positions, start, builder.mul(o, position_step))), added)
            is_nan, largest_is_nan = (builder.fcmp_unordered("uno", x, x) for x in (value, largest))
            larger = builder.and_(is_nan, builder.not_(largest_is_nan))
            larger = builder.or_(builder.fcmp_ordered(">", value, largest), larger)
            equal = builder.or_(builder.fcmp_ordered("==", value, largest), builder.and_(is_nan, largest_is_nan))
            wins = builder.or_(larger, builder.and_(equal, builder.icmp_signed("<", position, winner)))
            return [builder.select(wins, value, largest), builder.select(wins, position, winner)]

        first = [emit.load(emit.address(values, start)), emit.load(emit.address(positions, start))]
        largest, winner = emit.loop(builder.sub(count, emit.integer(1)), first, compare)
        emit.store(largest, emit.address(best, start))
        emit.store(winner, emit.address(which, start))
        return []

    emit.loop(vectors, [], vector_body)
    builder.ret_void()


@cache
def link() -> Any:
    """Compile the functions, so that machine code which Numba compiles or loads after this call can call them by name.

    Returns the LLVM engine, which owns their machine code.
    """
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=FEATURES.flatten(), opt=3, jit=True
    )
    module = ir.Module("refnet")
    _emit_tile(module)
    _emit_transpose(module)
    _emit_best(module)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.set_object_cache(lambda _, code: _cache.save("microkernel", code), lambda _: _cache.load("microkernel"))
    engine.finalize_object()
    for name, _ in (TILE, TRANSPOSE, BEST):
        llvm.add_symbol(name, engine.get_function_address(name))
    return engine
