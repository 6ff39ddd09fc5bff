"""How kernels are cut up: one table for each architecture, as data. Nothing here is chosen at run time.

``refnet tune`` writes a table of the card at hand to :func:`place`, which then goes before the one here.

A block is a power of two; one that is larger than what it cuts, or would leave much of itself unused, is halved.
Only the blocks along a sum (``BLOCK_D`` of ``multiply``, ``BLOCK_M`` of ``correlate``, ``BLOCK_P`` of ``add_parts``)
and ``PROGRAMS``, from which follows into how many parts a long sum is split, decide in what order numbers are added.
So the same table and the same shapes give the same bits.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from refnet.errors import BackendUnavailableError, ConfigError, setting

PRECISIONS = ("ieee", "tf32x3", "tf32")
INTERPRETER = "interpreter"
SMALLEST = 16  # side of a block that tensor cores take


@dataclass(frozen=True)
class Config:
    """One way to run one kernel.

    Attributes
    ----------
    blocks
        The kernel's ``BLOCK_*`` constants, before they are fitted to what they cut.
    warps, stages
        Warps of a program, and how many steps of a loop its loads run ahead.
    """

    blocks: Mapping[str, int] = field(default_factory=dict)
    warps: int = 4
    stages: int = 2

    def __hash__(self) -> int:
        return hash((*self.blocks.items(), self.warps, self.stages))

    def __str__(self) -> str:
        blocks = "x".join(str(size) for size in self.blocks.values())
        return f"{blocks}, {self.warps} warps, {self.stages} stages"

    def fit(self, **sizes: int) -> dict[str, int]:
        """Give each block fitted to what it cuts: ``fit(M=rows)`` is about ``BLOCK_M``."""
        return {f"BLOCK_{letter}": _fitted(self.blocks[f"BLOCK_{letter}"], size) for letter, size in sizes.items()}


def _fitted(block: int, size: int) -> int:
    """Reduce a block to the size, and further while that leaves a fifth less of the last block unused."""
    block = min(block, max(SMALLEST, power_of_two(size)))
    while block > SMALLEST and -(-size // (block // 2)) * (block // 2) <= 0.8 * -(-size // block) * block:
        block //= 2
    return block


def power_of_two(size: int) -> int:
    """Return the smallest power of two that is not below the size."""
    return 1 << max(0, size - 1).bit_length()


@dataclass(frozen=True)
class Table:
    """All configurations of one architecture, by kernel; those of products by kernel and precision.

    Attributes
    ----------
    programs
        How many programs keep the chip busy: two for each of its multiprocessors.
    """

    programs: int
    configs: Mapping[str, Config]


def product(m: int, k: int, d: int, warps: int, stages: int) -> Config:
    return Config({"BLOCK_M": m, "BLOCK_K": k, "BLOCK_D": d}, warps, stages)


# What moves numbers without multiplying matrices is bound by memory everywhere, and cut the same way on every GPU.
_MOVING = {
    "lay": Config({"BLOCK_M": 64, "BLOCK_C": 32}),
    "add_parts": Config({"BLOCK_I": 128, "BLOCK_P": 16}),
    "add_rows": Config({"BLOCK_I": 32, "BLOCK_P": 128}),
    "elementwise": Config({"BLOCK_I": 1024}),
    "lrn": Config({"BLOCK_C": 16, "BLOCK_M": 64}),
    "maxpool": Config({"BLOCK_M": 4, "BLOCK_I": 256}),
    "philox": Config({"BLOCK_N": 1, "BLOCK_B": 256}),
    "softmax_xent": Config({"BLOCK_N": 1}),
    "mean": Config({"BLOCK_N": 1024}),
}

TABLES: Mapping[str, Table] = {
    # Every program costs the interpreter milliseconds, whatever its size, so blocks are huge.
    INTERPRETER: Table(
        2,
        {
            "multiply/ieee": product(4096, 128, 256, 1, 1),
            "correlate/ieee": product(4096, 128, 128, 1, 1),
            "lay": Config({"BLOCK_M": 8192, "BLOCK_C": 32}),
            "add_parts": Config({"BLOCK_I": 4096, "BLOCK_P": 16}),
            "add_rows": Config({"BLOCK_I": 128, "BLOCK_P": 1024}),
            "elementwise": Config({"BLOCK_I": 1 << 17}),
            "lrn": Config({"BLOCK_C": 32, "BLOCK_M": 4096}),
            "maxpool": Config({"BLOCK_M": 1024, "BLOCK_I": 64}),
            "philox": Config({"BLOCK_N": 256, "BLOCK_B": 128}),
            "softmax_xent": Config({"BLOCK_N": 64}),
            "mean": Config({"BLOCK_N": 1024}),
        },
    ),
    "sm_80": Table(
        216,
        {
            "multiply/tf32": product(128, 64, 32, 4, 3),
            "multiply/tf32x3": product(64, 64, 32, 4, 3),
            "multiply/ieee": product(64, 64, 16, 4, 3),
            "correlate/tf32": product(32, 64, 128, 4, 1),
            "correlate/tf32x3": product(32, 64, 64, 4, 1),
            "correlate/ieee": product(16, 64, 64, 4, 1),
            **_MOVING,
        },
    ),
    "sm_90": Table(
        264,
        {
            "multiply/tf32": product(128, 128, 32, 8, 3),
            "multiply/tf32x3": product(64, 64, 32, 4, 3),
            "multiply/ieee": product(64, 64, 16, 4, 3),
            "correlate/tf32": product(32, 128, 128, 8, 1),
            "correlate/tf32x3": product(32, 64, 64, 4, 1),
            "correlate/ieee": product(16, 64, 64, 4, 1),
            **_MOVING,
        },
    ),
    "sm_100": Table(
        296,
        {
            "multiply/tf32": product(128, 128, 32, 8, 3),
            "multiply/tf32x3": product(64, 64, 32, 4, 3),
            # Cut as on sm_90, multiply/ieee would spill registers here (see audit.py).
            "multiply/ieee": product(64, 32, 16, 2, 3),
            "correlate/tf32": product(32, 128, 128, 8, 1),
            "correlate/tf32x3": product(32, 64, 64, 4, 1),
            "correlate/ieee": product(16, 64, 64, 4, 1),
            **_MOVING,
        },
    ),
    "gfx942": Table(
        608,
        {
            "multiply/tf32": product(128, 64, 32, 4, 2),
            "multiply/ieee": product(128, 64, 16, 4, 2),
            "correlate/tf32": product(32, 64, 64, 4, 1),
            "correlate/ieee": product(16, 64, 64, 4, 1),
            **_MOVING,
        },
    ),
}


_used: dict[str, Table] = {}


def use(architecture: str, table: Table) -> None:
    """Let a table go before all others, in this process."""
    _used[architecture] = table


def place(architecture: str) -> Path:
    """Say where ``refnet tune`` leaves its table."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "refnet" / f"triton-{architecture}.json"


