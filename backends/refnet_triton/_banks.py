"""Bank conflicts of a compiled kernel: how many wavefronts each access to shared memory takes, counted in its PTX.

Shared memory has 32 banks of 4 bytes: the 4-byte word number w is in bank w mod 32. A warp's 32 lanes access it
together, in as many *wavefronts* as are needed so that no bank serves two different words in one wavefront. Without
conflicts, an access of 4 bytes per lane takes one wavefront, and an access of 16 bytes takes four, of eight lanes each.

Addresses in shared memory depend only on the lane. So this module executes the PTX for the 32 lanes of the first warp,
line by line and ignoring branches, as far as addresses need it. A register is an array of 32 numbers, one per lane, or
unknown. Numbers loaded from memory are unknown, and so is everything computed from them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LANES, BANKS, WORD = 32, 32, 4  # lanes in a warp, banks, and bytes in a word of a bank

Lanes = npt.NDArray[np.int64]

_LINE = re.compile(r"\s*(?:@!?%\w+\s+)?([a-z]\w*(?:[.:]+\w+)*)\s+(.*);")
_ADDRESS = re.compile(r"\[\s*(%\w+)\s*(?:\+\s*(-?\d+))?\s*\]")
_COPY_BYTES = re.compile(r"\]\s*,\s*(0x[0-9a-f]+|\d+)")
_ACCESS = re.compile(
    r"(?P<kind>ld|st)\.(?:volatile\.|relaxed\.\w+\.)*shared(?:::cta)?\.(?:v(?P<count>\d)\.)?[a-z](?P<bits>\d+)"
    r"|(?P<copy>cp\.async\.\w+\.shared)|(?P<matrix>ldmatrix|stmatrix)\b.*\.x(?P<rows>[124])\b"
)


@dataclass(frozen=True)
class Access:
    """One instruction that accesses shared memory.

    Attributes
    ----------
    kind
        "load", "store", or "copy" (from global to shared memory).
    width
        Bytes that each lane accesses.
    wavefronts, least
        How many wavefronts it takes, and how many it would take without bank conflicts.
    """

    kind: str
    width: int
    wavefronts: int
    least: int

    @property
    def ways(self) -> float:
        """The factor by which bank conflicts make it slower; 1 without any."""
        return self.wavefronts / self.least


def accesses(ptx: str) -> Iterator[Access | None]:
    """Yield every access to shared memory; None for one whose address is not known."""
    registers: dict[str, Lanes] = {}
    for line in ptx.splitlines():
        if not (instruction := _LINE.match(line)):
            continue
        name, operands = instruction.groups()
        if access := _ACCESS.match(name):
            yield _access(access, operands, registers)
        else:
            _execute(name, operands, registers)


def _access(access: re.Match[str], operands: str, registers: Mapping[str, Lanes]) -> Access | None:
    """Return the access of an instruction, or None if its address is not known."""
    address = _ADDRESS.search(operands)
    base = registers.get(address[1]) if address else None
    if address is None or base is None:
        return None
    starts = base + int(address[2] or 0)
    if access["copy"]:
        kind, width = "copy", int(_COPY_BYTES.findall(operands)[0], 0)
    elif access["matrix"]:
        kind, width = "load" if access["matrix"] == "ldmatrix" else "store", 4 * int(access["rows"])
        return _matrices(kind, starts, int(access["rows"]), width)
    else:
        kind, width = (
            {"ld": "load", "st": "store"}[access["kind"]],
            int(access["bits"]) // 8 * int(access["count"] or 1),
        )
    return Access(kind, width, wavefronts(starts, width), max(1, LANES * width // (BANKS * WORD)))


def _matrices(kind: str, rows: Lanes, count: int, width: int) -> Access:
    """Return the access of ldmatrix or stmatrix: each of the first 8 * count lanes gives the address of 16 bytes."""
    return Access(kind, width, wavefronts(rows[: 8 * count], 16), count)


def wavefronts(starts: Lanes, width: int) -> int:
    """Return how many wavefronts an access of `width` bytes at each lane's address takes."""
    served = min(LANES, BANKS * WORD // max(width, WORD))  # lanes that one wavefront can serve
    total = 0
    for first in range(0, len(starts), served):
        bytes_ = starts[first : first + served, None] + np.arange(0, max(width, 1), min(width, WORD))
        words = np.unique(bytes_ // WORD)
        total += int(np.bincount(words % BANKS).max())
    return total


def _execute(name: str, operands: str, registers: dict[str, Lanes]) -> None:
    """Compute the register that an instruction writes, or make it unknown if that is not possible."""
    if "{" in operands:  # an instruction on several registers: none computes an address
        for register in re.findall(r"%\w+", operands):
            registers.pop(register, None)
        return
    target, *sources = (part.strip() for part in operands.split(","))
    function = next((_INSTRUCTIONS[key] for key in _keys(name) if key in _INSTRUCTIONS), None)
    values = [_value(source, registers) for source in sources]
    if function is None or any(value is None for value in values):
        registers.pop(target, None)
        return
    registers[target] = _wrapped(function(*values), name)


def _keys(name: str) -> Iterator[str]:
    """Yield the prefixes of an instruction's name, the longest first: ``mad.wide.s32``, ``mad.wide``, ``mad``."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        yield ".".join(parts[:end])


def _value(source: str, registers: Mapping[str, Lanes]) -> Lanes | None:
    """Return the value of an operand in each lane; None if it is unknown."""
    if source in _SPECIAL_REGISTERS:
        return _SPECIAL_REGISTERS[source]
    if re.fullmatch(r"-?\d+", source):
        return np.full(LANES, int(source))
    return registers.get(source)


def _wrapped(value: Any, name: str) -> Lanes:
    """Return the numbers wrapped to signed 32-bit integers, if that is the width of the instruction's result."""
    lanes: Lanes = np.asarray(value, np.int64)
    if name.startswith("setp") or not name.endswith("32") or ".wide" in name:
        return lanes
    return (lanes + 2**31) % 2**32 - 2**31


def _unsigned(a: Lanes) -> Lanes:
    return a % 2**32


def _field(a: Lanes, start: Lanes, length: Lanes) -> Lanes:
    return (_unsigned(a) >> start) & ((1 << length) - 1)


def _signed_field(a: Lanes, start: Lanes, length: Lanes) -> Lanes:
    bits = _field(a, start, length)
    return np.where(bits >> (length - 1), bits - (1 << length), bits)


_SPECIAL_REGISTERS: Mapping[str, Lanes] = {
    "%tid.x": np.arange(LANES),
    **{name: np.zeros(LANES, np.int64) for name in ("%tid.y", "%ctaid.x", "%ctaid.y", "%ctaid.z", "global_smem")},
}
_INSTRUCTIONS: Mapping[str, Callable[..., Any]] = {
    "mov": lambda a: a,
    "cvt": lambda a: a,
    "cvt.u64.u32": _unsigned,
    "cvta": lambda a: a,
    "add": np.add,
    "sub": np.subtract,
    "mul.lo": np.multiply,
    "mul.wide": np.multiply,
    "mad.lo": lambda a, b, c: a * b + c,
    "mad.wide": lambda a, b, c: a * b + c,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "neg": np.negative,
    "shl": lambda a, count: a << count,
    "shr.s32": lambda a, count: a >> count,
    "shr.u32": lambda a, count: _unsigned(a) >> count,
    "bfe.u32": _field,
    "bfe.s32": _signed_field,
    "min.s32": np.minimum,
    "max.s32": np.maximum,
    "setp.eq": lambda a, b: a == b,
    "setp.ne": lambda a, b: a != b,
    "setp.lt.s32": lambda a, b: a < b,
    "setp.gt.s32": lambda a, b: a > b,
    "selp": lambda a, b, chosen: np.where(chosen, a, b),
    # Compilers use it to broadcast the first lane's number to the warp.
    "shfl.sync.idx": lambda a, *_: np.broadcast_to(a[:1], LANES),
}
