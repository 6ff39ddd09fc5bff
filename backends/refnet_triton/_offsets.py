"""A check of the kernels' index arithmetic: no 32-bit number may overflow before it is used for an address.

Ops on arrays of more than 2^31 numbers are traced (the arrays have no memory), and each kernel that they launch is
translated to TTIR, Triton's first intermediate language. There every integer has a span, from the smallest to the
largest value that any program can give it: the number of programs, the arguments and the constants are known. If a span
does not fit its type, everything computed from that number is spoiled, and a spoiled offset, mask or loop bound is
reported. Random words overflow on purpose; they are used for none of these.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from refnet.nets import NetSpec
from refnet_triton import TritonBackend, _launch
from refnet_triton._launch import Launch
from refnet_triton._offline import different, lowered, step_launches

MAX_INT32 = 2**31 - 1
_OPERATION = re.compile(r"\s*(?:(%\S+) = )?([a-z]+\.\w+) (.*)")
_LOOP = re.compile(r"(%\S+) = (%\S+) to (%\S+) step (%\S+)")
_INTEGER = re.compile(r"i(\d+)>*$")
_VALUE = re.compile(r"%[\w#]+")


@dataclass(frozen=True)
class Span:
    """The range of values that an integer can have.

    Attributes
    ----------
    low, high
        Smallest and largest value.
    spoiled
        Description of the overflow that made it wrong, or empty.
    """

    low: int
    high: int
    spoiled: str = ""


def breaches(architecture: str) -> tuple[int, list[str]]:
    """Check every kernel that large arrays need; return the number of launches and a text for each overflow."""
    launches = [launch for launch in large(architecture) if _launch.fits(launch.programs)]
    texts = {launch.key(): lowered(launch, architecture) for launch in different(launches)}
    messages = [
        f"{architecture} {launch.kernel.__name__}: {overflow}"
        for launch in launches
        for overflow in overflows(texts[launch.key()], launch)
    ]
    return len(launches), list(dict.fromkeys(messages))


# Large arrays --------------------------------------------------------------------------------------------------------


def large(architecture: str) -> list[Launch]:
    """Return the launches of steps whose arrays have just under and over 2^31 pixels, and those of other large ops."""
    plan = NetSpec("paper").plan()
    pixels = {prod(shape[1:]) for shape in (plan.input_shape, *(node.shape for node in plan.nodes))}
    batches = {MAX_INT32 // count + more for count in pixels - {1} for more in (0, 1)}
    steps = [step_launches(plan, batch, architecture, "ieee") for batch in sorted(batches)]
    return [launch for step in steps for launch in step] + _others(architecture)


def _others(architecture: str) -> list[Launch]:
    """Return launches with large weights, and of ops that the step does not use."""
    with _launch.trace(architecture) as launches:
        backend: Any = TritonBackend(1, ("meta",), precision="ieee")

        def array(*shape: int, of: torch.dtype = torch.float32) -> Any:
            return backend.memory.empty(shape, of, "meta")

        x, w, options = array(1, 1 << 13, 5, 5), array(1 << 16, 1 << 13, 3, 3), {"stride": 1, "pad": 1}
        y = backend.conv2d.forward(x, w, array(1 << 16), **options)
        backend.conv2d.backward(y, x, w, **options)
        x, w = array(8, 1 << 16), array(1 << 16, 1 << 16)
        backend.linear.backward(backend.linear.forward(x, w, array(1 << 16)), x, w)
        backend.sgd.step_(w, w, w, lr=0.1, momentum=0.9, weight_decay=0.1)
        images = 1 << 20
        x = array(images, 64, 55, 55)
        for op in (backend.relu, backend.tanh):
            op.backward(x, op.forward(x))
        backend.dropout.expected(x, drop=0.5)
        backend.lrn.forward(x, n=5, k=2.0, alpha=1e-4, beta=0.5)
        backend.augment.forward(
            array(images, 256, 256, 3, of=torch.uint8), array(256, 256, 3), array(images, 2, of=torch.int64),
            array(images, of=torch.uint8), array(images, 3), size=(224, 224),
        )  # fmt: skip
        backend.philox.bits(images, 4097, key=(0, 0), counter=(0, 0, 0, 3))
    return launches


# Spans ---------------------------------------------------------------------------------------------------------------


def overflows(text: str, launch: Launch) -> Iterator[str]:
    """Yield a text for each number of a kernel (in TTIR) that overflows and is then used for an address.

    The lines are in order, and no loop carries an integer, so one pass finds every span.
    """
    known: dict[str, Span] = {}
    for line in text.splitlines():
        if "tt.func" in line:
            known = _arguments(line, launch)
            continue
        if not (match := _OPERATION.match(line.partition(" loc(")[0])):
            continue
        name, operation, rest = match.groups()
        values, _, kinds = rest.rpartition(" : ")
        operands = [known.get(value, _unknown(value)) for value in _VALUE.findall(values)]
        if operation == "scf.for":
            name, *bounds = _matched(_LOOP, rest)
            first, last, step = (known.get(bound, _unknown(bound)) for bound in bounds)
            end = _held(Span(first.low, last.high - 1 + step.high), f"the end of {name}", kinds, (first, last, step))
            known[name] = Span(first.low, last.high - 1, end.spoiled)
            reached = [end]
        elif operation == "tt.addptr":
            reached = operands[1:]
        elif operation == "tt.load":
            known[name], reached = _loaded(kinds), []
        elif operation == "arith.cmpi" and not values.startswith("u"):
            reached = operands
        else:
            reached = []
            if name and _INTEGER.search(kinds):
                span = _made(operation, values, operands, launch.programs)
                known[name] = _held(span, f"{name} = {operation}", kinds, operands)
        yield from (span.spoiled for span in reached if span.spoiled)


def _matched(pattern: re.Pattern[str], text: str) -> tuple[Any, ...]:
    match = pattern.search(text)
    assert match, f"{text} does not look like Triton's output"
    return match.groups()


def _loaded(kinds: str) -> Span:
    """Return the span of a loaded number: at most 32 bits, since labels and crop offsets are checked before."""
    integer = _INTEGER.search(kinds)
    half = 2 ** (min(32, int(integer[1])) - 1) if integer else 0
    return Span(-half, half - 1)


def _unknown(what: str) -> Span:
    return Span(-MAX_INT32 - 1, MAX_INT32, f"nothing is known of {what}")


def _arguments(header: str, launch: Launch) -> dict[str, Span]:
    """Return the spans of a kernel's integer arguments by name; each entry of a tuple is an argument."""
    names = re.findall(r"(%\w+): ", header)
    arguments = [launch.arguments[name] for name in launch.kernel.arg_names if name in launch.arguments]
    values = [value for a in arguments for value in (a if isinstance(a, tuple) else (a,))]
    return {name: Span(a, a) for name, a in zip(names, values, strict=True) if isinstance(a, int)}


