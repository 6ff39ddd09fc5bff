"""Convolution; see :mod:`refnet.ops.conv2d`. It is computed as matrix products without building the matrix of windows.

Memory layout: an image is copied ("laid out") with its channels last and zeros around it, (row, column, channel). Then
the S*C numbers of one row of a window are adjacent in memory, and the same row of the next window starts stride*C
numbers later. So the micro-kernel reads windows where they are. w is laid out in the same order, as a matrix of
D = R*S*C rows, one for each position (r,s,c), and K columns. The three products are

    y[pixel, k]     = sum over r and (s,c)  of  image[pixel's row r, (s,c)] * w[r,(s,c), k]
    dx[pixel, c]    = the same for dy, with the kernels rotated by 180 degrees
    dw[(r,s,c), k]  = sum over pixels       of  image[pixel's row r, (s,c)] * dy[pixel, k]

Threads: for y and dx, a thread computes one image at a time, or one band of its rows, or a share of the kernels if
there are fewer bands than threads (``_divide``). So everything that a product reads and writes stays in the
second-level cache, and only dy is ever copied for the whole batch, for dx if stride > 1 (``_spread``). For dw and db,
the batch is divided into ``BATCH_PARTS`` parts; a thread sums one part at a time, and the sums of all parts are then
added in a fixed order.

Rows and columns of a window that are in the zeros around the image are skipped, which saves a tenth of all products in
the paper's later layers. They are not skipped if a factor is NaN or infinite, since its product with zero is NaN.
"""

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet.ops.conv2d import forward_shapes
from refnet_numba import _memory, _threads
from refnet_numba._instructions import LANES, ROWS
from refnet_numba._jit import kernel, serial
from refnet_numba._layout import lay_image, multiples, turn
from refnet_numba._microkernel import WIDTH, tile

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MAX_BAND_NUMBERS = 96 << 10  # numbers of an image that are laid out at a time: 384 KB
MAX_TERMS = 512  # products that are summed in registers before the sum is added to memory
BATCH_PARTS = 8  # parts of a batch that dw is summed in; a fixed number, so that the number of threads changes no bit


def forward(x: Floats, w: Floats, b: Floats, *, stride: int, pad: int, ceil: bool = False) -> Floats:
    """Return the convolution of x with w, plus b: y (N,K,P,Q)."""
    return rectified_forward(x, w, b, stride, pad, ceil, rectify=False)


def backward(
    dy: Floats, x: Floats, w: Floats, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Floats | None, Floats, Floats]:
    """Return the gradients dx (None if ``need_dx=False``), dw and db."""
    del ceil  # the shape of dy already tells it
    return rectified_backward(dy, dy, x, w, stride, pad, need_dx, rectified=False)


def rectified_forward(x: Floats, w: Floats, b: Floats, stride: int, pad: int, ceil: bool, *, rectify: bool) -> Floats:
    """Return the convolution of x with w, plus b, and after ReLU if `rectify`: y (N,K,P,Q)."""
    _memory.require(x, w, b)
    ((shape,)) = forward_shapes(x.shape, w.shape, b.shape, stride=stride, pad=pad, ceil=ceil)
    y = _memory.empty(shape)
    _convolve(x, x, False, w, b, stride, pad, pad, rectify, y)
    return y


