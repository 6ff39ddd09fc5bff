"""The LLVM instructions of the micro-kernels (:mod:`refnet_numba._microkernel`), compiled once and called by name.

Numba would copy such a function into every kernel that calls it, and compile it three times for each kernel. So these
functions are compiled here, once, and kernels call them by name. The block sizes depend on the processor's vector
instructions: see ``BLOCKS``.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir

from refnet_numba import _cache


class Block(NamedTuple):
    """The block of sums that ``tile`` keeps in registers: `rows` x `vectors` registers of `lanes` numbers each.

    The registers must suffice for the sums, `vectors` vectors of b and one number of a.
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
_PLACES = ir.IntType(32).as_pointer()


class _Emit:
    """Short names for the LLVM instructions used below."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def whole(self, value: int) -> Any:
        return ir.Constant(_INT, value)

    def at(self, pointer: Any, *offsets: Any) -> Any:
        for offset in offsets:
            pointer = self.builder.gep(pointer, [offset])
        return pointer

    def vector(self, pointer: Any) -> Any:
        return self.builder.bitcast(pointer, ir.VectorType(pointer.type.pointee, LANES).as_pointer())

    def load(self, pointer: Any) -> Any:
        return self.builder.load(self.vector(pointer), align=4)

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, self.vector(pointer), align=4)

    def splat(self, number: Any) -> Any:
        undefined, first = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined), ir.Constant(ir.IntType(32), 0)
        return self.choose(self.builder.insert_element(undefined, number, first), undefined, [0] * LANES)

    def choose(self, a: Any, b: Any, lanes: list[int]) -> Any:
        """Return a vector of numbers picked by index from a and b, where the indices of b follow those of a."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes))

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        fused = declare(self.builder.module, f"llvm.fma.v{LANES}f32", _VECTOR, [_VECTOR] * 3)
        return self.builder.call(fused, [x, y, z])

    def block(self, name: str) -> Any:
        return self.builder.append_basic_block(name)

    def loop(self, count: Any, start: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Emit a loop of `count` >= 1 rounds; `body(index, values)` returns the next values. Return the last."""
        builder, before, again, after = self.builder, self.builder.block, self.block("loop"), self.block("after")
        builder.branch(again)
        builder.position_at_end(again)
        index = builder.phi(_INT)
        carried = [builder.phi(value.type) for value in start]
        made = body(index, carried)
        following = builder.add(index, self.whole(1))
        last = builder.block  # the body may have added basic blocks
        for phi, first, then in zip([index, *carried], [self.whole(0), *start], [following, *made], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(then, last)
        builder.cbranch(builder.icmp_signed("<", following, count), again, after)
        builder.position_at_end(after)
        return made


def declare(module: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


PREFIX = "refnet_microkernel_"  # of the functions' names in machine code
# Name and arguments of each function, as in plain Python, except that an array and its offset are one pointer.
TILE = f"{PREFIX}tile", [_FLOATS, *[_INT] * 4, _FLOATS, *[_INT] * 3, _FLOATS, *[_INT] * 3]
TRANSPOSE = f"{PREFIX}transpose", [_FLOATS, _INT, _FLOATS, _INT.as_pointer()]
BEST = f"{PREFIX}best", [_FLOATS, _INT, _PLACES, *[_INT] * 3, _FLOATS, _PLACES, _INT]


def _emit_tile(module: Any) -> None:
    """Emit ``_plain_tile``: two nested loops for each possible number of rows and vectors, selected by a switch."""
    function = declare(module, TILE[0], ir.VoidType(), TILE[1])
    builder = ir.IRBuilder(function.append_basic_block())
    emit = _Emit(builder)
    a, a_row, a_outer, a_inner, rows, b, b_outer, b_inner, vectors, c, c_row, outer, inner = function.args

    def block_of(height: int, width: int) -> None:
        at_rows = [builder.mul(a_row, emit.whole(i)) for i in range(height)]

        def outer_body(o: Any, sums: list[Any]) -> list[Any]:
            a_from, b_from = emit.at(a, builder.mul(o, a_outer)), emit.at(b, builder.mul(o, b_outer))

            def inner_body(t: Any, sums: list[Any]) -> list[Any]:
                a_at, b_at = emit.at(a_from, builder.mul(t, a_inner)), emit.at(b_from, builder.mul(t, b_inner))
                right = [emit.load(emit.at(b_at, emit.whole(j * LANES))) for j in range(width)]
                made = []
                for i, at_row in enumerate(at_rows):
                    left = emit.splat(builder.load(emit.at(a_at, at_row)))
                    made += [emit.multiply_add(left, right[j], sums[i * width + j]) for j in range(width)]
                return made

            return emit.loop(inner, sums, inner_body)

        # Sums start from zero and are added to c at the end: a sum of short sums is more exact than one long sum.
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        for place, value in enumerate(emit.loop(outer, [zero] * (height * width), outer_body)):
            i, j = divmod(place, width)
            at = emit.at(c, builder.mul(c_row, emit.whole(i)), emit.whole(j * LANES))
            emit.store(builder.fadd(emit.load(at), value), at)

    done = emit.block("done")
    switch = builder.switch(builder.add(builder.mul(rows, emit.whole(VECTORS)), vectors), done)
    for height in range(1, ROWS + 1):
        for width in range(1, VECTORS + 1):
            block = emit.block(f"tile{height}x{width}")
            switch.add_case(emit.whole(height * VECTORS + width), block)
            builder.position_at_end(block)
            block_of(height, width)
            builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()


def _emit_transpose(module: Any) -> None:
    """Emit ``_plain_transpose``: each stage exchanges half of a row with half of the row that is `apart` rows below."""
    function = declare(module, TRANSPOSE[0], ir.VoidType(), TRANSPOSE[1])
    builder = ir.IRBuilder(function.append_basic_block())
    emit = _Emit(builder)
    source, pitch, target, places = function.args
    rows = [emit.load(emit.at(source, builder.mul(pitch, emit.whole(i)))) for i in range(LANES)]
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
        emit.store(row, emit.at(target, builder.load(emit.at(places, emit.whole(j)))))
    builder.ret_void()


def _emit_best(module: Any) -> None:
    """Emit ``_plain_best`` without branches, which a processor could not predict."""
    function = declare(module, BEST[0], ir.VoidType(), BEST[1])
    builder = ir.IRBuilder(function.append_basic_block())
    emit = _Emit(builder)
    values, step, places, place_step, rise, count, best, at, vectors = function.args

    def one_vector(v: Any, _: list[Any]) -> list[Any]:
        start = builder.mul(v, emit.whole(LANES))

        def challenge(before: Any, carried: list[Any]) -> list[Any]:
            held, place = carried
            o = builder.add(before, emit.whole(1))
            value = emit.load(emit.at(values, start, builder.mul(o, step)))
            risen = emit.splat(builder.trunc(builder.mul(o, rise), ir.IntType(32)))
            new = builder.add(emit.load(emit.at(places, start, builder.mul(o, place_step))), risen)
            unordered, was_unordered = (builder.fcmp_unordered("uno", x, x) for x in (value, held))
            better = builder.and_(unordered, builder.not_(was_unordered))
            better = builder.or_(builder.fcmp_ordered(">", value, held), better)
            equal = builder.or_(builder.fcmp_ordered("==", value, held), builder.and_(unordered, was_unordered))
            wins = builder.or_(better, builder.and_(equal, builder.icmp_signed("<", new, place)))
            return [builder.select(wins, value, held), builder.select(wins, new, place)]

        first = [emit.load(emit.at(values, start)), emit.load(emit.at(places, start))]
        held, place = emit.loop(builder.sub(count, emit.whole(1)), first, challenge)
        emit.store(held, emit.at(best, start))
        emit.store(place, emit.at(at, start))
        return []

    emit.loop(vectors, [], one_vector)
    builder.ret_void()


@cache
def link() -> Any:
    """Compile the functions and register them by name for machine code that Numba compiles or loads after this call.

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
