"""The matrix products of convolutions and fully connected layers. The matrix of windows is never built.

An image is laid out pixel by pixel, with the channels of a pixel adjacent in memory. One row of a window is then a run
of RUN adjacent numbers: S pixels with all their channels. A window is R such runs, ROW apart. So the windows are the
rows of a matrix (N*P*Q, R*RUN) that is read directly from the image, and three kernels suffice:

    multiply    windows (M, D) times kernels (D, K)            y, and dx from the windows of dy
    correlate   gradients (K, M) times windows (M, D)          dw
    add_parts   sums computed in parts, in a fixed order       dw, db, and y if M is small

A fully connected layer is the convolution of an image of one pixel.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
import triton
import triton.language as tl

from refnet.errors import ShapeError
from refnet_triton import _memory
from refnet_triton._configs import Product
from refnet_triton._launch import cdiv, launch, table

# Kernels whose narrow loads are allowed, with the reason's name in audit.py.
EXCUSES = {"lay": "maps"}

Tensor = torch.Tensor

# Called with every product and a function that computes it again, while a step is tuned (:mod:`._tune`).
listener: Callable[[Product, Callable[[], None]], None] | None = None

MAX_PARTS = 128  # from this many parts on, blocks for summing the columns of a tall matrix are faster
QUAD = 4  # the number of channels is padded to a multiple of it: 16 bytes, which one instruction loads


@dataclass(frozen=True)
class Windows:
    """The positions of the windows in a laid-out array. Distances are in numbers, not bytes.

    Attributes
    ----------
    P, Q
        Rows and columns of windows in an image.
    R, RUN
        Number of rows in a window, and the length of each in numbers.
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
    """Return the windows of rows of numbers, seen as images of one pixel with one window each."""
    return Windows(P=1, Q=1, R=1, RUN=features, IMAGE=features, ROW=features, DOWN=features, RIGHT=features)


@dataclass(frozen=True)
class Laid:
    """An array laid out pixel by pixel, (N, HEIGHT, WIDTH, DEPTH), with zeros where its source has no pixel."""

    a: Tensor

    def start(self, row: int, column: int) -> Tensor:
        """Return a flat view that starts at one pixel of the first image."""
        _, _, width, depth = self.a.shape
        return self.a.view(-1)[(row * width + column) * depth :]

    def windows(self, P: int, Q: int, R: int, S: int, stride: int = 1) -> Windows:
        """Return P x Q windows of R x S pixels, `stride` pixels apart, the first at the first pixel."""
        _, height, width, depth = self.a.shape
        row = width * depth
        return Windows(P, Q, R, S * depth, height * row, row, stride * row, stride * depth)


@triton.jit
def wide(number, SIZE):
    """Return the number, with 64 bits if SIZE has 64 (is 2^31 or more), as positions up to SIZE then need."""
    return number + 0 * SIZE


@triton.jit
def begin(part, STEPS, PARTS: tl.constexpr):
    """Return the first of STEPS in a part. PARTS differ in length by at most 1, and no product exceeds STEPS."""
    return STEPS // PARTS * part + tl.minimum(STEPS % PARTS, part)


# Laying out ----------------------------------------------------------------------------------------------------------


