"""Compile the kernels for chips that need not be here, and judge what came out: ``python -m refnet_triton.audit``.

Every kernel that a training step of the paper's network launches, in every precision, is compiled as a GPU would be
given it. Of the machine code are read, and held to what a fast kernel must have:

1. no register spilled to memory;
2. shared memory within what the chip grants one program;
3. products by tensor cores in tf32 and tf32x3, and by none that round in ieee;
4. loads of 16 bytes wherever neighbouring numbers lie so that one instruction can take four of them: all copies into
   shared memory, and more than half of the bytes of other loads. ``EXCUSES`` beside a kernel says why they do not
   lie so, by a key of ``REASONS``.

Of the kernels that arrays of more than 2^31 numbers need, one thing more (:mod:`._offsets`):

5. no number overflows on its way to an address.

It ends with exit code 1 where one does not hold. Nothing is run: this is no measurement.
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
from importlib import import_module
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from refnet.errors import end
from refnet.nets import NetSpec
from refnet.ops import OPS
from refnet_triton import TritonBackend, _configs, _launch, _offsets
from refnet_triton._launch import Launch
from refnet_triton._offline import compiled, different, step_launches
from refnet_triton._tune import CANDIDATES

# Bytes of shared memory that one program may have (CUDA's programming guide, table of compute capabilities; CDNA 3's
# instruction set, local data share).
SHARED = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024, "gfx942": 64 * 1024}
LANES = {"gfx942": 64}  # threads of a warp, where they are not 32
WIDE = 16
REASONS = {
    "maps": "reads maps as the network keeps them, rows of 55, 27, 13 or 6 pixels, which begin anywhere",
    "odd": "the length is no multiple of 16 numbers, so the last of a row would not fill its load",
    "short": "a program has fewer than four numbers for each thread",
    "pixels": "reads photographs, whose neighbouring bytes are three colours of a pixel, and mirrors some of them",
    "one": "all it reads is one number, which step it is",
}
_NVIDIA = re.compile(r"\b(LDGSTS|LDG|LDL|STL)((?:\.\w+)*)|\b(HMMA|HGMMA|UTC\w*MMA)\b")
_AMD = re.compile(r"\b(?:global|buffer)_load_(dwordx4|dwordx3|dwordx2|dword|ushort|ubyte)\b|\b(v_mfma_\w+)")
_SASS_BYTES = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
_AMD_BYTES = {"dwordx4": 16, "dwordx3": 12, "dwordx2": 8, "dword": 4, "ushort": 2, "ubyte": 1}


@dataclass(frozen=True)
class Report:
    """What one compiled kernel is.

    Attributes
    ----------
    precision
        Of a product; empty for other kernels.
    registers
        Of a thread, 32 bits each.
    spilled
        Bytes of a thread that did not fit into registers.
    shared
        Bytes of shared memory of a program.
    tensor
        Tensor-core instructions by name.
    copies, loads
        Instructions that copy from global to shared memory, or load from global memory into registers, by the bytes
        that each brings for a thread.
    excuse
        Why its loads may be narrow: a key of ``REASONS``, or nothing.
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
    excuse: str

    def breaches(self) -> Iterator[str]:
        """Say what does not hold."""
        if self.spilled:
            yield f"{self.spilled} bytes of a thread's registers are spilled to memory"
        if self.shared > SHARED[self.architecture]:
            yield f"{self.shared} bytes of shared memory, where the chip has {SHARED[self.architecture]} for a program"
        rounding = [name for name in self.tensor if not name.endswith("_f32")]  # AMD's have a float32 kind too
        if self.precision in {"tf32", "tf32x3"} and not rounding:
            yield f"no tensor-core instruction, although it multiplies in {self.precision}"
        if self.precision in {"", "ieee"} and rounding:
            yield f"{', '.join(rounding)}, which rounds what it multiplies, where nothing may be rounded"
        if not self.wide and not self.excuse:
            yield f"narrow loads: {self.widths}, although neighbouring numbers lie side by side"

    @property
    def wide(self) -> bool:
        """Whether loads take as much as one instruction can."""
        if self.copies:
            return set(self.copies) == {WIDE}
        total = sum(width * count for width, count in self.loads.items())
        return not total or 2 * WIDE * self.loads.get(WIDE, 0) > total

    @property
    def widths(self) -> str:
        """The loads that rule 4 looks at, as text: how many, of how many bytes."""
        counted = self.copies or self.loads
        return ", ".join(f"{counted[width]}x{width}" for width in sorted(counted, reverse=True))

    def __str__(self) -> str:
        sizes = ", ".join(f"{name}={size}" for name, size in self.sizes.items())
        return f"{self.architecture} {self.kernel} {self.precision} ({self.config}; {sizes})"


