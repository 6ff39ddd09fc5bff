"""Kernel configurations: one table of block sizes for each architecture, as data. Nothing here is chosen at run time.

``refnet tune`` writes a table for the card of this machine to :func:`place`; it replaces the one here.

Block sizes are powers of two. A block that is larger than the array, or that would leave much of itself unused, is
halved. The order in which numbers are added depends only on the blocks along a sum (``BLOCK_D`` of ``multiply``,
``BLOCK_M`` of ``correlate``, ``BLOCK_P`` of ``add_parts``) and on ``programs``, which determines into how many parts a
long sum is split. So the same table and the same shapes give the same bits.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from refnet.errors import BackendUnavailableError, ConfigError
from refnet.terminal.spelling import setting

PRECISIONS = ("ieee", "tf32x3", "tf32")
INTERPRETER = "interpreter"
MIN_BLOCK = 16  # the smallest side of a block that tensor cores take


@dataclass(frozen=True)
class Config:
    """The block sizes, warps and pipeline stages of one kernel.

    Attributes
    ----------
    blocks
        The kernel's ``BLOCK_*`` constants, before `fit` reduces them to the sizes of arrays.
    warps, stages
        Number of warps of a program, and of loop steps by which its loads run ahead.
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
        """Return the blocks, reduced to the given sizes: ``fit(M=rows)`` returns ``BLOCK_M`` for `rows` rows."""
        return {f"BLOCK_{letter}": _fitted(self.blocks[f"BLOCK_{letter}"], size) for letter, size in sizes.items()}


def _fitted(block: int, size: int) -> int:
    """Return the block reduced to the size, and halved while that saves at least a fifth of the padded size."""
    block = min(block, max(MIN_BLOCK, power_of_two(size)))
    while block > MIN_BLOCK and -(-size // (block // 2)) * (block // 2) <= 0.8 * -(-size // block) * block:
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
        Number of programs that keep the chip busy: two for each of its multiprocessors.
    configs
        ``multiply/tf32``: the configuration of a kernel and a precision. ``multiply/tf32 192x3x768 13x13``: that of one
        shape of it (`Product`), which ``refnet tune`` writes where it is faster.
    """

    programs: int
    configs: Mapping[str, Config]

    def of(self, product: "Product") -> Config:
        """Return the configuration of a product: that of its shape, or that of its kernel and precision."""
        return self.configs.get(str(product)) or self.configs[product.kernel]


@dataclass(frozen=True)
class Product:
    """A matrix product to launch, for any number of images.

    Attributes
    ----------
    kernel
        The kernel and its precision, as in ``multiply/tf32``.
    K, R, RUN
        Number of filters (of images, for dx of a fully connected layer), rows of a window, and numbers of each row.
    P, Q
        Rows and columns of windows in an image.
    """

    kernel: str
    K: int
    R: int
    RUN: int
    P: int
    Q: int

    def __str__(self) -> str:
        return f"{self.kernel} {self.K}x{self.R}x{self.RUN} {self.P}x{self.Q}"


def product(m: int, k: int, d: int, warps: int, stages: int) -> Config:
    """Return a configuration of a matrix-product kernel."""
    return Config({"BLOCK_M": m, "BLOCK_K": k, "BLOCK_D": d}, warps, stages)


# Kernels without matrix products are bound by memory bandwidth on every GPU, so one configuration serves all.
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
    # Each program costs the interpreter milliseconds, however small it is, so blocks are huge.
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
            # With the blocks of sm_90, multiply/ieee would spill registers here (see audit.py).
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
    """Use a table for an architecture instead of all others, in this process."""
    _used[architecture] = table


def place(architecture: str) -> Path:
    """Return the path of the table that ``refnet tune`` writes."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "refnet" / f"triton-{architecture}.json"


def write(architecture: str, table: Table) -> Path:
    """Write a table to the file that ``find`` reads; return its path.

    Raises
    ------
    ConfigError
        The file cannot be written.
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
    """Return the saved table of an architecture, or None if there is none.

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
    """Return the table of an architecture: the tuned one, or that of the architecture which `kin` returns."""
    return _used.get(architecture) or read(architecture) or TABLES[kin(architecture)]


def kin(architecture: str) -> str:
    """Return the name of the architecture whose table is used: its own, or the newest older NVIDIA chip's.

    Raises
    ------
    BackendUnavailableError
        There is no such table.
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
