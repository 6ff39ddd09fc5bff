"""Compile the kernels for several chips and check the machine code: ``python -m refnet_triton.audit``.

Every kernel that a training step of the paper's network launches, in every precision, is compiled as for a GPU; so are
the kernels that the functions ``audited`` of the ops launch. None of the chips need be present. A fast kernel must meet
these requirements:

1. no register is spilled to memory;
2. it uses no more shared memory than the chip has for one program;
3. tensor cores compute its products in all precisions but ieee, and no instruction rounds factors in ieee;
4. its loads are wide: each instruction loads 16 bytes, which are four neighbouring numbers. This is required of all
   copies to shared memory, and of more than half of the bytes of other loads. Where it is not possible, ``EXCUSES``
   beside the kernel gives the reason, a key of ``REASONS``;
5. where tensor cores compute its products, no access to shared memory takes longer than without bank conflicts
   (:mod:`._banks`; NVIDIA only, and not those in ``CONFLICTS``).

Kernels for arrays of more than 2^31 numbers must meet one more (:mod:`._offsets`):

6. no number overflows before it is used for an address.

The exit code is 1 if a requirement is not met. No kernel is run, so this measures no time.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

from refnet.errors import end
from refnet.nets import NetSpec
from refnet_triton import TritonBackend, _configs, _launch, _offsets
from refnet_triton._banks import accesses
from refnet_triton._launch import Launch
from refnet_triton._offline import compiled, different, launch_audited, step_launches
from refnet_triton._tune import CANDIDATES

# Bytes of shared memory available to one program (CUDA's programming guide, table of compute capabilities; CDNA 3's
# instruction set, local data share).
SHARED = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024, "gfx942": 64 * 1024}
WARP_THREADS = {"gfx942": 64}  # threads of a warp, if not 32
WIDE_BYTES = 16
# Where the compiler splits the filters in three parts, which it loads across shared memory in every configuration.
CONFLICTS = {("sm_100", "multiply", "tf32x3")}
REASONS = {
    "maps": "reads feature maps in place: rows of 55, 27, 13 or 6 pixels do not start at multiples of 16 bytes",
    "odd": "the length is not a multiple of 16 numbers, so the last load would not be full",
    "short": "a program has fewer than four numbers for each thread",
    "pixels": "reads images, in which adjacent bytes are the three colours of a pixel, and mirrors some of them",
    "one": "reads only one number, the step's",
}
_NVIDIA = re.compile(r"\b(LDGSTS|LDG|LDL|STL)((?:\.\w+)*)|\b(HMMA|HGMMA|UTC\w*MMA)\b")
_AMD = re.compile(r"\b(?:global|buffer)_load_(dwordx4|dwordx3|dwordx2|dword|ushort|ubyte)\b|\b(v_mfma_\w+)")
_SASS_BYTES = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
_AMD_BYTES = {"dwordx4": 16, "dwordx3": 12, "dwordx2": 8, "dword": 4, "ushort": 2, "ubyte": 1}


@dataclass(frozen=True)
class Report:
    """The properties of one compiled kernel.

    Attributes
    ----------
    precision
        Precision of a matrix product; empty for other kernels.
    config
        Block sizes, warps and stages, as text.
    sizes
        Sizes of arrays that are compiled into the kernel, by name.
    registers
        Registers of a thread, 32 bits each.
    spilled
        Bytes of a thread's registers that are spilled to memory.
    shared
        Bytes of shared memory of a program.
    tensor
        Number of tensor-core instructions by name.
    copies, loads
        Number of instructions that copy from global to shared memory, and of those that load from global memory into
        registers, by the bytes that each loads for a thread.
    ways
        How many times as long its slowest access to shared memory takes as without bank conflicts; 0 if unknown.
    excuse
        Why its loads may be narrow: a key of ``REASONS``, or empty.
    """

    architecture: str
    kernel: str
    precision: str
    config: str
    sizes: Mapping[str, int]
    registers: int
    spilled: int
    shared: int
    tensor: Mapping[str, int]
    copies: Mapping[int, int]
    loads: Mapping[int, int]
    ways: float
    excuse: str

    def breaches(self) -> Iterator[str]:
        """Yield a text for each requirement that the kernel does not meet."""
        if self.spilled:
            yield f"{self.spilled} bytes of a thread's registers are spilled to memory"
        if self.shared > SHARED[self.architecture]:
            limit = SHARED[self.architecture]
            yield f"{self.shared} bytes of shared memory, where the chip has {limit} for a program"
        rounding = [name for name in self.tensor if not name.endswith("_f32")]  # AMD's _f32 instructions do not round
        if self.precision not in {"", "ieee"} and not rounding:
            yield f"no tensor-core instruction, although it multiplies in {self.precision}"
        if self.precision in {"", "ieee"} and rounding:
            yield f"{', '.join(rounding)}, which rounds what it multiplies, although float32 is required"
        if not self.wide and not self.excuse:
            yield f"narrow loads: {self.widths}, although neighbouring numbers are adjacent in memory"
        excused = (self.architecture, self.kernel, self.precision) in CONFLICTS
        if self.precision not in {"", "ieee"} and self.ways > 1 and not excused:
            yield f"an access to shared memory takes {self.ways:g} times as long as without bank conflicts"

    @property
    def wide(self) -> bool:
        """Whether the loads meet requirement 4: all copies are wide, or if there are none, most bytes of loads."""
        if self.copies:
            return set(self.copies) == {WIDE_BYTES}
        total = sum(width * count for width, count in self.loads.items())
        return not total or 2 * WIDE_BYTES * self.loads.get(WIDE_BYTES, 0) > total

    @property
    def widths(self) -> str:
        """The copies, or if there are none the loads, as text: number of instructions x bytes."""
        counted = self.copies or self.loads
        return ", ".join(f"{counted[width]}x{width}" for width in sorted(counted, reverse=True))

    def __str__(self) -> str:
        sizes = ", ".join(f"{name}={size}" for name, size in self.sizes.items())
        return f"{self.architecture} {self.kernel} {self.precision} ({self.config}; {sizes})"


def audit(launch: Launch, architecture: str) -> Report:
    """Compile the kernel of a launch, and return its properties."""
    kernel = compiled(launch, architecture)
    if "cubin" in kernel.asm:
        registers, spilled, instructions = _read_cubin(kernel.asm["cubin"])
    else:
        registers, spilled, instructions = _read_amdgcn(kernel.asm["amdgcn"])
    return Report(
        architecture=architecture,
        kernel=launch.kernel.__name__,
        precision=launch.constants.get("PRECISION", ""),
        config=_config(launch),
        sizes={name: launch.constants[name] for name in ("K", "C", "H", "P", "R", "RUN", "PARTS")
               if name in launch.constants},
        registers=registers,
        spilled=spilled,
        shared=kernel.metadata.shared,
        tensor=dict(instructions["tensor"]),
        copies=dict(instructions["copies"]),
        loads=dict(instructions["loads"]),
        ways=max((access.ways for access in accesses(kernel.asm.get("ptx", "")) if access), default=0.0),
        excuse=excuse(launch, architecture),
    )  # fmt: skip


def excuse(launch: Launch, architecture: str) -> str:
    """Return why a launch's loads may be narrow: a key of ``REASONS``, or empty."""
    constants, excuses = launch.constants, getattr(sys.modules[launch.kernel.module], "EXCUSES", {})
    if launch.kernel.__name__ in excuses:
        return str(excuses[launch.kernel.__name__])
    words = 4 if "BLOCK_B" in constants else 1  # BLOCK_B counts groups of four random words
    numbers = words * prod(size for letter, size in constants.items() if letter.startswith("BLOCK_"))
    if numbers < 4 * WARP_THREADS.get(architecture, 32) * launch.config.warps:
        return "short"
    return "odd" if launch.arguments.get("SIZE", 0) % 16 else ""


