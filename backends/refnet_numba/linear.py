"""Fully connected layer; see :mod:`refnet.ops.linear`. One kernel computes its three matrix products.

They are::

    yᵀ (K,N) = w xᵀ,    dx (N,D) = dy w,    dw (K,D) = dyᵀ x

Threads: the product is divided into blocks of rows and columns, and each thread computes every threads-th block. A
block fits in the second-level cache together with its factors. The right factor is copied in the micro-kernel's order
(``_pack``). For at most ``MAX_SMALL_BATCH`` samples, reading w takes nearly all of the time, and another kernel
(``_multiply_few``) reads each weight once.

Memory layout: the forward pass computes the transpose of y, because w, by far the largest array, is then read in the
order in which it is stored. The left factor, whose numbers are read one by one, is first copied with some space after
each row: w inside the kernel, dy before it. Without this space, rows whose length is a multiple of 4096 bytes, as in
the paper's layers, would all compete for the same few lines of the first-level cache.
"""

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet_numba import _memory, _threads
from refnet_numba._instructions import LANES, ROWS
from refnet_numba._jit import kernel, reordering_kernel, serial
from refnet_numba._layout import multiples, turn
from refnet_numba._microkernel import WIDTH, tile

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MAX_TERMS = 512  # products that are summed in registers before the sum is added to memory
BLOCK_COLUMNS = 4 * WIDTH  # columns of a block; MAX_TERMS numbers of each are 256 KB if WIDTH is 32
BLOCK_ROWS = (64 << 10) // BLOCK_COLUMNS  # rows of a block: 256 KB of sums
MAX_SMALL_BATCH = 4  # up to this many samples, reading w takes nearly all of the time


def forward(x: Floats, w: Floats, b: Floats) -> Floats:
    """Return the weighted sums of the inputs, plus b: y (N,K)."""
    return rectified_forward(x, w, b, rectify=False)


