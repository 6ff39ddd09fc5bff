"""Convolution; see :mod:`refnet.ops.conv2d`. Products of matrices that are never laid out as a whole.

With its filters as rows, w is a matrix (K, D), D = C*R*S, and the windows of one image are another, (D, P*Q), whose
row (c,r,s) is the image of channel c shifted by (r, s). ``forward`` multiplies them, a panel of WIDTH windows at a
time; the gradient of x is the same product with the filters turned round; the gradient of w multiplies dy with the
windows transposed. Windows are copied from a padded image, in which the pixels that one tap reads lie side by side:

    1. The padded image is split into stride x stride phases, so that steps of `stride` become steps of 1.
    2. Row (c,r,s) of a panel is then a few runs of neighbouring pixels, copied a vector at a time.
    3. The micro-kernel multiplies the panel with all filters while it lies in the first-level cache.
"""

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet.ops.conv2d import forward_shapes
from refnet_numba import _memory
from refnet_numba._jit import kernel, serial
from refnet_numba._microkernel import LANES, PITCH, ROWS, SIDE, WIDTH, copy, dots, tile

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

DEPTH = 128  # rows of a panel that are multiplied at once: 24 KB, so that they and a few filters fit in 32 KB
ROWS_AT_ONCE = 8 * SIDE  # rows of windows that the gradient of w lays out at once
IMAGES_LENGTH = 704  # windows, in whole images, that it lays out at once
VECTORS_AT_ONCE = 48  # of each row that it multiplies at once: 15 KB of dy and as much of the windows


def forward(x: Floats, w: Floats, b: Floats, *, stride: int, pad: int, ceil: bool = False) -> Floats:
    """Convolve."""
    _memory.require(x, w, b)
    ((shape,)) = forward_shapes(x.shape, w.shape, b.shape, stride=stride, pad=pad, ceil=ceil)
    y = _memory.empty(shape)
    _, _, P, Q = shape
    _, C, R, S = w.shape
    laid = _lay_images(x, P, Q, R, S, stride, pad, pad)
    _convolve(laid, _panels(w.reshape(-1, C * R * S)), b, C, R, S, stride, y)
    return y