def launches(architecture: str, *, every: bool = False) -> list[Launch]:
    """Return one launch for each kernel to compile: those of two columns and batch 128, and of ``audited``.

    If `every`, also those of one column, of batch 512, and of the configurations that ``refnet tune`` tries in tf32.
    """
    table = _configs.find(architecture)
    precisions = [precision for precision in _configs.PRECISIONS if f"multiply/{precision}" in table.configs]
    shapes = [(2, 128), *([(1, 128), (2, 512)] if every else [])]
    collected = _audited(architecture)
    for precision in precisions:
        for columns, batch in shapes:
            collected += step_launches(NetSpec("paper", columns=columns).plan(), batch, architecture, precision)
    for kernel, candidates in CANDIDATES[architecture].items() if every else ():
        for config in candidates:
            tried = {**table.configs, f"{kernel}/tf32": config}
            _configs.use(architecture, replace(table, configs=tried))
            step = step_launches(NetSpec("paper").plan(), 128, architecture, "tf32")
            collected += [launch for launch in step if launch.kernel.__name__ == kernel]
    _configs.use(architecture, table)
    return different(collected)


def _audited(architecture: str) -> list[Launch]:
    """Return the launches of the functions ``audited``, for a batch of 128."""
    with _launch.trace(architecture) as collected:
        backend: Any = TritonBackend(1, ("meta",), precision="ieee")
        launch_audited(backend, backend.memory.empty((128, 48, 55, 55), device="meta"))
    return collected


def _config(launch: Launch) -> str:
    blocks = "x".join(str(size) for name, size in launch.constants.items() if name.startswith("BLOCK_"))
    return f"{blocks}, {launch.config.warps} warps, {launch.config.stages} stages"