def backward(dy: Floats, x: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the gradients dx, dw and db."""
    return rectified_backward(dy, dy, x, w, rectified=False)


def rectified_forward(x: Floats, w: Floats, b: Floats, *, rectify: bool) -> Floats:
    """Return the weighted sums of the inputs, plus b, and after ReLU if `rectify`: y (N,K)."""
    _memory.require(x, w, b)
    N, (K, D) = len(x), w.shape
    y = _memory.empty((N, K))
    rows = x.reshape(N, D)
    if N <= MAX_SMALL_BATCH:
        _multiply_few(rows, w, b, rectify, y)
        return y
    sums = _memory.empty((K, N))
    _multiply(w.reshape(-1), D, 1, True, rows.reshape(-1), True, D, sums, _threads.count())
    _finish(sums, b, rectify, y)
    return y


def rectified_backward(
    dy: Floats, y: Floats, x: Floats, w: Floats, *, rectified: bool
) -> tuple[Floats, Floats, Floats]:
    """Return dx, dw and db. If `rectified`, y is ReLU's output, and dy counts as zero where y <= 0."""
    _memory.require(dy, y, x, w)
    N, (K, D) = len(x), w.shape
    dx, dw, db = _memory.empty(x.shape), _memory.empty(w.shape), _memory.empty((K,))
    spaced = _spaced(dy, y, gated=rectified)
    flat, pitch, workers = spaced.reshape(-1), spaced.shape[1], _threads.count()
    _multiply(flat, pitch, 1, False, w.reshape(-1), False, K, dx.reshape(N, D), workers)
    _multiply(flat, 1, pitch, False, x.reshape(-1), False, N, dw, workers)
    _sum_rows(spaced, db)
    return dx, dw, db


def _spaced(a: Floats, y: Floats, *, gated: bool) -> Floats:
    """Return a copy of a matrix (N,D) as (N, D + LANES), with zeros after each row and, if `gated`, where y <= 0."""
    N, D = a.shape
    copy = _memory.empty((N, D + LANES))
    _space(a, y, gated, copy)
    return copy


@serial
def _space(a: Floats, y: Floats, gated: bool, copy: Floats) -> None:
    N, D = a.shape
    for n in range(N):
        numbers, gate, out = a[n], y[n], copy[n]
        out[D:] = 0
        if gated:
            for d in range(D):
                out[d] = np.float32(0) if gate[d] <= 0 else numbers[d]
        else:
            for d in range(D):
                out[d] = numbers[d]


@serial
def _pack(b: Floats, transposed: bool, J: int, T: int, j: int, columns: int, t: int, rows: int, panels: Floats) -> None:
    """Write the block of b (T,J) that begins in row t and column j to `panels`, in the micro-kernel's order.

    A panel is WIDTH columns of the block, as a matrix (rows, WIDTH); the panels follow each other in memory. The last
    one may have fewer columns; zeros fill it up to whole vectors. If `transposed`, b is stored as (J,T).
    """
    whole_panels = 0 if transposed else columns // WIDTH * WIDTH  # columns of complete panels
    for i in range(rows):
        for start in range(0, whole_panels, WIDTH):  # the compiler knows WIDTH, so it vectorises the inner loop
            numbers, out = b[(t + i) * J + j + start :], panels[start * rows + i * WIDTH :]
            for lane in range(WIDTH):
                out[lane] = numbers[lane]
    for start in range(whole_panels, columns, WIDTH):
        count = min(WIDTH, columns - start)
        width = (count + LANES - 1) // LANES * LANES
        panel = panels[start * rows :]
        if count < width:
            panel[: rows * width] = 0
        if transposed:
            turn(b, (j + start) * T + t, T, count, panel, 0, multiples(rows, width))
        else:
            for i in range(rows):
                for lane in range(count):
                    panel[i * width + lane] = b[(t + i) * J + j + start + lane]


@kernel
def _multiply(
    a: Floats, a_row: int, a_inner: int, copy_rows: bool, b: Floats, transposed: bool, T: int, c: Floats, workers: int
) -> None:
    """Write a matrix product: c[i,j] = sum over t < T of a[i*a_row + t*a_inner] * b[t,j], or b[j,t] if `transposed`.

    If `copy_rows`, rows of a are copied first, because they may all map to the same few lines of the cache.
    """
    I, J = c.shape  # noqa: E741 - the formula's letters
    column_blocks = (J + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    row_blocks = max(1, (I + BLOCK_ROWS - 1) // BLOCK_ROWS)
    if column_blocks == 1:
        row_blocks = (row_blocks + workers - 1) // workers * workers
    max_rows, pieces = (I + row_blocks - 1) // row_blocks, (T + MAX_TERMS - 1) // MAX_TERMS
    for worker in prange(workers):
        panels = np.empty(min(T, MAX_TERMS) * BLOCK_COLUMNS, np.float32)
        copies = np.empty((ROWS, MAX_TERMS + LANES), np.float32)
        left, left_row, left_inner = (copies.reshape(-1), MAX_TERMS + LANES, 1) if copy_rows else (a, a_row, a_inner)
        sums = np.empty((max_rows, BLOCK_COLUMNS), np.float32)
        flat_sums = sums.reshape(-1)
        for item in range(worker, row_blocks * column_blocks, workers):
            i0, i1 = item % row_blocks * I // row_blocks, (item % row_blocks + 1) * I // row_blocks
            j0 = item // row_blocks * BLOCK_COLUMNS
            columns = min(BLOCK_COLUMNS, J - j0)
            tiles = (i1 - i0 + ROWS - 1) // ROWS
            sums[: i1 - i0] = 0
            for piece in range(pieces):
                t, terms = piece * T // pieces, (piece + 1) * T // pieces - piece * T // pieces
                _pack(b, transposed, J, T, j0, columns, t, terms, panels)
                for block in range(tiles):
                    i, stop = block * (i1 - i0) // tiles, (block + 1) * (i1 - i0) // tiles
                    start = (i0 + i) * a_row + t * a_inner
                    if copy_rows:
                        for row in range(stop - i):
                            numbers, copy = a[start + row * a_row :], copies[row]
                            for inner in range(terms):
                                copy[inner] = numbers[inner]
                        start = 0
                    for j in range(0, columns, WIDTH):
                        vectors = (min(WIDTH, columns - j) + LANES - 1) // LANES
                        tile(
                            left, start, left_row, 0, left_inner, stop - i,
                            panels, j * terms, 0, vectors * LANES, vectors,
                            flat_sums, i * BLOCK_COLUMNS + j, BLOCK_COLUMNS, 1, terms,
                        )  # fmt: skip
            for i in range(i1 - i0):
                c[i0 + i, j0 : j0 + columns] = sums[i, :columns]


@serial
def _finish(sums: Floats, b: Floats, rectify: bool, y: Floats) -> None:
    """Write y (N,K): the transpose of the sums (K,N), plus the bias, and after ReLU if `rectify`."""
    K, N = sums.shape
    turn(sums.reshape(-1), 0, N, K, y.reshape(-1), 0, multiples(N, K))
    for n in range(N):
        out = y[n]
        for k in range(K):
            value = out[k] + b[k]
            out[k] = np.float32(0) if rectify and value <= 0 else value


@reordering_kernel
def _multiply_few(x: Floats, w: Floats, b: Floats, rectify: bool, y: Floats) -> None:
    """Write y = x wᵀ + b for a few samples, and ReLU of it if `rectify`, reading each row of w once for all samples.

    A thread multiplies four rows of w at a time, a quarter of w apart, because this reads memory fastest.
    """
    K, D = w.shape
    quarter = (K + 3) // 4
    for row in prange(quarter):
        k = int(np.int64(row))  # prange counts in unsigned integers, whose sum with a signed one would be a float
        # A row that does not exist is replaced by row k, which is then computed again; its result is written last.
        k1, k2, k3 = _row_or(k + quarter, K, k), _row_or(k + 2 * quarter, K, k), _row_or(k + 3 * quarter, K, k)
        w0, w1, w2, w3 = w[k], w[k1], w[k2], w[k3]
        for n in range(len(x)):
            numbers = x[n]
            y0, y1, y2, y3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for d in range(D):
                number = numbers[d]
                y0 += w0[d] * number
                y1 += w1[d] * number
                y2 += w2[d] * number
                y3 += w3[d] * number
            y[n, k1], y[n, k2], y[n, k3], y[n, k] = y1 + b[k1], y2 + b[k2], y3 + b[k3], y0 + b[k]
            for unit in (k, k1, k2, k3):
                if rectify and y[n, unit] <= 0:
                    y[n, unit] = 0


@serial
def _row_or(row: int, rows: int, other: int) -> int:
    """Return `row` if it is below `rows`, otherwise `other`."""
    return row if row < rows else other


@serial
def _sum_rows(dy: Floats, db: Floats) -> None:
    """Write db (K,): the sums of dy over the samples, in float64. Rows of dy may be longer than K."""
    total = np.zeros(db.size, np.float64)
    for n in range(len(dy)):
        sample = dy[n]
        for k in range(total.size):
            total[k] += sample[k]
    for k in range(total.size):
        db[k] = total[k]