def rectified_backward(
    dy: Floats, y: Floats, x: Floats, w: Floats, stride: int, pad: int, need_dx: bool, *, rectified: bool
) -> tuple[Floats | None, Floats, Floats]:
    """Return dx (or None), dw and db. If `rectified`, y is ReLU's output, and dy counts as zero where y <= 0."""
    _memory.require(dy, y, x, w)
    K, C, R, S = w.shape
    N = len(dy)
    workers = _threads.count()
    dw, db = _memory.empty(w.shape), _memory.empty((K,))
    parts = min(N, BATCH_PARTS)
    sums, bias_sums = _memory.empty((parts, R * S * C, _padded(K))), np.empty((parts, K))
    all_pixels, inside = (_stretches(S, pad, dy.shape[3], x.shape[3], stride, 1, skip)[0] for skip in (False, True))
    _sum_weight_gradients(dy, y, rectified, x, R, S, stride, pad, all_pixels, inside, sums, bias_sums, workers)
    _add_parts(sums, bias_sums, dw, db)
    if not need_dx:
        return None, dw, db
    dx = _memory.empty(x.shape)
    rotated = np.ascontiguousarray(w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
    if stride > 1:
        dy = _spread(dy, stride)
        y = _spread(y, stride) if rectified else dy
    zeros = np.zeros(C, np.float32)
    top, left = R - 1 - pad, S - 1 - pad
    _convolve(dy, y, rectified, rotated, zeros, 1, top, left, False, dx)
    return dx, dw, db


def _convolve(
    x: Floats, gate: Floats, gated: bool, w: Floats, b: Floats, stride: int, top: int, left: int, rectify: bool,
    y: Floats,
) -> None:  # fmt: skip
    """Write to y the convolution of x with w, plus b; `top` rows and `left` columns of zeros are before x.

    If `gated`, numbers of x count as zero where those of `gate`, which has the shape of x, are at most zero. If
    `rectify`, ReLU is applied to y.
    """
    panels, finite = _panels(w)
    _, C, R, S = w.shape
    Q = y.shape[3]
    stretches = _stretches(S, left, Q, x.shape[3], stride, (Q + ROWS - 1) // ROWS, finite)
    _convolve_images(
        x, gate, gated, panels, b, C, R, S, stride, top, left, finite, stretches, rectify, y, _threads.count()
    )


def _spread(dy: Floats, stride: int) -> Floats:
    """Return dy with stride - 1 zeros between neighbours, so that its convolution with stride 1 gives dx."""
    N, K, P, Q = dy.shape
    spread = _memory.empty((N, K, (P - 1) * stride + 1, (Q - 1) * stride + 1))
    spread[...] = 0
    spread[:, :, ::stride, ::stride] = dy
    return spread


def _padded(K: int) -> int:
    """Return K rounded up to a multiple of the vector length."""
    return -(-K // LANES) * LANES


def _panels(w: Floats) -> tuple[Floats, bool]:
    """Return the kernels of w (K,C,R,S) in the micro-kernel's order, and whether all weights are finite.

    A panel is the weights of WIDTH kernels, as a matrix (R*S*C, WIDTH) whose rows are the positions (r,s,c). The panels
    follow each other in memory. The last one may have fewer columns; zeros fill it up to whole vectors.
    """
    K, C, R, S = w.shape
    laid, finite = _memory.empty((_padded(K) * C * R * S,)), np.empty(-(-K // WIDTH), np.bool_)
    _lay_panels(w.reshape(-1), C, R, S, laid, finite)
    return laid, bool(finite.all())


@kernel
def _lay_panels(w: Floats, C: int, R: int, S: int, laid: Floats, finite: npt.NDArray[np.bool_]) -> None:
    D = C * R * S
    K = w.size // D
    for panel in prange(finite.size):
        k = panel * WIDTH
        count = min(WIDTH, K - k)
        width = (count + LANES - 1) // LANES * LANES
        if count < width:
            laid[k * D : (k + width) * D] = 0
        offsets = np.empty(D, np.int64)
        for c in range(C):
            for r in range(R):
                for s in range(S):
                    offsets[(c * R + r) * S + s] = ((r * S + s) * C + c) * width
        turn(w, k * D, D, count, laid, k * D, offsets)
        finite[panel] = _finite(laid[k * D : (k + width) * D])


@serial
def _finite(a: Floats) -> bool:
    """Return whether all numbers are finite: neither NaN nor infinite."""
    any_not_finite = False
    for i in range(a.size):  # no early exit, so that the compiler can vectorise the loop
        any_not_finite |= not np.isfinite(a[i])
    return not any_not_finite


@serial
def _inside(first: int, count: int, size: int, stride: int) -> tuple[int, int]:
    """Return i and j such that, of `count` rows at first, first + stride, ..., rows i to j - 1 are in [0, size)."""
    return min(count, max(0, (-first + stride - 1) // stride)), min(
        count, max(0, (size - first + stride - 1) // stride)
    )


@serial
def _stretches(taps: int, before: int, count: int, size: int, stride: int, blocks: int, skip: bool) -> Ints:
    """Return which columns of a kernel are inside the image for which windows of a row, as stretches.

    A kernel has `taps` columns. A row of the output has `count` windows, `stride` pixels apart; the first starts
    `before` pixels to the left of a row of `size` pixels. The windows are computed in `blocks`. A stretch is a range of
    kernel columns and a range of windows of one block, such that all these columns of all these windows are inside the
    image. The result (blocks, taps, 4) has, for each block, up to `taps` stretches: first column, last column + 1,
    first window, last window + 1. Unused entries are zero. Unless `skip`, all columns count as inside.
    """
    stretches = np.zeros((blocks, taps, 4), np.int64)
    for block in range(blocks):
        last = -1
        for tap in range(taps):
            first, end = _inside(tap - before, count, size, stride) if skip else (0, count)
            start, stop = max(first, block * count // blocks), min(end, (block + 1) * count // blocks)
            if last < 0 or stretches[block, last, 2] != start or stretches[block, last, 3] != stop:
                last += 1
                stretches[block, last, 0], stretches[block, last, 2], stretches[block, last, 3] = tap, start, stop
            stretches[block, last, 1] = tap + 1
    return stretches


@serial
def _divide(P: int, K: int, R: int, stride: int, row: int, N: int, workers: int) -> tuple[int, int]:
    """Return into how many bands of its P rows, and how many shares of K kernels, the work on each image is divided.

    The copy of a band, whose rows have `row` numbers, has at most ``MAX_BAND_NUMBERS``. If N images have fewer bands
    than there are workers, the panels of kernels are divided into shares, provided that these are equal; each weight is
    then read only once. Otherwise there are more bands.
    """
    max_rows = max(1, (MAX_BAND_NUMBERS // row - R) // stride + 1)
    bands = (P + max_rows - 1) // max_rows
    shares = max(1, (workers + N * bands - 1) // max(1, N * bands))
    if (K + WIDTH - 1) // WIDTH % shares == 0:
        return bands, shares
    return min(P, max(bands, (workers + N - 1) // N)), 1


@kernel
def _convolve_images(
    x: Floats, gate: Floats, gated: bool, panels: Floats, b: Floats, C: int, R: int, S: int, stride: int, top: int,
    left: int, skip: bool, stretches: Ints, rectify: bool, y: Floats, workers: int,
) -> None:  # fmt: skip
    """Write to y the convolution of images with kernels laid out in panels; see `_convolve` and `_panels`.

    A work item is one band of output rows of one image, with one share of the kernels. Each worker computes every
    workers-th item: it lays the band out, sums products in `sums` (pixels of the band, K padded), adds the bias,
    applies ReLU and writes the transpose to y.
    """
    N, K, P, Q = y.shape
    out = y.reshape(-1)
    D = R * S * C
    pitch = (K + LANES - 1) // LANES * LANES
    width = (Q - 1) * stride + S
    bands, shares = _divide(P, K, R, stride, width * C, N, workers)
    panel_count = (K + WIDTH - 1) // WIDTH
    max_rows = (P + bands - 1) // bands
    map_offsets = multiples(K, P * Q)
    for worker in prange(workers):
        laid = np.empty(((max_rows - 1) * stride + R) * width * C, np.float32)
        sums = np.empty(max_rows * Q * pitch, np.float32)
        for item in range(worker, N * bands * shares, workers):
            n, band, share = item // (bands * shares), item // shares % bands, item % shares
            k0, k1 = share * panel_count // shares * WIDTH, min(K, (share + 1) * panel_count // shares * WIDTH)
            p0, p1 = band * P // bands, (band + 1) * P // bands
            lay_image(x[n], gate[n], gated, top - p0 * stride, left, (p1 - p0 - 1) * stride + R, width, C, laid)
            sums[:] = 0
            for k in range(k0, k1, WIDTH):
                vectors = min(WIDTH, pitch - k) // LANES
                lanes = vectors * LANES
                for p in range(p1 - p0):
                    r0, r1 = _inside((p0 + p) * stride - top, R, x.shape[2], 1) if skip else (0, R)
                    for block in range(len(stretches)):
                        for stretch in range(S):
                            s0, s1 = stretches[block, stretch, 0], stretches[block, stretch, 1]
                            q0, q1 = stretches[block, stretch, 2], stretches[block, stretch, 3]
                            if q0 >= q1:
                                continue
                            # A kernel row has `run` numbers here: one call takes several rows, or a piece of one.
                            run = (s1 - s0) * C
                            rows, pieces = max(1, MAX_TERMS // run), (run + MAX_TERMS - 1) // MAX_TERMS
                            for r in range(r0, r1, rows):
                                for piece in range(pieces):
                                    start, end = s0 * C + piece * run // pieces, s0 * C + (piece + 1) * run // pieces
                                    tile(
                                        laid, ((p * stride + r) * width + q0 * stride) * C + start,
                                        stride * C, width * C, 1, q1 - q0,
                                        panels, k * D + (r * S * C + start) * lanes, S * C * lanes, lanes, vectors,
                                        sums, (p * Q + q0) * pitch + k, pitch, min(rows, r1 - r), end - start,
                                    )  # fmt: skip
            biases = b[k0:k1]
            for pixel in range((p1 - p0) * Q):
                values = sums[pixel * pitch + k0 : pixel * pitch + k1]
                for k in range(values.size):
                    value = values[k] + biases[k]
                    values[k] = np.float32(0) if rectify and value <= 0 else value
            turn(sums, k0, pitch, (p1 - p0) * Q, out, n * K * P * Q + p0 * Q, map_offsets[k0:k1])


@kernel
def _sum_weight_gradients(
    dy: Floats, gate: Floats, gated: bool, x: Floats, R: int, S: int, stride: int, pad: int,
    all_pixels: Ints, inside: Ints, sums: Floats, bias_sums: npt.NDArray[np.float64], workers: int,
) -> None:  # fmt: skip
    """Write two sums for each part of the batch: of windows times dy, (parts, R*S*C, K padded), and of dy, (parts, K).

    A worker sums every workers-th part. Each image and its dy (P,Q,K padded) are laid out with their channels last. A
    call of the micro-kernel sums over a block of pixels, some rows of at most MAX_TERMS pixels together. Zeros around
    the image are skipped (stretches `inside`, not `all_pixels`) if dy is finite.
    """
    N, K, P, Q = dy.shape
    C = x.shape[1]
    parts, _, pitch = sums.shape
    products = sums.reshape(-1)
    rows, width = (P - 1) * stride + R, (Q - 1) * stride + S
    max_rows = max(1, MAX_TERMS // Q)
    for worker in prange(workers):
        laid, laid_dy = np.empty(rows * width * C, np.float32), np.empty(P * Q * pitch, np.float32)
        row_sums = np.empty(pitch, np.float32)
        for part in range(worker, parts, workers):
            sums[part] = 0
            bias_sums[part] = 0
            for n in range(part * N // parts, (part + 1) * N // parts):
                lay_image(x[n], x[n], False, pad, pad, rows, width, C, laid)
                lay_image(dy[n], gate[n], gated, 0, 0, P, Q, pitch, laid_dy)
                skip = True
                for p in range(P):
                    row_sums[:] = 0
                    for q in range(Q):
                        pixel = laid_dy[(p * Q + q) * pitch : (p * Q + q + 1) * pitch]
                        for k in range(pitch):
                            row_sums[k] += pixel[k]
                    for k in range(K):
                        bias_sums[part, k] += row_sums[k]
                        skip = skip and np.isfinite(row_sums[k])
                stretches = inside if skip else all_pixels
                for stretch in range(S):
                    s0, s1 = stretches[stretch, 0], stretches[stretch, 1]
                    q0, q1 = stretches[stretch, 2], stretches[stretch, 3]
                    run = (s1 - s0) * C
                    blocks = (run + ROWS - 1) // ROWS if q0 < q1 else 0
                    for p in range(0, P, max_rows):
                        for r in range(R):
                            first, stop = _inside(r - pad, P, x.shape[2], stride) if skip else (0, P)
                            p0, p1 = max(p, first), min(p + max_rows, stop)
                            for block in range(blocks if p0 < p1 else 0):
                                i, end = s0 * C + block * run // blocks, s0 * C + (block + 1) * run // blocks
                                for k in range(0, pitch, WIDTH):
                                    tile(
                                        laid, ((p0 * stride + r) * width + q0 * stride) * C + i,
                                        1, stride * width * C, stride * C, end - i,
                                        laid_dy, (p0 * Q + q0) * pitch + k,
                                        Q * pitch, pitch, min(WIDTH, pitch - k) // LANES,
                                        products, ((part * R + r) * S * C + i) * pitch + k, pitch, p1 - p0, q1 - q0,
                                    )  # fmt: skip


@kernel
def _add_parts(sums: Floats, bias_sums: npt.NDArray[np.float64], dw: Floats, db: Floats) -> None:
    """Write dw (K,C,R,S) and db (K,): the sums over the parts, always added in the same order."""
    parts = len(sums)
    K, C, R, S = dw.shape
    for c in prange(C):
        total = np.empty(K, np.float32)
        for tap in range(R * S):
            total[:] = 0
            for part in range(parts):
                products = sums[part, tap * C + c]
                for k in range(K):
                    total[k] += products[k]
            for k in range(K):
                dw[k, c, tap // S, tap % S] = total[k]
    for k in range(K):
        total_bias = 0.0
        for part in range(parts):
            total_bias += bias_sums[part, k]
        db[k] = total_bias