def audit(launch: Launch, architecture: str) -> Report:
    """Compile the kernel of a launch, and read what became of it."""
    kernel = compiled(launch, architecture)
    if "cubin" in kernel.asm:
        registers, spilled, found = _read_cubin(kernel.asm["cubin"])
    else:
        registers, spilled, found = _read_amdgcn(kernel.asm["amdgcn"])
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
        tensor=dict(found["tensor"]),
        copies=dict(found["copies"]),
        loads=dict(found["loads"]),
        excuse=excuse(launch, architecture),
    )  # fmt: skip


def excuse(launch: Launch, architecture: str) -> str:
    """Tell why a launch's loads may be narrow, or nothing."""
    constants, excuses = launch.constants, getattr(sys.modules[launch.kernel.module], "EXCUSES", {})
    if launch.kernel.__name__ in excuses:
        return str(excuses[launch.kernel.__name__])
    each = 4 if "BLOCK_B" in constants else 1  # four random words a block
    numbers = each * prod(size for letter, size in constants.items() if letter.startswith("BLOCK_"))
    if numbers < 4 * LANES.get(architecture, 32) * launch.config.warps:
        return "short"
    return "odd" if launch.arguments.get("SIZE", 0) % 16 else ""


def launches(architecture: str, *, every: bool = False) -> list[Launch]:
    """List one launch for each kernel to compile; with `every`, also for other batches, columns and configurations."""
    table = _configs.find(architecture)
    precisions = [precision for precision in _configs.PRECISIONS if f"multiply/{precision}" in table.configs]
    shapes = [(2, 128), *([(1, 128), (2, 512)] if every else [])]
    found = _others(architecture)
    for precision in precisions:
        for columns, batch in shapes:
            found += step_launches(NetSpec("paper", columns=columns).plan(), batch, architecture, precision)
    for kernel, candidates in CANDIDATES[architecture].items() if every else ():
        for config in candidates:
            tried = {**table.configs, f"{kernel}/tf32": config}
            _configs.use(architecture, replace(table, configs=tried))
            step = step_launches(NetSpec("paper").plan(), 128, architecture, "tf32")
            found += [launch for launch in step if launch.kernel.__name__ == kernel]
    _configs.use(architecture, table)
    return different(found)


def _others(architecture: str) -> list[Launch]:
    """List launches of what the paper's network has no use for: each op's file has them in a function ``audited``."""
    with _launch.trace(architecture) as found:
        backend: Any = TritonBackend(1, ("meta",), precision="ieee")
        x = backend.asarray(np.zeros((128, 48, 55, 55), np.float32))
        for op in OPS:
            module: Any = import_module(f"refnet_triton.{op}")
            if "audited" in vars(module):
                module.audited(backend, x)
    return found


def _config(launch: Launch) -> str:
    blocks = "x".join(str(size) for name, size in launch.constants.items() if name.startswith("BLOCK_"))
    return f"{blocks}, {launch.config.warps} warps, {launch.config.stages} stages"