def _read_cubin(cubin: bytes) -> tuple[int, int, dict[str, Counter[Any]]]:
    """Return registers, spilled bytes and instructions of NVIDIA's machine code, from a tool that comes with Triton."""
    import triton  # noqa: PLC0415

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "-res-usage", "-sass", file.name], check=True, capture_output=True, text=True
        ).stdout
    registers, stack, local = _numbers(text, r"REG:(\d+)", r"STACK:(\d+)", r"LOCAL:(\d+)")
    instructions: dict[str, Counter[Any]] = {"tensor": Counter(), "copies": Counter(), "loads": Counter()}
    kinds = {"LDGSTS": "copies", "LDG": "loads"}
    for name, flags, tensor in _NVIDIA.findall(text):
        if tensor:
            instructions["tensor"][tensor] += 1
        elif name in kinds:
            instructions[kinds[name]][_sass_bytes(flags)] += 1
    return registers, stack + local, instructions


def _sass_bytes(flags: str) -> int:
    """Return the bytes that an instruction of NVIDIA's loads for a thread, from its flags, such as ``.E.128``."""
    return next((_SASS_BYTES[flag] for flag in flags.split(".") if flag in _SASS_BYTES), 4)


def _read_amdgcn(text: str) -> tuple[int, int, dict[str, Counter[Any]]]:
    """Return registers, spilled bytes and instructions of AMD's assembly.

    Scalar registers that are spilled to vector registers count as spilled.
    """
    (registers, *spills) = _numbers(text, r"\.vgpr_count:\s*(\d+)", r"\.vgpr_spill_count:\s*(\d+)",
                                    r"\.sgpr_spill_count:\s*(\d+)")  # fmt: skip
    instructions: dict[str, Counter[Any]] = {"tensor": Counter(), "copies": Counter(), "loads": Counter()}
    for width, tensor in _AMD.findall(text):
        if tensor:
            instructions["tensor"][tensor] += 1
        else:
            instructions["loads"][_AMD_BYTES[width]] += 1
    return registers, 4 * sum(spills), instructions


def _numbers(text: str, *patterns: str) -> list[int]:
    """Return the number that each pattern finds in a listing. Exit if it has none."""
    matches = [re.search(pattern, text) for pattern in patterns]
    return [int(match[1]) if match else sys.exit(f"the listing has no {pattern}") for match, pattern in
            zip(matches, patterns, strict=True)]  # fmt: skip


# The table -----------------------------------------------------------------------------------------------------------

HEADINGS = ("kernel", "configuration", "compiled", "registers", "spilled", "shared", "tensor cores", "loads")


def rows(reports: Iterable[Report]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each kernel and configuration: the largest numbers of its compiled versions, and their loads.

    If versions differ in their loads, the row shows one and the number of others.
    """

    def key(report: Report) -> tuple[str, ...]:
        return report.kernel, report.precision, report.config

    for (kernel, precision, config), same in groupby(sorted(reports, key=key), key):
        group = list(same)
        names = sorted({name for report in group for name in report.tensor})
        widths = {
            (report.widths or "-") + ("" if report.wide else f" ({report.excuse or 'narrow'})") for report in group
        }
        yield (
            f"{kernel} {precision}".strip(),
            config,
            str(len(group)),
            str(max(report.registers for report in group)),
            str(max(report.spilled for report in group)),
            str(max(report.shared for report in group)),
            " ".join(names) or "-",
            min(widths, key=len) + (f", {len(widths) - 1} other" if len(widths) > 1 else ""),
        )


def show(architecture: str, reports: list[Report]) -> None:
    """Print the table of an architecture."""
    table = [HEADINGS, *rows(reports)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    print(f"{architecture}: {len(reports)} kernels; {SHARED[architecture]} bytes of shared memory for a program")
    for row in table:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Audit the kernels, and print tables and the requirements that are not met; return 1 if there are any, else 0."""
    parser = argparse.ArgumentParser(prog="python -m refnet_triton.audit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("architectures", nargs="*", metavar="ARCHITECTURE", help=f"of {', '.join(SHARED)}; all if none")
    parser.add_argument(
        "--all", action="store_true", help="also one column, batch 512 and the candidates of refnet tune in tf32 (slow)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with all compiled kernels")
    options = parser.parse_args(arguments)
    if unknown := set(options.architectures) - set(SHARED):
        parser.error(f"{', '.join(sorted(unknown))} is not one of {', '.join(SHARED)}")
    all_reports: list[Report] = []
    breaches: list[str] = []
    for architecture in options.architectures or SHARED:
        reports = [audit(launch, architecture) for launch in launches(architecture, every=options.all)]
        all_reports += reports
        large, overflows = _offsets.breaches(architecture)
        breaches += [f"{report}: {breach}" for report in reports for breach in report.breaches()] + overflows
        if not options.json:
            show(architecture, reports)
            print(f"{large} launches with arrays of up to and beyond 2^31 numbers: {len(overflows)} overflows\n")
    if options.json:
        print(json.dumps({"kernels": [asdict(report) for report in all_reports], "breaches": breaches}))
        return bool(breaches)
    for name, reason in REASONS.items():
        print(f"({name}): {reason}")
    for breach in breaches:
        print(f"BREACH {breach}")
    print(f"{len(all_reports)} kernels, {len(breaches)} breaches")
    return bool(breaches)


if __name__ == "__main__":
    end("audit", main)