def _held(span: Span, name: str, kinds: str, operands: Sequence[Span]) -> Span:
    """Return the span, marked as spoiled if its type cannot hold it or if one of its operands is spoiled."""
    bits = int(_matched(_INTEGER, kinds.removesuffix(" {"))[0])
    if bits == 1:
        return Span(0, 1)  # the operands of a mask are checked elsewhere
    spoiled = next((operand.spoiled for operand in operands if operand.spoiled), span.spoiled)
    if not spoiled and not -(2 ** (bits - 1)) <= span.low <= span.high < 2 ** (bits - 1):
        spoiled = f"{name} is {span.low} to {span.high}, which {bits} bits do not hold"
    return Span(span.low, span.high, spoiled)


def _made(operation: str, text: str, operands: Sequence[Span], programs: Sequence[int]) -> Span:
    """Return the span of the result of an operation, as if its type had no limit."""
    if operation == "arith.constant":
        number = int(_matched(re.compile(r"(-?\d+)"), text.replace("true", "1").replace("false", "0"))[0])
        return Span(number, number)
    if operation == "tt.get_program_id":
        return Span(0, programs["xyz".index(text)] - 1)
    if operation == "tt.make_range":
        end, start = map(int, _matched(re.compile(r"end = (\d+) .*start = (\d+)"), text))
        return Span(start, end - 1)
    if operation == "arith.select":
        return _hull(operands[1:])
    return _MADE[operation](*operands) if operation in _MADE else _unknown(f"what {operation} makes")


def _hull(spans: Sequence[Span]) -> Span:
    return Span(min(span.low for span in spans), max(span.high for span in spans))


def _corners(function: Callable[[int, int], int]) -> Callable[[Span, Span], Span]:
    """Return a function of spans for a function of numbers whose extremes are at the ends of its arguments' spans."""

    def of_spans(a: Span, b: Span) -> Span:
        values = [function(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
        return Span(min(values), max(values))

    return of_spans


def _quotient(a: Span, b: Span) -> Span:
    if b.low < 1:
        return _unknown("a quotient by what may be 0")
    return _corners(lambda x, y: x // y if x >= 0 else -(-x // y))(a, b)


def _remainder(a: Span, b: Span) -> Span:
    if b.low < 1:
        return _unknown("a remainder by what may be 0")
    return Span(max(min(a.low, 0), 1 - b.high), min(max(a.high, 0), b.high - 1))


def _same(a: Span) -> Span:
    return Span(a.low, a.high)


def _unsigned(a: Span) -> Span:
    return _same(a) if a.low >= 0 else Span(0, -2 * a.low - 1)


_MADE: Mapping[str, Callable[..., Span]] = {
    "arith.addi": _corners(operator.add),
    "arith.subi": _corners(operator.sub),
    "arith.muli": _corners(operator.mul),
    "arith.minsi": _corners(min),
    "arith.maxsi": _corners(max),
    "arith.divsi": _quotient,
    "arith.remsi": _remainder,
    "arith.extui": _unsigned,
    **dict.fromkeys(
        ("arith.extsi", "arith.trunci", "tt.splat", "tt.broadcast", "tt.expand_dims", "tt.reshape", "tt.trans"), _same
    ),
}
