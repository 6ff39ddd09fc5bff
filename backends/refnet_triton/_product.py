"""The matrix products of convolutions and fully connected layers. The matrix of windows is never built.

Windows are read directly from arrays that are laid out with their channels last (:mod:`._layout`). As a matrix
(M, R*RUN), with M = N*P*Q, they are a factor of three kernels:

    multiply    windows (M, D) times kernels (D, K)            y, and dx from the windows of dy
    correlate   gradients (K, M) times windows (M, D)          dw
    add_parts   sums computed in parts, in a fixed order       dw, db, and y if M is small

A program of ``multiply`` or ``correlate`` computes one block of a product. If there are fewer blocks than programs that
the chip can run at once, the sum is divided into parts, the second axis of the grid, and ``add_parts`` adds them. For
``multiply`` this is done only in fully connected layers, whose sums are long.

A fully connected layer is the convolution of an image of one pixel.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial

import torch
import triton
import triton.language as tl

from refnet_triton import _memory
from refnet_triton._configs import Product
from refnet_triton._launch import Launch, cdiv, launch, table
from refnet_triton._layout import Windows, wide

Tensor = torch.Tensor

# While a step is tuned (:mod:`._tune`), it is called with each product and a function that computes that again.
listener: Callable[[Product, Callable[[], None]], None] | None = None

MAX_PARTS = 128  # from this many parts on, other blocks are faster: those for summing the columns of a tall matrix


@triton.jit
def part_start(part, STEPS, PARTS: tl.constexpr):
    """Return the first step of a part, if STEPS are divided into PARTS that differ in length by at most 1.

    No intermediate product is larger than STEPS, so none overflows.
    """
    return STEPS // PARTS * part + tl.minimum(STEPS % PARTS, part)


# Windows times kernels -----------------------------------------------------------------------------------------------


@triton.jit
def multiply(
    x, w, b, y, M, K: tl.constexpr,
    P: tl.constexpr, Q: tl.constexpr, R: tl.constexpr, RUN: tl.constexpr,
    IMAGE: tl.constexpr, ROW: tl.constexpr, DOWN: tl.constexpr, RIGHT: tl.constexpr,
    PARTS: tl.constexpr, BIAS: tl.constexpr, RELU: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """y[n,k,p,q] = b[k] + the sum over d of window (n,p,q)[d] * w[k,d]; with PARTS > 1, y has the parts of the sum."""
    # 1. The windows (BLOCK_M,) and kernels (BLOCK_K,) of this program. Neighbouring programs have the same windows,
    #    which are then in the cache.
    K_BLOCKS: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    m = wide(tl.program_id(0) // K_BLOCKS, M) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.program_id(0) % K_BLOCKS * BLOCK_K + tl.arange(0, BLOCK_K)
    part = tl.program_id(1)
    # 2. Their first numbers. Indices after the last window or kernel read the last one; those results are not stored.
    window = tl.minimum(m, M - 1)
    corner = (window // (P * Q)).to(tl.int64) * IMAGE + window // Q % P * DOWN + window % Q * RIGHT
    column = k if K % BLOCK_K == 0 else tl.minimum(k, K - 1)
    filters = column.to(tl.int64) * (R * RUN)
    # 3. Multiply the rows of the windows one after the other, BLOCK_D numbers at a time. A mask is needed only if the
    #    last block of a row is not full.
    D_BLOCKS: tl.constexpr = (RUN + BLOCK_D - 1) // BLOCK_D
    sums = tl.zeros((BLOCK_M, BLOCK_K), tl.float32)
    for step in range(part_start(part, R * D_BLOCKS, PARTS), part_start(part + 1, R * D_BLOCKS, PARTS)):
        d = step % D_BLOCKS * BLOCK_D + tl.arange(0, BLOCK_D)
        r = step // D_BLOCKS
        xs = x + corner[:, None] + (r * ROW + d)[None, :]  # (BLOCK_M, BLOCK_D)
        ws = w + filters[None, :] + (r * RUN + d)[:, None]  # (BLOCK_D, BLOCK_K)
        if RUN % BLOCK_D == 0:
            left, right = tl.load(xs), tl.load(ws)
        else:
            left = tl.load(xs, mask=(d < RUN)[None, :], other=0.0)
            right = tl.load(ws, mask=(d < RUN)[:, None], other=0.0)
        sums = tl.dot(left, right, sums, input_precision=PRECISION)
    # 4. Bias and ReLU, if the sum is complete.
    if BIAS:
        sums += tl.load(b + column)[None, :]
    if RELU:
        sums = tl.where(sums <= 0, 0.0, sums)
    at = part.to(tl.int64) * M * K + (m // (P * Q)).to(tl.int64) * (K * P * Q) + m % (P * Q)
    ys = y + at[:, None] + (k.to(tl.int64) * (P * Q))[None, :]
    if K % BLOCK_K == 0:  # a mask over kernels needs registers, and a large block has none to spare
        tl.store(ys, sums, mask=(m < M)[:, None])
    else:
        tl.store(ys, sums, mask=(m < M)[:, None] & (k < K)[None, :])


def times_filters(
    x: Tensor, windows: Windows, w: Tensor, b: Tensor | None, y: Tensor, *, relu: bool = False, precision: str
) -> None:
    """Write y (N,K,P,Q): windows times kernels w (K, R*RUN), plus b if given, and after ReLU if `relu`."""
    K = y.shape[1]
    M = y.numel() // K
    configs = table(x)
    product = Product(f"multiply/{precision}", K, windows.R, windows.RUN, windows.P, windows.Q)
    if listener:
        listener(product, partial(times_filters, x, windows, w, b, y, relu=relu, precision=precision))
    config = configs.of(product)
    blocks = config.fit(M=M, K=K, D=windows.RUN)
    tiles = cdiv(M, blocks["BLOCK_M"]) * cdiv(K, blocks["BLOCK_K"])
    parts = 1
    if windows.P * windows.Q == 1:  # few windows and long sums: fully connected layers
        parts = max(1, min(configs.programs // max(1, tiles), windows.R * cdiv(windows.RUN, blocks["BLOCK_D"])))
    complete = parts == 1  # otherwise _add applies bias and ReLU
    out = y if complete else _memory.empty((parts, *y.shape), device=y.device)
    launch(
        multiply,
        (tiles, parts),
        x, w, w if b is None else b, out, M,
        config=config,
        K=K, **asdict(windows),
        PARTS=parts, BIAS=complete and b is not None, RELU=complete and relu,
        PRECISION=config.factors or precision, **blocks,
    )  # fmt: skip
    if not complete:
        _add(out, y, K, b=b, relu=relu)


# Gradients times windows ---------------------------------------------------------------------------------------------


@triton.jit
def block_of_windows(
    start, step, M, valid,
    P: tl.constexpr, Q: tl.constexpr, IMAGE: tl.constexpr, DOWN: tl.constexpr, RIGHT: tl.constexpr,
    EVEN: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Return one block (BLOCK_M, columns) of the windows: the numbers at the addresses `start` + the window's offset.

    `start` (columns,) are addresses in the first window. The block begins at window step * BLOCK_M. Windows after the
    last, and columns that are not `valid`, are 0; if EVEN, there are none.
    """
    m = step * BLOCK_M + tl.arange(0, BLOCK_M)
    at = (m // (P * Q)).to(tl.int64) * IMAGE + m // Q % P * DOWN + m % Q * RIGHT
    if EVEN:
        return tl.load(start + at[:, None])
    else:  # noqa: RET505 - Triton compiles only one branch
        return tl.load(start + at[:, None], mask=(m < M)[:, None] & valid[None, :], other=0.0)


@triton.jit
def correlate(
    dy, x, dw, M, K: tl.constexpr,
    DY_IMAGE: tl.constexpr, DY_DOWN: tl.constexpr, DY_RIGHT: tl.constexpr,
    P: tl.constexpr, Q: tl.constexpr, R: tl.constexpr, RUN: tl.constexpr,
    IMAGE: tl.constexpr, ROW: tl.constexpr, DOWN: tl.constexpr, RIGHT: tl.constexpr,
    PARTS: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """dw[part,k,d] = the sum, over one part of the windows m, of dy[m,k] * window m[d]."""
    # 1. The kernels (BLOCK_K,) of this program, and the numbers (BLOCK_D,) of one row r of the windows.
    D_BLOCKS: tl.constexpr = (RUN + BLOCK_D - 1) // BLOCK_D
    k = tl.program_id(0) // (R * D_BLOCKS) * BLOCK_K + tl.arange(0, BLOCK_K)
    r = tl.program_id(0) % (R * D_BLOCKS) // D_BLOCKS
    d = tl.program_id(0) % D_BLOCKS * BLOCK_D + tl.arange(0, BLOCK_D)
    part = tl.program_id(1)
    gradients, windows = dy + k[None, :], x + (r * ROW + d)[None, :]
    # 2. Sum over this part's windows, BLOCK_M at a time: left (BLOCK_M, BLOCK_K) and right (BLOCK_M, BLOCK_D). The next
    #    blocks are loaded into registers while these are multiplied. The compiler's own pipeline (num_stages) would
    #    copy them directly to shared memory, one number in each instruction: in tf32, tensor cores need the summed
    #    axis contiguous, and such a copy can transpose a block only number by number.
    sums = tl.zeros((BLOCK_K, BLOCK_D), tl.float32)
    steps = (M - 1) // BLOCK_M + 1
    first, last = part_start(part, steps, PARTS), part_start(part + 1, steps, PARTS)
    left = block_of_windows(gradients, first, M, k < K, P, Q, DY_IMAGE, DY_DOWN, DY_RIGHT, EVEN, BLOCK_M)
    right = block_of_windows(windows, first, M, d < RUN, P, Q, IMAGE, DOWN, RIGHT, EVEN, BLOCK_M)
    for step in range(first + 1, last):
        next_left = block_of_windows(gradients, step, M, k < K, P, Q, DY_IMAGE, DY_DOWN, DY_RIGHT, EVEN, BLOCK_M)
        next_right = block_of_windows(windows, step, M, d < RUN, P, Q, IMAGE, DOWN, RIGHT, EVEN, BLOCK_M)
        sums = tl.dot(tl.trans(left), right, sums, input_precision=PRECISION)
        left, right = next_left, next_right
    sums = tl.dot(tl.trans(left), right, sums, input_precision=PRECISION)
    # 3. Store the sums of this part.
    at = (part * K + k).to(tl.int64) * (R * RUN)
    tl.store(dw + at[:, None] + (r * RUN + d)[None, :], sums, mask=(k < K)[:, None] & (d < RUN)[None, :])


def times_windows(
    dy: Tensor, gradients: Windows, x: Tensor, windows: Windows, dw: Tensor, N: int, *, precision: str
) -> None:
    """Write dw (K,C,R,S) or (K,D): the gradients times the windows of x, summed over N images and all windows.

    `gradients` are windows of one pixel in the laid-out dy (N,P,Q,K), one for each window of x.
    """
    K, C, R, S = (*dw.shape, 1, 1)[:4]
    configs = table(x)
    product = Product(f"correlate/{precision}", K, windows.R, windows.RUN, windows.P, windows.Q)
    if listener:
        listener(product, partial(times_windows, dy, gradients, x, windows, dw, N, precision=precision))
    config = configs.of(product)
    M = N * windows.P * windows.Q
    blocks = config.fit(M=M, K=K, D=windows.RUN)
    tiles = cdiv(K, blocks["BLOCK_K"]) * windows.R * cdiv(windows.RUN, blocks["BLOCK_D"])
    steps = cdiv(M, blocks["BLOCK_M"])
    parts = max(1, min(configs.programs // max(1, tiles), steps))
    same_layout = R == S == 1 and windows.RUN == C  # the sums have the layout of dw
    out = dw if parts == 1 and same_layout else _memory.empty((parts, K, windows.R * windows.RUN), device=dw.device)
    launch(
        correlate,
        (tiles, parts),
        dy, x, out, M,
        config=config,
        K=K, DY_IMAGE=gradients.IMAGE, DY_DOWN=gradients.DOWN, DY_RIGHT=gradients.RIGHT,
        **asdict(windows), PARTS=parts,
        EVEN=M > 0 and not (M % blocks["BLOCK_M"] or K % blocks["BLOCK_K"] or windows.RUN % blocks["BLOCK_D"]),
        PRECISION=config.factors or precision, **blocks,
    )  # fmt: skip
    if out is not dw:
        _add(out, dw, C, depth=windows.RUN // S, R=R, S=S)


# Sums in parts -------------------------------------------------------------------------------------------------------


@triton.jit
def add_parts(
    parts, b, y, COUNT, SIZE,
    C: tl.constexpr, DEPTH: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    BIAS: tl.constexpr, RELU: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """y[k,c,r,s] = the sum over COUNT parts of parts[part,k,r,s,c], plus b[c] if BIAS, and after ReLU if RELU."""
    # 1. Of each part of SIZE numbers, this program adds BLOCK_I numbers, BLOCK_P parts at a time.
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    sums = tl.zeros((BLOCK_P, BLOCK_I), tl.float32)
    for step in range((COUNT - 1) // BLOCK_P + 1):
        part = step * BLOCK_P + tl.arange(0, BLOCK_P)
        valid = (part < COUNT)[:, None] & (i < SIZE)[None, :]
        sums += tl.load(parts + part.to(tl.int64)[:, None] * SIZE + i[None, :], mask=valid, other=0.0)
    total = tl.sum(sums, axis=0)
    # 2. The indices of these numbers: in the parts, channels are last and padded to DEPTH.
    c = (i % DEPTH).to(tl.int32)
    s, r, k = i // DEPTH % S, i // (DEPTH * S) % R, i // (DEPTH * S * R)
    valid = (i < SIZE) & (c < C)
    if BIAS:
        total += tl.load(b + c, mask=valid, other=0.0)
    if RELU:
        total = tl.where(total <= 0, 0.0, total)
    tl.store(y + ((k * C + c) * R + r) * S + s, total, mask=valid)


def sum_rows(a: Tensor) -> Tensor:
    """Return the sum of the rows of a (rows, K): (K,)."""
    total = _memory.empty((a.shape[1],), device=a.device)
    _add(a, total, a.shape[1])
    return total


def _add(
    parts: Tensor, y: Tensor, C: int, *, depth: int = 0, R: int = 1, S: int = 1, b: Tensor | None = None,
    relu: bool = False,
) -> None:  # fmt: skip
    """Write to y, of C channels, the sum of the parts; see `add_parts`."""
    depth = depth or C
    size = y.numel() // C * depth
    config = table(y).configs["add_parts" if parts.shape[0] < MAX_PARTS else "add_rows"]
    blocks = config.fit(I=size, P=parts.shape[0])
    launch(
        add_parts,
        (cdiv(size, blocks["BLOCK_I"]),),
        parts, y if b is None else b, y, parts.shape[0], size,
        config=config,
        C=C, DEPTH=depth, R=R, S=S, BIAS=b is not None, RELU=relu, **blocks,
    )  # fmt: skip


# Memory traffic ------------------------------------------------------------------------------------------------------


def _requested_by_multiply(launch: Launch) -> int:
    c, m = launch.constants, launch.arguments["M"]
    rows, columns = cdiv(m, c["BLOCK_M"]), cdiv(c["K"], c["BLOCK_K"])
    length = c["R"] * c["RUN"]
    windows, kernels = rows * columns * c["BLOCK_M"] * length, rows * columns * c["BLOCK_K"] * length
    return int(4 * (windows + kernels + c["PARTS"] * m * c["K"] + (c["K"] * rows if c["BIAS"] else 0)))


def _requested_by_correlate(launch: Launch) -> int:
    c, m = launch.constants, launch.arguments["M"]
    tiles = cdiv(c["K"], c["BLOCK_K"]) * c["R"] * cdiv(c["RUN"], c["BLOCK_D"])
    return int(4 * (tiles * m * (c["BLOCK_K"] + c["BLOCK_D"]) + c["PARTS"] * c["K"] * c["R"] * c["RUN"]))


def _requested_by_add_parts(launch: Launch) -> int:
    parts = launch.arguments["COUNT"] * launch.arguments["SIZE"]
    return int(4 * (parts + launch.numel("y") * (2 if launch.constants["BIAS"] else 1)))


# The bytes that each kernel's programs read and write, counting whole blocks and no cache; see floor.py.
REQUESTED_BYTES: Mapping[str, Callable[[Launch], int]] = {
    "multiply": _requested_by_multiply,
    "correlate": _requested_by_correlate,
    "add_parts": _requested_by_add_parts,
}