@triton.jit
def rounded(numbers):
    """Return the numbers rounded to tf32: to the nearest of 11 significant bits, ties away from zero.

    The largest numbers, which would become infinite, are truncated. A NaN keeps one of the bits that tensor cores read.
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
    """Write one block of pixels and channels of the laid-out array."""
    # 1. The pixels (BLOCK_M,) of the target and its channels (BLOCK_C,).
    m = wide(tl.program_id(0), M) * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    n, i, j = m // (HEIGHT * WIDTH), m // WIDTH % HEIGHT - TOP, m % WIDTH - LEFT
    # 2. Every STEP-th pixel inside the borders comes from the source.
    inside = (m < M) & (i >= 0) & (j >= 0) & (i < H * STEP) & (j < W * STEP) & (i % STEP == 0) & (j % STEP == 0)
    at = START + n.to(tl.int64) * BY_N + (i // STEP) * BY_H + (j // STEP) * BY_W
    at = at[:, None] + (c.to(tl.int64) * BY_C)[None, :]
    valid = inside[:, None] & (c < C)[None, :]
    numbers = tl.load(source + at, mask=valid, other=0.0)  # (BLOCK_M, BLOCK_C)
    # 3. The gradient of ReLU, see refnet.ops.relu.
    if RELU:
        numbers = tl.where(tl.load(y + at, mask=valid, other=0.0) <= 0, 0.0, numbers)
    # 4. Tensor cores ignore the last 13 bits of a tf32 factor, so it is rounded here.
    tl.store(
        target + m.to(tl.int64)[:, None] * DEPTH + c[None, :],
        rounded(numbers) if TF32 else numbers,
        mask=(m < M)[:, None] & (c < DEPTH)[None, :],
    )
    # 5. The sums of these pixels, 16 at a time and then of those sums; add_parts adds them to the bias's gradient.
    if SUMS:
        total = tl.sum(tl.sum(tl.reshape(numbers, (BLOCK_M // 16, 16, BLOCK_C)), axis=1), axis=0)
        tl.store(sums + tl.program_id(0).to(tl.int64) * C + c, total, mask=c < C)


def lay_out(
    x: Tensor, height: int, width: int, *, top: int = 0, left: int = 0, turned: bool = False, precision: str
) -> Laid:
    """Return x (N,C,H,W) laid out as a factor of products in a precision, with its first pixel at (top, left).

    If `turned`, x are kernels: their first two axes are exchanged, and their last two reversed.
    """
    return _lay_out(x, None, height, width, top, left, 1, turned=turned, sums=False, precision=precision)[0]


def lay_out_gradient(
    dy: Tensor, y: Tensor | None, height: int, width: int, *, top: int, left: int, step: int, precision: str
) -> tuple[Laid, Tensor]:
    """Return dy laid out, after ReLU's gradient if its output y is given, and db (K,), the sums of its maps.

    The first pixel is at (top, left), and the next ones are `step` apart.
    """
    laid, sums = _lay_out(dy, y, height, width, top, left, step, turned=False, sums=True, precision=precision)
    return laid, sum_rows(sums)


def _lay_out(
    source: Tensor, y: Tensor | None, height: int, width: int, top: int, left: int, step: int,
    *, turned: bool, sums: bool, precision: str,
) -> tuple[Laid, Tensor]:  # fmt: skip
    N, C, H, W = source.shape
    by = {"BY_N": C * H * W, "BY_C": H * W, "BY_H": W, "BY_W": 1, "START": 0}
    if turned:
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


# Windows times kernels -----------------------------------------------------------------------------------------------


@triton.jit
def multiply(
    x, w, b, y, M, K: tl.constexpr,
    P: tl.constexpr, Q: tl.constexpr, R: tl.constexpr, RUN: tl.constexpr,
    IMAGE: tl.constexpr, ROW: tl.constexpr, DOWN: tl.constexpr, RIGHT: tl.constexpr,
    PARTS: tl.constexpr, BIAS: tl.constexpr, RELU: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """y[n,k,p,q] = b[k] + the sum over d of window (n,p,q)[d] * w[k,d], or one of PARTS of this sum."""
    # 1. The windows (BLOCK_M,) and kernels (BLOCK_K,) of this program. Neighbours share windows, which stay in cache.
    ABREAST: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    m = wide(tl.program_id(0) // ABREAST, M) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.program_id(0) % ABREAST * BLOCK_K + tl.arange(0, BLOCK_K)
    part = tl.program_id(1)
    # 2. Where they begin. Indices beyond the last window or kernel read the last one, and are not stored.
    window = tl.minimum(m, M - 1)
    corner = (window // (P * Q)).to(tl.int64) * IMAGE + window // Q % P * DOWN + window % Q * RIGHT
    column = k if K % BLOCK_K == 0 else tl.minimum(k, K - 1)
    filters = column.to(tl.int64) * (R * RUN)
    # 3. Multiply row after row, BLOCK_D numbers at a time. Only a last block of a row that is not full needs a mask.
    BLOCKS: tl.constexpr = (RUN + BLOCK_D - 1) // BLOCK_D
    sums = tl.zeros((BLOCK_M, BLOCK_K), tl.float32)
    for step in range(begin(part, R * BLOCKS, PARTS), begin(part + 1, R * BLOCKS, PARTS)):
        d = step % BLOCKS * BLOCK_D + tl.arange(0, BLOCK_D)
        r = step // BLOCKS
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
    place = y + at[:, None] + (k.to(tl.int64) * (P * Q))[None, :]
    if K % BLOCK_K == 0:  # a mask over kernels needs registers, and a large tile has none to spare
        tl.store(place, sums, mask=(m < M)[:, None])
    else:
        tl.store(place, sums, mask=(m < M)[:, None] & (k < K)[None, :])


def times_filters(
    x: Tensor, windows: Windows, w: Tensor, b: Tensor | None, y: Tensor, *, relu: bool = False, precision: str
) -> None:
    """Write y (N,K,P,Q): windows times kernels w (K, R*RUN), plus b if given, and after ReLU if `relu`."""
    K = y.shape[1]
    M = y.numel() // K
    tab = table(x)
    product = Product(f"multiply/{precision}", K, windows.R, windows.RUN, windows.P, windows.Q)
    if listener:
        listener(product, partial(times_filters, x, windows, w, b, y, relu=relu, precision=precision))
    config = tab.of(product)
    blocks = config.fit(M=M, K=K, D=windows.RUN)
    tiles = cdiv(M, blocks["BLOCK_M"]) * cdiv(K, blocks["BLOCK_K"])
    parts = 1
    if windows.P * windows.Q == 1:  # few windows and long sums: fully connected layers
        parts = max(1, min(tab.programs // max(1, tiles), windows.R * cdiv(windows.RUN, blocks["BLOCK_D"])))
    whole = parts == 1
    out = y if whole else _memory.empty((parts, *y.shape), device=y.device)
    launch(
        multiply,
        (tiles, parts),
        x, w, w if b is None else b, out, M,
        config=config,
        K=K, **asdict(windows),
        PARTS=parts, BIAS=whole and b is not None, RELU=whole and relu, PRECISION=precision, **blocks,
    )  # fmt: skip
    if not whole:
        _add(out, y, K, b=b, relu=relu)


# Gradients times windows ---------------------------------------------------------------------------------------------


@triton.jit
def numbers(
    place, step, M, valid,
    P: tl.constexpr, Q: tl.constexpr, IMAGE: tl.constexpr, DOWN: tl.constexpr, RIGHT: tl.constexpr,
    EVEN: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Return the numbers at `place` in BLOCK_M windows; `place` points into the first window. 0 after the last."""
    m = step * BLOCK_M + tl.arange(0, BLOCK_M)
    at = (m // (P * Q)).to(tl.int64) * IMAGE + m // Q % P * DOWN + m % Q * RIGHT
    if EVEN:
        return tl.load(place + at[:, None])
    else:  # noqa: RET505 - Triton compiles only one branch
        return tl.load(place + at[:, None], mask=(m < M)[:, None] & valid[None, :], other=0.0)


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
    # 1. The kernels (BLOCK_K,) of this program, and the numbers (BLOCK_D,) of one row of each.
    BLOCKS: tl.constexpr = (RUN + BLOCK_D - 1) // BLOCK_D
    k = tl.program_id(0) // (R * BLOCKS) * BLOCK_K + tl.arange(0, BLOCK_K)
    r = tl.program_id(0) % (R * BLOCKS) // BLOCKS
    d = tl.program_id(0) % BLOCKS * BLOCK_D + tl.arange(0, BLOCK_D)
    part = tl.program_id(1)
    gradients, windows = dy + k[None, :], x + (r * ROW + d)[None, :]
    # 2. Sum over this part's windows, BLOCK_M at a time: left (BLOCK_M, BLOCK_K) and right (BLOCK_M, BLOCK_D). The next
    #    blocks are loaded into registers while these are multiplied. The compiler's own pipeline (num_stages) copies
    #    them directly to shared memory, which here takes one instruction for every number: in tf32, tensor cores need
    #    the summed axis contiguous, and such a copy can transpose a block only number by number.
    sums = tl.zeros((BLOCK_K, BLOCK_D), tl.float32)
    steps = (M - 1) // BLOCK_M + 1
    first, last = begin(part, steps, PARTS), begin(part + 1, steps, PARTS)
    left = numbers(gradients, first, M, k < K, P, Q, DY_IMAGE, DY_DOWN, DY_RIGHT, EVEN, BLOCK_M)
    right = numbers(windows, first, M, d < RUN, P, Q, IMAGE, DOWN, RIGHT, EVEN, BLOCK_M)
    for step in range(first + 1, last):
        next_left = numbers(gradients, step, M, k < K, P, Q, DY_IMAGE, DY_DOWN, DY_RIGHT, EVEN, BLOCK_M)
        next_right = numbers(windows, step, M, d < RUN, P, Q, IMAGE, DOWN, RIGHT, EVEN, BLOCK_M)
        sums = tl.dot(tl.trans(left), right, sums, input_precision=PRECISION)
        left, right = next_left, next_right
    sums = tl.dot(tl.trans(left), right, sums, input_precision=PRECISION)
    # 3. Store the sums of this part.
    at = (part * K + k).to(tl.int64) * (R * RUN)
    tl.store(dw + at[:, None] + (r * RUN + d)[None, :], sums, mask=(k < K)[:, None] & (d < RUN)[None, :])


def times_windows(
    dy: Tensor, gradients: Windows, x: Tensor, windows: Windows, dw: Tensor, N: int, *, precision: str
) -> None:
    """Write dw (K,C,R,S) or (K,D): gradients (windows of one pixel) times windows, summed over N images."""
    K, C, R, S = (*dw.shape, 1, 1)[:4]
    tab = table(x)
    product = Product(f"correlate/{precision}", K, windows.R, windows.RUN, windows.P, windows.Q)
    if listener:
        listener(product, partial(times_windows, dy, gradients, x, windows, dw, N, precision=precision))
    config = tab.of(product)
    M = N * windows.P * windows.Q
    blocks = config.fit(M=M, K=K, D=windows.RUN)
    tiles = cdiv(K, blocks["BLOCK_K"]) * windows.R * cdiv(windows.RUN, blocks["BLOCK_D"])
    steps = cdiv(M, blocks["BLOCK_M"])
    parts = max(1, min(tab.programs // max(1, tiles), steps))
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
        PRECISION=precision, **blocks,
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
    """y[k,c,r,s] = the sum over parts of parts[part,k,r,s,c], plus b[c] if BIAS, and after ReLU if RELU."""
    # 1. The numbers (BLOCK_I,) of each part, added BLOCK_P parts at a time.
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    sums = tl.zeros((BLOCK_P, BLOCK_I), tl.float32)
    for step in range((COUNT - 1) // BLOCK_P + 1):
        part = step * BLOCK_P + tl.arange(0, BLOCK_P)
        valid = (part < COUNT)[:, None] & (i < SIZE)[None, :]
        sums += tl.load(parts + part.to(tl.int64)[:, None] * SIZE + i[None, :], mask=valid, other=0.0)
    total = tl.sum(sums, axis=0)
    # 2. Their indices: the parts have channels last, padded to DEPTH.
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