def write(architecture: str, table: Table) -> Path:
    """Save a table where ``find`` looks for it.

    Raises
    ------
    ConfigError
        It cannot be written there.
    """
    path = place(architecture)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(table), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; set XDG_CONFIG_HOME") from error
    read.cache_clear()
    return path


@cache
def read(architecture: str) -> Table | None:
    """Read a saved table; None where there is none.

    Raises
    ------
    ConfigError
        The file is not such a table.
    """
    path = place(architecture)
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        configs = {name: Config(**config) for name, config in saved["configs"].items()}
        return Table(int(saved["programs"]), configs)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not a table of configurations ({error}); delete it, or tune again") from error


def find(architecture: str) -> Table:
    """Look up the table of an architecture: the one that has been tuned for it, or its kin's."""
    return _used.get(architecture) or read(architecture) or TABLES[kin(architecture)]


def kin(architecture: str) -> str:
    """Name the architecture whose table one takes: its own, or that of the newest NVIDIA chip before it.

    Raises
    ------
    BackendUnavailableError
        There is none.
    """
    if architecture in TABLES:
        return architecture
    older = [name for name in TABLES if name.startswith("sm_") and architecture.startswith("sm_") and
             int(name[3:]) <= int(architecture[3:])]  # fmt: skip
    if older:
        return max(older, key=lambda name: int(name[3:]))
    raise BackendUnavailableError(
        f"backend triton has no kernel configurations for {architecture}, only for {', '.join(TABLES)}; "
        f"use {setting('backend', 'auto')}"
    )
