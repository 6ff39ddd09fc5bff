"""Kernel configurations: a table of block sizes for each architecture. Nothing here is chosen at run time.

``refnet tune`` writes a table for this machine's GPU to the file :func:`table_path`, which is then used instead.

Block sizes are powers of two. A block that is larger than the array, or mostly outside it, is halved (``_fitted``).
Only two things decide in which order numbers are added: the block sizes along a sum (``BLOCK_D`` of ``multiply``,
``BLOCK_M`` of ``correlate``, ``BLOCK_P`` of ``add_parts``), and ``programs``, which decides into how many parts a long
sum is split. So the same table and the same shapes give the same bits.
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
MIN_BLOCK = 16  # the shortest side of a block that tensor cores can multiply


@dataclass(frozen=True)
class Config:
    """The block sizes, warps and pipeline stages of one kernel.

    Attributes
    ----------
    blocks
        The kernel's ``BLOCK_*`` constants, before `fit` reduces them to the sizes of arrays.
    warps
        Number of warps that run a program.
    stages
        Number of stages of the pipeline: a loop loads the blocks of the next stages - 1 rounds in advance.
    factors
        How the kernel rounds the factors of products, where that differs from the table's precision: in another way
        that is at least as accurate, and faster.
    """

    blocks: Mapping[str, int] = field(default_factory=dict)
    warps: int = 4
    stages: int = 2
    factors: str = ""

    def __hash__(self) -> int:
        return hash((*self.blocks.items(), self.warps, self.stages, self.factors))

    def __str__(self) -> str:
        blocks = "x".join(str(size) for size in self.blocks.values())
        factors = f", {self.factors}" if self.factors else ""
        return f"{blocks}, {self.warps} warps, {self.stages} stages{factors}"

    def fit(self, **sizes: int) -> dict[str, int]:
        """Return blocks by name, reduced to the given sizes: ``fit(M=rows)`` returns ``BLOCK_M`` for `rows` rows."""
        return {f"BLOCK_{letter}": _fitted(self.blocks[f"BLOCK_{letter}"], size) for letter, size in sizes.items()}


def _fitted(block: int, size: int) -> int:
    """Return the block reduced to the size, and halved while that saves a fifth of the size padded to whole blocks."""
    block = min(block, max(MIN_BLOCK, power_of_two(size)))
    while block > MIN_BLOCK and -(-size // (block // 2)) * (block // 2) <= 0.8 * -(-size // block) * block:
        block //= 2
    return block


def power_of_two(size: int) -> int:
    """Return the smallest power of two that is at least the size."""
    return 1 << max(0, size - 1).bit_length()


@dataclass(frozen=True)
class Table:
    """All configurations of one architecture.

    Attributes
    ----------
    programs
        Number of programs that keep the chip busy: two for each of its multiprocessors.
    configs
        The configuration of each kernel, by name. A matrix product has one for each precision, ``multiply/tf32``, and
        may have one for a single shape, ``multiply/tf32 192x3x768 13x13`` (`Product`): ``refnet tune`` writes it where
        it is faster.
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


def product(m: int, k: int, d: int, warps: int, stages: int, factors: str = "") -> Config:
    """Return a configuration of a matrix-product kernel, with blocks of m x d and d x k numbers (see `_product`)."""
    return Config({"BLOCK_M": m, "BLOCK_K": k, "BLOCK_D": d}, warps, stages, factors)


# Each factor as the sum of two numbers in bf16 (16 bits, three products), or of three (24 bits, six products). From
# sm_90 on, tensor cores read 16-bit factors along either axis. In tf32 they need the summed axis contiguous, so that
# `correlate` stores its blocks across shared memory, 16 numbers of a warp in the same bank.
SPLIT, SPLIT_IN_THREE = "bf16x3", "bf16x6"


# Kernels without matrix products are limited by memory bandwidth on every GPU, so all GPUs share their configurations.
_BANDWIDTH_LIMITED = {
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
    # The interpreter needs milliseconds for each program, however small, so blocks are huge.
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
            **_BANDWIDTH_LIMITED,
        },
    ),
    "sm_90": Table(
        264,
        {
            "multiply/tf32": product(128, 128, 32, 8, 3),
            "multiply/tf32x3": product(64, 64, 32, 4, 3),
            "multiply/ieee": product(64, 64, 16, 4, 3),
            "correlate/tf32": product(32, 128, 128, 8, 1, SPLIT),
            "correlate/tf32x3": product(32, 64, 64, 4, 1, SPLIT_IN_THREE),
            "correlate/ieee": product(16, 64, 64, 4, 1),
            **_BANDWIDTH_LIMITED,
        },
    ),
    "sm_100": Table(
        296,
        {
            "multiply/tf32": product(128, 128, 32, 8, 3),
            "multiply/tf32x3": product(64, 64, 32, 4, 3),
            # With the blocks of sm_90, multiply/ieee would spill registers on sm_100 (see audit.py).
            "multiply/ieee": product(64, 32, 16, 2, 3),
            "correlate/tf32": product(32, 128, 128, 8, 1, SPLIT),
            "correlate/tf32x3": product(32, 64, 64, 4, 1, SPLIT_IN_THREE),
            "correlate/ieee": product(16, 64, 64, 4, 1),
            **_BANDWIDTH_LIMITED,
        },
    ),
    "gfx942": Table(
        608,
        {
            "multiply/tf32": product(128, 64, 32, 4, 2),
            "multiply/ieee": product(128, 64, 16, 4, 2),
            "correlate/tf32": product(32, 64, 64, 4, 1),
            "correlate/ieee": product(16, 64, 64, 4, 1),
            **_BANDWIDTH_LIMITED,
        },
    ),
}


_overrides: dict[str, Table] = {}


def use(architecture: str, table: Table) -> None:
    """Use this table for an architecture from now on, in this process."""
    _overrides[architecture] = table


def table_path(architecture: str) -> Path:
    """Return the path of the file to which ``refnet tune`` writes a table."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "refnet" / f"triton-{architecture}.json"


def write(architecture: str, table: Table) -> Path:
    """Write a table to the file that ``find`` reads, and return the path of that file.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    path = table_path(architecture)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(table), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; set XDG_CONFIG_HOME") from error
    read.cache_clear()
    return path


@cache
def read(architecture: str) -> Table | None:
    """Return the table that ``refnet tune`` saved for an architecture, or None if it has not.

    Raises
    ------
    ConfigError
        The file is not such a table.
    """
    path = table_path(architecture)
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        configs = {name: Config(**config) for name, config in saved["configs"].items()}
        return Table(int(saved["programs"]), configs)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not a table of configurations ({error}); delete it, or tune again") from error


def find(architecture: str) -> Table:
    """Return the table of an architecture: the one in `use`, the tuned one, or the one in ``TABLES``."""
    return _overrides.get(architecture) or read(architecture) or TABLES[in_tables(architecture)]


def in_tables(architecture: str) -> str:
    """Return the key of ``TABLES`` for an architecture: its own name, or that of the newest older NVIDIA chip.

    Raises
    ------
    BackendUnavailableError
        There is no such key.
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
