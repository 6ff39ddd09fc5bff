"""Windows of images, read in place: how arrays are laid out, and the kernel that copies them.

In a laid-out array (N, HEIGHT, WIDTH, DEPTH) the channels of a pixel are adjacent in memory, and each image has a
border of zeros. DEPTH is the number of channels, rounded up to a multiple of four. One row of a window is then a run of
RUN = S * DEPTH adjacent numbers, and a window is R such runs, ROW apart. So the windows are the rows of a matrix
(N*P*Q, R*RUN) that kernels read directly from the array.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from refnet.errors import ShapeError
from refnet_triton import _memory
from refnet_triton._launch import Launch, cdiv, launch, table

# Kernels that may have narrow loads, each with its reason: a key of audit.REASONS.
EXCUSES = {"lay": "maps"}

Tensor = torch.Tensor

QUAD = 4  # channels are padded to a multiple of 4: 16 bytes, which one instruction loads


@dataclass(frozen=True)
class Windows:
    """The positions of the windows in a laid-out array, as arguments of kernels. Distances are in numbers, not bytes.

    Attributes
    ----------
    P, Q
        Rows and columns of windows in an image.
    R, RUN
        Number of rows of a window, and the length of each in numbers.
    IMAGE, ROW
        Distances from one image to the next, and from one row of a window to the next.
    DOWN, RIGHT
        Distances from a window to the one below, and to the one on its right.

    Raises
    ------
    ShapeError
        An image has 2^31 numbers or more; positions inside an image are 32-bit.
    """

    P: int
    Q: int
    R: int
    RUN: int
    IMAGE: int
    ROW: int
    DOWN: int
    RIGHT: int

    def __post_init__(self) -> None:
        if self.IMAGE >= 2**31:
            raise ShapeError(
                f"backend triton needs images of fewer than 2^31 numbers with their border, not {self.IMAGE}"
            )


def one_pixel(features: int) -> Windows:
    """Return the windows of a matrix whose rows are seen as images of one pixel, each with one window."""
    return Windows(P=1, Q=1, R=1, RUN=features, IMAGE=features, ROW=features, DOWN=features, RIGHT=features)


@dataclass(frozen=True)
class Laid:
    """An array laid out with its channels last, (N, HEIGHT, WIDTH, DEPTH), with zeros where its source has no pixel.

    Attributes
    ----------
    a
        The array.
    """

    a: Tensor

    def start(self, row: int, column: int) -> Tensor:
        """Return a flat view that starts at a pixel of the first image."""
        _, _, width, depth = self.a.shape
        return self.a.view(-1)[(row * width + column) * depth :]

    def windows(self, P: int, Q: int, R: int, S: int, stride: int = 1) -> Windows:
        """Return P x Q windows of R x S pixels, `stride` pixels apart; the first begins at the first pixel."""
        _, height, width, depth = self.a.shape
        row = width * depth
        return Windows(P, Q, R, S * depth, height * row, row, stride * row, stride * depth)


@triton.jit
def wide(number, SIZE):
    """Return the number with the width of SIZE: 64 bits if SIZE is 2^31 or more, because positions then need them."""
    return number + 0 * SIZE


@triton.jit
def rounded(numbers):
    """Return the numbers rounded to tf32: to the nearest of 11 significant bits, ties away from zero.

    The largest numbers, which rounding would make infinite, are truncated. A NaN stays a NaN: one of the bits that
    tensor cores read is set.
    """
    bits = numbers.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    nan = (magnitude > 0x7F800000).to(tl.int32)
    bits = tl.where(magnitude < 0x7F7FF000, bits + 0x1000, bits | (nan << 22))
    return (bits & -0x2000).to(tl.float32, bitcast=True)


@triton.jit
def lay(
    source, y, target, sums, M,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    BY_N: tl.constexpr, BY_C: tl.constexpr, BY_H: tl.constexpr, BY_W: tl.constexpr, START: tl.constexpr,
    TOP: tl.constexpr, LEFT: tl.constexpr, STEP: tl.constexpr,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
    RELU: tl.constexpr, SUMS: tl.constexpr, TF32: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """target[n, i, j, c] = source[n, c, i - TOP, j - LEFT], or 0 where the source has no such pixel.

    BY_N, BY_C, BY_H and BY_W are the distances between neighbours along each axis of the source, and START is the
    index of its first number. With STEP > 1, neighbouring pixels of the source are STEP apart in the target.
    """
    # 1. The pixels (BLOCK_M,) of the target, numbered through all images, and its channels (BLOCK_C,).
    m = wide(tl.program_id(0), M) * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    n, i, j = m // (HEIGHT * WIDTH), m // WIDTH % HEIGHT - TOP, m % WIDTH - LEFT
    # 2. Every STEP-th pixel inside the borders comes from the source.
    inside = (m < M) & (i >= 0) & (j >= 0) & (i < H * STEP) & (j < W * STEP) & (i % STEP == 0) & (j % STEP == 0)
    at = START + n.to(tl.int64) * BY_N + (i // STEP) * BY_H + (j // STEP) * BY_W
    at = at[:, None] + (c.to(tl.int64) * BY_C)[None, :]
    valid = inside[:, None] & (c < C)[None, :]
    numbers = tl.load(source + at, mask=valid, other=0.0)  # (BLOCK_M, BLOCK_C)
    # 3. The gradient of ReLU: zero where its output y is zero.
    if RELU:
        numbers = tl.where(tl.load(y + at, mask=valid, other=0.0) <= 0, 0.0, numbers)
    # 4. Tensor cores ignore the last 13 bits of a tf32 factor, so it is rounded here.
    tl.store(
        target + m.to(tl.int64)[:, None] * DEPTH + c[None, :],
        rounded(numbers) if TF32 else numbers,
        mask=(m < M)[:, None] & (c < DEPTH)[None, :],
    )
    # 5. The sum over these pixels: of 16 at a time, then of those sums. db is the sum over all blocks.
    if SUMS:
        total = tl.sum(tl.sum(tl.reshape(numbers, (BLOCK_M // 16, 16, BLOCK_C)), axis=1), axis=0)
        tl.store(sums + tl.program_id(0).to(tl.int64) * C + c, total, mask=c < C)


def lay_out(
    x: Tensor, height: int, width: int, *, top: int = 0, left: int = 0, rotated: bool = False, precision: str
) -> Laid:
    """Return x (N,C,H,W) laid out as (N, height, width, DEPTH), as products in this precision read it.

    Its first pixel is at (top, left). If `rotated`, x is an array of kernels (K,C,R,S): they are rotated by 180 degrees
    and their first two axes are exchanged, so the result is (C, height, width, DEPTH).
    """
    return _lay_out(x, None, height, width, top, left, 1, rotated=rotated, sums=False, precision=precision)[0]


def lay_out_gradient(
    dy: Tensor, y: Tensor | None, height: int, width: int, *, top: int, left: int, step: int, precision: str
) -> tuple[Laid, Tensor]:
    """Return dy (N,K,P,Q) laid out, and the partial sums of its feature maps, (parts, K).

    Its first pixel is at (top, left), and its pixels are `step` apart. If y is given, it is ReLU's output, and dy
    counts as zero where y <= 0.
    """
    return _lay_out(dy, y, height, width, top, left, step, rotated=False, sums=True, precision=precision)


def _lay_out(
    source: Tensor, y: Tensor | None, height: int, width: int, top: int, left: int, step: int,
    *, rotated: bool, sums: bool, precision: str,
) -> tuple[Laid, Tensor]:  # fmt: skip
    """Return the laid-out array, and the sums over the pixels of each block, (blocks, C), if `sums`."""
    N, C, H, W = source.shape
    by = {"BY_N": C * H * W, "BY_C": H * W, "BY_H": W, "BY_W": 1, "START": 0}
    if rotated:
        N, C = C, N
        by = {"BY_N": H * W, "BY_C": N * H * W, "BY_H": -W, "BY_W": -1, "START": H * W - 1}
    depth = cdiv(C, QUAD) * QUAD
    config = table(source).configs["lay"]
    M = N * height * width
    blocks = config.fit(M=M, C=depth)
    target = _memory.empty((N, height, width, depth), device=source.device)
    parts = _memory.empty((cdiv(M, blocks["BLOCK_M"]) if sums else 1, C), device=source.device)
    launch(
        lay,
        (cdiv(M, blocks["BLOCK_M"]), cdiv(depth, blocks["BLOCK_C"])),
        source, source if y is None else y, target, parts, M,
        config=config,
        C=C, H=H, W=W, **by, TOP=top, LEFT=left, STEP=step, HEIGHT=height, WIDTH=width, DEPTH=depth,
        RELU=y is not None, SUMS=sums, TF32=precision == "tf32", **blocks,
    )  # fmt: skip
    return Laid(target), parts


def _requested_by_lay(launch: Launch) -> int:
    sources = 2 if launch.constants["RELU"] else 1
    sums = launch.numel("sums") if launch.constants["SUMS"] else 0
    # Only pixels of the source inside the target are read; the source may be larger.
    return 4 * (sources * min(launch.numel("source"), launch.numel("target")) + launch.numel("target") + sums)


# The bytes that each kernel's programs read and write, counting whole blocks and no cache; see floor.py.
REQUESTED_BYTES: Mapping[str, Callable[[Launch], int]] = {"lay": _requested_by_lay}