def backward(
    dy: Floats, x: Floats, w: Floats, *, stride: int, pad: int, ceil: bool = False, need_dx: bool = True
) -> tuple[Floats | None, Floats, Floats]:
    """Gradients of x (None unless asked for), w and b."""
    _memory.require(dy, x, w)
    del ceil  # the shape of dy says it all
    K, C, R, S = w.shape
    dw, db = _memory.empty(w.shape), _memory.empty((K,))
    N, _, P, Q = dy.shape
    batch = max(1, IMAGES_LENGTH // (P * Q))
    laid = _memory.empty((-(-N // batch), -(-K // SIDE), batch, -(-P * Q // LANES), SIDE, LANES))
    _lay_gradient(dy.reshape(N, K, P * Q), laid)
    _weight_gradient(laid, _lay_images(x, P, Q, R, S, stride, pad, pad), P, Q, R, S, stride, dw.reshape(K, C * R * S))
    _sum_maps(dy, db)
    if not need_dx:
        return None, dw, db
    dx = _memory.empty(x.shape)
    turned = np.ascontiguousarray(w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
    spread = dy if stride == 1 else _spread(dy, stride)
    H, W = x.shape[2:]
    laid = _lay_images(spread, H, W, R, S, 1, R - 1 - pad, S - 1 - pad)
    _convolve(laid, _panels(turned.reshape(C, -1)), np.zeros(C, np.float32), K, R, S, 1, dx)
    return dx, dw, db


def _spread(dy: Floats, stride: int) -> Floats:
    """Put stride - 1 zeros between neighbours, so that a strided convolution's gradient is that of a plain one."""
    N, K, P, Q = dy.shape
    spread = _memory.empty((N, K, (P - 1) * stride + 1, (Q - 1) * stride + 1))
    spread[...] = 0
    spread[:, :, ::stride, ::stride] = dy
    return spread


def _panels(w: Floats) -> Floats:
    """Lay filters out as the micro-kernel reads them: panels of at most ROWS filters, in each panel tap after tap."""
    laid = _memory.empty((w.size,))
    _lay_panels(w, laid)
    return laid


@serial
def _panel(K: int, index: int) -> tuple[int, int]:
    """Give the first filter of a panel and the first after it: as few panels as possible, as equal as possible."""
    count = (K + ROWS - 1) // ROWS
    return index * K // count, (index + 1) * K // count


@kernel
def _lay_panels(w: Floats, laid: Floats) -> None:
    K, D = w.shape
    for index in prange((K + ROWS - 1) // ROWS):
        start, stop = _panel(K, index)
        at = start * D
        for d in range(D):
            for k in range(start, stop):
                laid[at] = w[k, d]
                at += 1


@serial
def _phase_shape(P: int, Q: int, R: int, S: int, stride: int) -> tuple[int, int]:
    """Height and width of one phase of a padded image, just large enough for all windows."""
    return ((P - 1) * stride + R + stride - 1) // stride, ((Q - 1) * stride + S + stride - 1) // stride


def _lay_images(x: Floats, P: int, Q: int, R: int, S: int, stride: int, top: int, left: int) -> Floats:
    """Lay each channel of each image out as stride x stride phases, with zeros around: (N, C, phases, height, width).

    Each image is followed by LANES zeros, what the copy of a whole vector may take beyond its end.
    """
    N, C = x.shape[:2]
    height, width = _phase_shape(P, Q, R, S, stride)
    laid = _memory.empty((N, C * stride * stride * height * width + LANES))
    _lay(x, stride, top, left, height, width, laid)
    return laid


@kernel
def _lay(x: Floats, stride: int, top: int, left: int, height: int, width: int, laid: Floats) -> None:
    N, C, H, W = x.shape
    for n in prange(N):
        out = laid[n]
        out[out.size - LANES :] = 0
        row = 0
        for c in range(C):
            for a in range(stride):
                for b in range(stride):
                    first = min(width, max(0, -((b - left) // stride)))  # the first j with j*stride + b - left >= 0
                    last = max(first, min(width, (W - 1 + left - b) // stride + 1))
                    for i in range(height):
                        y = i * stride + a - top
                        if y < 0 or y >= H or first == last:
                            out[row : row + width] = 0
                        else:
                            out[row : row + first] = 0
                            _take(x[n, c, y, first * stride + b - left :], stride, out[row + first : row + last])
                            out[row + last : row + width] = 0
                        row += width


@serial
def _take(source: Floats, step: int, target: Floats) -> None:
    """Take every step-th number. Where the step is known when this is compiled, the loop becomes vectors."""
    if step == 1:
        for j in range(target.size):
            target[j] = source[j]
    elif step == 4:  # the paper's first layer
        for j in range(target.size):
            target[j] = source[4 * j]
    else:
        for j in range(target.size):
            target[j] = source[step * j]


@serial
def _find_taps(C: int, R: int, S: int, stride: int, height: int, width: int) -> Ints:
    """Say where, in an image laid out in phases, each tap (c,r,s) of the first window reads."""
    taps = np.empty(C * R * S, np.int64)
    for c in range(C):
        for r in range(R):
            for s in range(S):
                phase = (c * stride + r % stride) * stride + s % stride
                taps[(c * R + r) * S + s] = (phase * height + r // stride) * width + s // stride
    return taps


@serial
def _find_runs(start: int, count: int, Q: int, width: int, to: Ints, at: Ints) -> int:
    """List the runs, LANES long at most, in which windows start .. start + count lie side by side; return how many.

    Run i goes to place to[i] of the panel's row, from at[i] on of the laid out image, relative to the row's tap.
    """
    runs = done = 0
    while done < count:
        p, q = (start + done) // Q, (start + done) % Q
        length = min(Q - q, count - done, LANES)
        to[runs], at[runs] = done, p * width + q
        runs += 1
        done += length
    return runs


@kernel
def _convolve(x: Floats, w: Floats, b: Floats, C: int, R: int, S: int, stride: int, y: Floats) -> None:
    """Multiply filters, laid out in panels, with the windows of images that are laid out in phases."""
    N, K, P, Q = y.shape
    D = C * R * S
    height, width = _phase_shape(P, Q, R, S, stride)
    taps = _find_taps(C, R, S, stride, height, width)
    panels = (K + ROWS - 1) // ROWS
    for n in prange(N):
        laid = x[n]
        panel = np.empty(DEPTH * PITCH, np.float32)
        sums = np.empty(K * WIDTH, np.float32)
        to, at = np.empty(WIDTH, np.int64), np.empty(WIDTH, np.int64)
        out = y[n].reshape(K, P * Q)
        for start in range(0, P * Q, WIDTH):
            count = min(WIDTH, P * Q - start)
            vectors = (count + LANES - 1) // LANES
            runs = _find_runs(start, count, Q, width, to, at)
            sums[:] = 0
            for first in range(0, D, DEPTH):
                depth = min(DEPTH, D - first)
                for run in range(runs):  # in this order: a run covers what the one before it left beyond its end
                    for d in range(depth):
                        copy(panel, d * PITCH + to[run], laid, taps[first + d] + at[run])
                for index in range(panels):
                    k, stop = _panel(K, index)
                    tile(w, k * D + first * (stop - k), stop - k, panel, 0, vectors, sums, k * WIDTH, depth)
            for k in range(K):
                for j in range(count):
                    out[k, start + j] = sums[k * WIDTH + j] + b[k]


@kernel
def _lay_gradient(dy: Floats, laid: Floats) -> None:
    """Lay dy (N,K,PQ) out as the micro-kernel reads it: (groups of images, tiles of K, images, vectors, SIDE, LANES).

    What is missing to a whole group, tile or vector is zero.
    """
    N, K, PQ = dy.shape
    groups, tiles, batch, vectors = laid.shape[:4]
    for part in prange(groups * tiles):
        group, tile_k = part // tiles, part % tiles
        for m in range(batch):
            for i in range(SIDE):
                n, k = group * batch + m, tile_k * SIDE + i
                for v in range(vectors):
                    lanes = laid[group, tile_k, m, v, i]
                    count = min(LANES, PQ - v * LANES) if n < N and k < K else 0
                    if count == LANES:
                        some = dy[n, k, v * LANES : (v + 1) * LANES]
                        for lane in range(LANES):
                            lanes[lane] = some[lane]
                    else:
                        for lane in range(LANES):
                            lanes[lane] = dy[n, k, v * LANES + lane] if lane < count else np.float32(0)


@kernel
def _weight_gradient(dy: Floats, x: Floats, P: int, Q: int, R: int, S: int, stride: int, dw: Floats) -> None:
    """Multiply dy with windows, a few rows of these at a time; both are laid out. Each thread takes rows of its own."""
    N = x.shape[0]
    K, D = dw.shape
    tiles, batch, vectors = dy.shape[1:4]
    height, width = _phase_shape(P, Q, R, S, stride)
    taps = _find_taps(D // (R * S), R, S, stride, height, width)
    # A row of windows holds all images of a group, and room for the vector that a copy may write beyond its end.
    length = batch * vectors * LANES + LANES
    gradient = dy.reshape(-1)
    for part in prange((D + ROWS_AT_ONCE - 1) // ROWS_AT_ONCE):
        first, stop = part * ROWS_AT_ONCE, min(D, (part + 1) * ROWS_AT_ONCE)
        windows = np.zeros(ROWS_AT_ONCE * length, np.float32)
        to, at = np.empty(P * Q, np.int64), np.empty(P * Q, np.int64)
        runs = _find_runs(0, P * Q, Q, width, to, at)
        sums = np.zeros((tiles, ROWS_AT_ONCE // SIDE, SIDE, SIDE, LANES), np.float32)
        flat_sums = sums.reshape(-1)
        for image in range(0, N, batch):
            images = min(batch, N - image)
            for m in range(images):
                laid = x[image + m]
                for d in range(first, stop):
                    row = (d - first) * length + m * vectors * LANES
                    for run in range(runs):
                        copy(windows, row + to[run], laid, taps[d] + at[run])
                    windows[row + P * Q : row + vectors * LANES] = 0
            pieces = (images * vectors + VECTORS_AT_ONCE - 1) // VECTORS_AT_ONCE
            for piece in range(pieces):
                start, end = piece * images * vectors // pieces, (piece + 1) * images * vectors // pieces
                for tile_k in range(tiles):
                    a = (image // batch * tiles + tile_k) * batch * vectors + start
                    for d in range(0, stop - first, SIDE):
                        c = (tile_k * (ROWS_AT_ONCE // SIDE) + d // SIDE) * SIDE * SIDE
                        dots(
                            gradient, a * SIDE * LANES,
                            windows, d * length + start * LANES, length, end - start,
                            flat_sums, c * LANES,
                        )  # fmt: skip
        for k in range(K):
            for d in range(stop - first):
                lanes = sums[k // SIDE, d // SIDE, k % SIDE, d % SIDE]
                total = np.float32(0)
                for lane in range(LANES):
                    total += lanes[lane]
                dw[k, first + d] = total


@kernel
def _sum_maps(dy: Floats, db: Floats) -> None:
    N, K, P, Q = dy.shape
    whole = P * Q // LANES * LANES
    maps = dy.reshape(N, K, P * Q)
    for k in prange(K):
        lanes = np.empty(LANES, np.float32)
        total = 0.0
        for n in range(N):
            numbers = maps[n, k]
            lanes[:] = 0
            for start in range(0, whole, LANES):
                some = numbers[start : start + LANES]
                for lane in range(LANES):
                    lanes[lane] += some[lane]
            for lane in range(LANES):
                total += lanes[lane]
            for j in range(whole, P * Q):
                total += numbers[j]
        db[k] = total
