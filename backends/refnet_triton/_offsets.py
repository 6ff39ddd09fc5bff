"""A check of the kernels' index arithmetic: no 32-bit number may overflow before it is used for an address.

Ops on arrays of more than 2^31 numbers are traced (the arrays have no memory), and each kernel that they launch is
translated to TTIR, Triton's first intermediate language. There every integer gets a span, from the smallest to the
largest value that it has in any program: the number of programs, the arguments and the constants are known. If a span
does not fit its type, the number overflows. Then it is marked as spoiled, and so is everything computed from it. A
spoiled offset, mask or loop bound is reported. Random words overflow on purpose; they are used for none of these.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from refnet.nets import NetSpec
from refnet_triton import TritonBackend, _launch
from refnet_triton._launch import Launch
from refnet_triton._offline import different, launch_audited, lowered, step_launches

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
        Description of the overflow on which the value depends, or empty.
    """

    low: int
    high: int
    spoiled: str = ""


def breaches(architecture: str) -> tuple[int, list[str]]:
    """Check the kernels of launches with large arrays; return the number of launches and a text for each overflow."""
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
    """Return launches with large arrays: of training steps of `paper`, with large weights, and of ``audited``.

    For each array of a step there are two batches: with one it has just under 2^31 numbers, with the other just over.
    """
    plan = NetSpec("paper").plan()
    pixels = {prod(shape[1:]) for shape in (plan.input_shape, *(node.shape for node in plan.nodes))}
    batches = {MAX_INT32 // count + more for count in pixels - {1} for more in (0, 1)}
    steps = [step_launches(plan, batch, architecture, "ieee") for batch in sorted(batches)]
    return [launch for step in steps for launch in step] + _large_weights_and_audited(architecture)


def _large_weights_and_audited(architecture: str) -> list[Launch]:
    with _launch.trace(architecture) as launches:
        backend: Any = TritonBackend(1, ("meta",), precision="ieee")

        def array(*shape: int) -> Any:
            return backend.memory.empty(shape, device="meta")

        x, w, options = array(1, 1 << 13, 5, 5), array(1 << 16, 1 << 13, 3, 3), {"stride": 1, "pad": 1}
        y = backend.conv2d.forward(x, w, array(1 << 16), **options)
        backend.conv2d.backward(y, x, w, **options)
        x, w = array(8, 1 << 16), array(1 << 16, 1 << 16)
        backend.linear.backward(backend.linear.forward(x, w, array(1 << 16)), x, w)
        backend.sgd.step_(w, w, w, lr=0.1, momentum=0.9, weight_decay=0.1)
        launch_audited(backend, array(1 << 20, 64, 55, 55))
    return launches


# Spans ---------------------------------------------------------------------------------------------------------------


def overflows(text: str, launch: Launch) -> Iterator[str]:
    """Yield a text for each number of a kernel that overflows and is then used for an address. `text` is its TTIR.

    Every line uses only results of lines above it, and no loop carries an integer from round to round; so one pass
    over the lines finds every span.
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
            end = _checked(Span(first.low, last.high - 1 + step.high), f"the end of {name}", kinds, (first, last, step))
            known[name] = Span(first.low, last.high - 1, end.spoiled)
            used = [end]
        elif operation == "tt.addptr":
            used = operands[1:]
        elif operation == "tt.load":
            known[name], used = _loaded(kinds), []
        elif operation == "arith.cmpi" and not values.startswith("u"):  # unsigned comparisons are of random words
            used = operands
        else:
            used = []
            if name and _INTEGER.search(kinds):
                span = _result(operation, values, operands, launch.programs)
                known[name] = _checked(span, f"{name} = {operation}", kinds, operands)
        yield from (span.spoiled for span in used if span.spoiled)


def _matched(pattern: re.Pattern[str], text: str) -> tuple[Any, ...]:
    """Return the groups of a pattern, which must be in the text."""
    match = pattern.search(text)
    assert match, f"{text} does not look like Triton's output"
    return match.groups()


def _loaded(kinds: str) -> Span:
    """Return the span of a loaded number: at most 32 bits, because labels and crop offsets are checked earlier."""
    integer = _INTEGER.search(kinds)
    half = 2 ** (min(32, int(integer[1])) - 1) if integer else 0
    return Span(-half, half - 1)


def _unknown(what: str) -> Span:
    """Return the span of a number that this check cannot follow. It is spoiled, so using it is reported."""
    return Span(-MAX_INT32 - 1, MAX_INT32, f"nothing is known of {what}")


def _arguments(header: str, launch: Launch) -> dict[str, Span]:
    """Return the spans of a kernel's integer arguments by name; each entry of a tuple is an argument."""
    names = re.findall(r"(%\w+): ", header)
    arguments = [launch.arguments[name] for name in launch.kernel.arg_names if name in launch.arguments]
    values = [value for a in arguments for value in (a if isinstance(a, tuple) else (a,))]
    return {name: Span(a, a) for name, a in zip(names, values, strict=True) if isinstance(a, int)}


def _checked(span: Span, name: str, kinds: str, operands: Sequence[Span]) -> Span:
    """Return the span, marked as spoiled if its type cannot hold it or if one of its operands is spoiled."""
    bits = int(_matched(_INTEGER, kinds.removesuffix(" {"))[0])
    if bits == 1:
        return Span(0, 1)  # a mask; its operands are checked where they are compared
    spoiled = next((operand.spoiled for operand in operands if operand.spoiled), span.spoiled)
    if not spoiled and not -(2 ** (bits - 1)) <= span.low <= span.high < 2 ** (bits - 1):
        spoiled = f"{name} is {span.low} to {span.high}, which {bits} bits do not hold"
    return Span(span.low, span.high, spoiled)


def _result(operation: str, text: str, operands: Sequence[Span], programs: Sequence[int]) -> Span:
    """Return the span of an operation's result, as if integers had no limit."""
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
    return _SPANS[operation](*operands) if operation in _SPANS else _unknown(f"what {operation} makes")


def _hull(spans: Sequence[Span]) -> Span:
    """Return the smallest span that contains all of them."""
    return Span(min(span.low for span in spans), max(span.high for span in spans))


def _corners(function: Callable[[int, int], int]) -> Callable[[Span, Span], Span]:
    """Return a function of spans, for a function of numbers that is smallest and largest at the ends of the spans."""

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
    """Return the span of a number whose bits are read as unsigned."""
    return _same(a) if a.low >= 0 else Span(0, -2 * a.low - 1)


# The span of each operation's result, from those of its operands.
_SPANS: Mapping[str, Callable[..., Span]] = {
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