def _read_cubin(cubin: bytes) -> tuple[int, int, dict[str, Counter[Any]]]:
    """Read registers, spilled bytes and instructions from NVIDIA's machine code, with the tool that Triton brings."""
    import triton  # noqa: PLC0415

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "-res-usage", "-sass", file.name], check=True, capture_output=True, text=True
        ).stdout
    registers, stack, local = _numbers(text, r"REG:(\d+)", r"STACK:(\d+)", r"LOCAL:(\d+)")
    found: dict[str, Counter[Any]] = {"tensor": Counter(), "copies": Counter(), "loads": Counter()}
    kinds = {"LDGSTS": "copies", "LDG": "loads"}
    for name, flags, tensor in _NVIDIA.findall(text):
        if tensor:
            found["tensor"][tensor] += 1
        elif name in kinds:
            found[kinds[name]][_sass_bytes(flags)] += 1
    return registers, stack + local, found


def _sass_bytes(flags: str) -> int:
    return next((_SASS_BYTES[flag] for flag in flags.split(".") if flag in _SASS_BYTES), 4)


def _read_amdgcn(text: str) -> tuple[int, int, dict[str, Counter[Any]]]:
    """Read the same from AMD's assembly. A scalar register that is spilled may lie in a vector register; it counts."""
    (registers, *spills) = _numbers(text, r"\.vgpr_count:\s*(\d+)", r"\.vgpr_spill_count:\s*(\d+)",
                                    r"\.sgpr_spill_count:\s*(\d+)")  # fmt: skip
    found: dict[str, Counter[Any]] = {"tensor": Counter(), "copies": Counter(), "loads": Counter()}
    for width, tensor in _AMD.findall(text):
        if tensor:
            found["tensor"][tensor] += 1
        else:
            found["loads"][_AMD_BYTES[width]] += 1
    return registers, 4 * sum(spills), found


def _numbers(text: str, *patterns: str) -> list[int]:
    found = [re.search(pattern, text) for pattern in patterns]
    return [int(match[1]) if match else sys.exit(f"the listing has no {pattern}") for match, pattern in
            zip(found, patterns, strict=True)]  # fmt: skip


# The table -----------------------------------------------------------------------------------------------------------

HEADINGS = ("kernel", "configuration", "compiled", "registers", "spilled", "shared", "tensor cores", "loads")


def rows(reports: Iterable[Report]) -> Iterator[tuple[str, ...]]:
    """Give a row for each kernel in each configuration: the most that any of its kernels takes, and its loads."""

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
    """Audit, print the tables and what does not hold; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m refnet_triton.audit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("architectures", nargs="*", metavar="ARCHITECTURE", help=f"of {', '.join(SHARED)}; all if none")
    parser.add_argument(
        "--all", action="store_true", help="one column, batch 512 and what refnet tune tries in tf32, too (long)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, with every kernel compiled")
    options = parser.parse_args(arguments)
    if unknown := set(options.architectures) - set(SHARED):
        parser.error(f"{', '.join(sorted(unknown))} is not one of {', '.join(SHARED)}")
    every: list[Report] = []
    breaches: list[str] = []
    for architecture in options.architectures or SHARED:
        found = [audit(launch, architecture) for launch in launches(architecture, every=options.all)]
        every += found
        large, overflows = _offsets.breaches(architecture)
        breaches += [f"{report}: {breach}" for report in found for breach in report.breaches()] + overflows
        if not options.json:
            show(architecture, found)
            print(f"{large} launches with arrays of up to and beyond 2^31 numbers: {len(overflows)} overflows\n")
    if options.json:
        print(json.dumps({"kernels": [asdict(report) for report in every], "breaches": breaches}))
        return bool(breaches)
    for name, reason in REASONS.items():
        print(f"({name}): {reason}")
    for breach in breaches:
        print(f"BREACH {breach}")
    print(f"{len(every)} kernels, {len(breaches)} breaches")
    return bool(breaches)


if __name__ == "__main__":
    end("audit", main)
