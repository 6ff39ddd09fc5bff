"""Tests of the Numba backend beyond the conformance suite: micro-kernels, memory, threads, unusual arguments."""

from pathlib import Path

import numba
import numpy as np
import pytest
from networks import SEED, BackwardsOrder, train
from refnet_numba import NumbaBackend, _jit, _layout, _memory, _microkernel, _threads
from refnet_numba._instructions import LANES, ROWS, VECTORS
from threadpoolctl import threadpool_limits

from refnet import backend as backends
from refnet import nets, ops
from refnet.backend.reference import NumpyBackend
from refnet.errors import BackendUnavailableError, ConfigError, RefnetError, ShapeError
from refnet.network import passes
from refnet.network.initial import initialise

TESTS = Path(__file__).parent
PACKAGE = Path(_jit.__file__).parent
CORES = numba.config.NUMBA_NUM_THREADS


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    before = _threads.count()
    yield
    _threads.choose(before)


# The micro-kernels ---------------------------------------------------------------------------------------------------


@numba.njit
def run_tile(a, ao, a_row, a_outer, a_inner, rows, b, bo, b_outer, b_inner, vectors, c, co, c_row, outer, inner):
    _microkernel.tile(
        a, ao, a_row, a_outer, a_inner, rows, b, bo, b_outer, b_inner, vectors, c, co, c_row, outer, inner
    )


@numba.njit
def run_transpose(source, at, pitch, target, to, places, first):
    _microkernel.transpose(source, at, pitch, target, to, places, first)


@numba.njit
def run_best(values, vo, step, places, po, place_step, rise, count, best, bo, at, ao, vectors):
    _microkernel.best(values, vo, step, places, po, place_step, rise, count, best, bo, at, ao, vectors)


@numba.njit
def run_turn(source, at, pitch, rows, target, to, places):
    _layout.turn(source, at, pitch, rows, target, to, places)


def whole(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


def among_nan(*pieces, before=3, after=LANES):
    """Put pieces one after the other between NaN, at places that no vector is aligned to."""
    ends = np.full(before, np.nan, np.float32), np.full(after, np.nan, np.float32)
    return np.concatenate([ends[0], *(np.ravel(piece) for piece in pieces), ends[1]])


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


class TestMicrokernel:
    @pytest.mark.parametrize(("outer", "inner"), [(1, 1), (1, 7), (3, 1), (2, 5)])
    @pytest.mark.parametrize("vectors", range(1, VECTORS + 1))
    @pytest.mark.parametrize("rows", range(1, ROWS + 1))
    def test_tile(self, rows, vectors, outer, inner):
        """It reads and writes what its plain text does and nothing else: all the rest is NaN."""
        rng = np.random.default_rng([rows, vectors, outer, inner])
        width = vectors * LANES
        a, b, c = (
            np.full(shape, np.nan, np.float32)
            for shape in ((outer + 1, inner, 2, rows + 1), (outer, inner + 1, width + 1), (rows, width + 3))
        )
        a[:outer, :, 0, :rows] = whole(rng, outer, inner, rows)
        b[:, :inner, :width], c[:, :width] = whole(rng, outer, inner, width), whole(rng, rows, width)
        # Of the three axes of a each is stepped through by a number of its own.
        steps = ((1, inner * 2 * (rows + 1), 2 * (rows + 1)), ((inner + 1) * (width + 1), width + 1), (width + 3,))
        expected = c.copy()
        expected[:, :width] += np.einsum("oti,otj->ij", a[:outer, :, 0, :rows], b[:, :inner, :width])
        for tile in (run_tile, _microkernel._plain_tile):
            found = among_nan(c)
            (a_row, a_outer, a_inner), (b_outer, b_inner), (c_row,) = steps
            tile(
                among_nan(a), 3, a_row, a_outer, a_inner, rows,
                among_nan(b), 3, b_outer, b_inner, vectors,
                found, 3, c_row, outer, inner,
            )  # fmt: skip
            assert_same_bits(found, among_nan(expected))

    @pytest.mark.parametrize("first", [0, 2])
    def test_transpose(self, first):
        source = np.arange(2 * LANES * LANES, dtype=np.float32)
        places = np.random.default_rng(0).permutation(LANES + first) * (LANES + 1)
        square = source[5:].copy()
        expected = np.full(3 * LANES * LANES, np.nan, np.float32)
        for j in range(LANES):
            start = 7 + places[first + j]
            expected[start : start + LANES] = square[j : j + LANES * (LANES + 3) : LANES + 3][:LANES]
        for run in (run_transpose, _microkernel._plain_transpose):
            found = np.full(expected.shape, np.nan, np.float32)
            run(source, 5, LANES + 3, found, 7, places, first)
            assert_same_bits(found, expected)

    @pytest.mark.parametrize(("place_step", "rise"), [(0, 3), (1, 1)])
    @pytest.mark.parametrize("count", [2, 3])
    @pytest.mark.parametrize("vectors", [1, 3])
    def test_best(self, vectors, count, place_step, rise):
        """Few different numbers, so that many tie, infinities and NaN among them; ties go to the least place."""
        rng = np.random.default_rng([vectors, count, rise])
        width, step = vectors * LANES, 5
        kinds = np.array([-np.inf, -1, -0.0, 0.0, 1, np.inf, np.nan], np.float32)
        values, places = rng.choice(kinds, width + count * step), rng.permutation(width + count).astype(np.int32)
        best, at = np.empty(width, np.float32), np.empty(width, np.int32)
        for j in range(width):
            some = [(values[j + o * step], places[j + o * place_step] + o * rise) for o in range(count)]
            best[j], at[j] = min(
                some, key=lambda one: (-np.nan_to_num(one[0], nan=np.inf, posinf=2, neginf=-2), one[1])
            )
        for run in (run_best, _microkernel._plain_best):
            found, found_at = np.full(width + 9, 7, np.float32), np.full(width + 9, 7, np.int32)
            offset = among_nan(values)
            run(offset, 3, step, places, 0, place_step, rise, count, found, 4, found_at, 5, vectors)
            assert_same_bits(found[4:-5], best)
            assert_same_bits(np.signbit(found[4:-5]), np.signbit(best))
            assert_same_bits(found_at[5:-4], at)
            assert all(np.all(outside == 7) for outside in (found[:4], found[-5:], found_at[:5], found_at[-4:]))

    @pytest.mark.parametrize("rows", [1, LANES - 1, LANES, 2 * LANES + 3])
    @pytest.mark.parametrize("columns", [1, LANES - 1, LANES, 2 * LANES + 3])
    def test_turn(self, rows, columns):
        source = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
        found, expected = np.full((2, columns, rows + 2), np.nan, np.float32)
        expected[:, 1:-1] = source.T
        run_turn(np.ravel(source), 0, columns, rows, np.ravel(found), 1, np.arange(columns) * (rows + 2))
        assert_same_bits(found, expected)


# Memory --------------------------------------------------------------------------------------------------------------


class TestMemory:
    """Buffers are used again when the last array that shows them is gone, and not before."""

    SHAPE = (_memory.MIN_KEPT_BYTES // 4,)

    @pytest.fixture(autouse=True)
    def nothing_kept(self, monkeypatch):
        monkeypatch.setattr(_memory, "_kept", [])
        monkeypatch.setattr(_memory, "_most_used", 0)

    def test_a_dead_array_gives_its_buffer(self):
        array = _memory.empty(self.SHAPE)
        place = array.ctypes.data
        del array
        assert _memory.empty((2, self.SHAPE[0] // 2), np.uint32).ctypes.data == place

    def test_an_array_or_a_view_of_it_keeps_its_buffer(self):
        array = _memory.empty(self.SHAPE)
        place, view = array.ctypes.data, array.reshape(2, -1)[1:]
        assert _memory.empty(self.SHAPE).ctypes.data != place
        del array
        assert _memory.empty(self.SHAPE).ctypes.data != place
        del view
        assert _memory.empty(self.SHAPE).ctypes.data == place

    def test_what_is_unused_is_given_back(self):
        del_me = _memory.empty(self.SHAPE)
        kept = _memory.empty(self.SHAPE)
        del del_me
        _memory.release()
        assert len(_memory._kept) == 1
        del kept
        _memory.release()
        assert not _memory._kept

    def test_a_larger_buffer_serves_too_but_not_one_of_twice_the_size(self):
        size = _memory.MIN_KEPT_BYTES
        arrays = [_memory.empty((size * factor,), np.uint8) for factor in (1, 3, 2)]
        del arrays
        taken = []
        for asked in (size + 1, size, 3 * size + 1):
            array = _memory.empty((asked,), np.uint8)
            taken.append(_memory._kept[-1].nbytes)
            assert array.size == asked
        assert taken == [2 * size, size, 3 * size + 1]

    def test_new_sizes_do_not_pile_up(self):
        for factor in range(1, 50):
            _memory.empty((self.SHAPE[0] * factor * 3,))
            assert (
                sum(buffer.nbytes for buffer in _memory._kept)
                <= _memory.MAX_KEPT_RATIO * _memory.MIN_KEPT_BYTES * factor * 3
            )

    def test_small_arrays_are_not_kept(self):
        _memory.empty((10,))
        assert not _memory._kept


# Ops -----------------------------------------------------------------------------------------------------------------

KEY, COUNTER = (3, 1), (5, 2, 0, 6)


def calls(N, size=1):
    """List a call of every function for a batch of N: by its name, arguments and options. `size` scales the arrays."""
    rng = np.random.default_rng(0)
    H, C, K = 19 * size, 5 * size, 6 * size

    def normal(*shape):
        return rng.standard_normal(shape, np.float32)

    found = {}
    for stride, pad, R in ((1, 1, 3), (4, 2, 5)):
        options = {"stride": stride, "pad": pad}
        x, w, b = normal(N, C, H, H + 1), normal(K, C, R, R), normal(K)
        (y,) = ops.conv2d.forward_shapes(x.shape, w.shape, b.shape, **options)
        found[f"conv2d.forward, stride {stride}"] = ([x, w, b], options)
        found[f"conv2d.backward, stride {stride}"] = ([normal(*y), x, w], options)
        found[f"conv2d_relu.forward, stride {stride}"] = ([x, w, b], options)
        found[f"conv2d_relu.backward, stride {stride}"] = ([normal(*y), normal(*y), x, w], options)
    x, dy = normal(N, C, H, H + 1), normal(N, C, H, H + 1)
    for op in ("relu", "tanh"):
        found[f"{op}.forward"] = ([x], {})
        found[f"{op}.backward"] = ([dy, x], {})
    lrn = {"n": 5, "k": 2.0, "alpha": 0.5, "beta": 0.75}
    found["lrn.forward"] = ([x], lrn)
    found["lrn.backward"] = ([dy, x, *ops.lrn.forward(x, **lrn)], lrn)
    pool = {"size": 3, "stride": 2, "ceil": True}
    y, which = ops.maxpool.forward(x, **pool)
    found["maxpool.forward"] = ([x], pool)
    found["maxpool.backward"] = ([normal(*y.shape), which], {"x_shape": x.shape, **pool})
    y = ops.avgpool.forward(x, **pool)
    found["avgpool.forward"] = ([x], pool)
    found["avgpool.backward"] = ([normal(*y.shape)], {"x_shape": x.shape, **pool})
    found["rnorm.forward"] = ([x], lrn)
    found["rnorm.backward"] = ([dy, x, *ops.rnorm.forward(x, **lrn)], lrn)
    w, b = normal(K, C * H * (H + 1)), normal(K)
    found["linear.forward"] = ([x, w, b], {})
    found["linear.backward"] = ([normal(N, K), x, w], {})
    found["linear_relu.forward"] = ([x, w, b], {})
    found["linear_relu.backward"] = ([normal(N, K), normal(N, K), x, w], {})
    bytes_, offsets, flips = (
        rng.integers(0, high, shape).astype(dtype)
        for high, shape, dtype in ((256, (N, H, H + 1, C), np.uint8), (2, (N, 2), np.int32), (2, N, np.uint8))
    )
    found["augment.forward"] = ([bytes_, normal(H, H + 1, C), offsets, flips, normal(N, C)], {"size": (H - 1, H)})
    draw = {"drop": 0.5, "key": KEY, "counter": COUNTER}
    found["dropout.forward"] = ([x], draw)
    found["dropout.backward"] = ([dy], draw)
    found["dropout.expected"] = ([x], {"drop": 0.5})
    z, labels = normal(N, 40 * size), rng.integers(0, 40 * size, N)
    found["softmax_xent.forward"] = ([z, labels], {})
    found["softmax_xent.backward"] = ([abs(z), labels], {})
    found["sgd.step_"] = ([normal(N * H * H) for _ in range(3)], {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4})
    found["philox.bits"] = ([N, H * H], {"key": KEY, "counter": COUNTER})
    return found


NAMES = tuple(calls(1))
each_call = pytest.mark.parametrize("call", NAMES)


def outcome(backend, call, args, options):
    """Compute on copies: the results, and the arguments, which an op may have changed."""
    op, function = call.partition(",")[0].split(".")
    args = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    results = getattr(getattr(backend, op), function)(*args, **options)
    return [a for a in (*(results if isinstance(results, tuple) else (results,)), *args) if isinstance(a, np.ndarray)]


def outcome_or_refusal(*call):
    try:
        return outcome(*call)
    except RefnetError as error:
        return [str(error)]


@pytest.fixture(scope="module", params=[4, 1], ids=["four images", "one image"])
def large(request):
    return calls(request.param, size=3)


def test_the_calls_are_of_every_function():
    functions = {call.partition(",")[0] for call in NAMES}
    every = {f"{op}.{name}" for op in ops.OPS for name in getattr(ops, op).INTERFACE}
    assert functions == every - {"sgd.steps_"}  # which calls step_ for each parameter


@each_call
def test_any_number_of_threads_gives_the_same_bits(large, call):
    if CORES == 1:
        pytest.skip("Numba has one thread here")
    alone, together = (
        outcome(backends.load("numba", threads=threads, checked=False), call, *large[call]) for threads in (1, CORES)
    )
    assert [a.tobytes() for a in alone] == [a.tobytes() for a in together]


@pytest.mark.skipif(CORES == 1, reason="Numba has one thread here")
def test_that_number_of_threads_is_what_ran():
    def ran():
        backend.relu.forward(np.ones(3, np.float32))
        return numba.get_num_threads()

    for threads in (1, CORES):
        backend = backends.load("numba", threads=threads)
        assert ran() == threads
    backends.load("numba", threads=1)
    backend = backends.load("numba")
    assert ran() == CORES


@pytest.mark.parametrize("batch", [1, 2, 15, 16, 17, 44, 45])
@pytest.mark.parametrize("R", [1, 3])
@pytest.mark.parametrize("C", [1, 7])
def test_gradients_over_several_groups_of_images(C, R, batch):
    """The gradient of w takes images together; the suite draws too few of them to fill such a group."""
    rng = np.random.default_rng([C, R, batch])
    for H, W, K in ((8, 8, 1), (5, 11, 6)):
        options = {"stride": 1, "pad": R // 2}
        arrays = [whole(rng, batch, K, H, W), whole(rng, batch, C, H, W), whole(rng, K, C, R, R)]
        found = backends.load("numba", checked=False).conv2d.backward(*arrays, **options)
        for ours, right in zip(found, ops.conv2d.backward(*arrays, **options), strict=True):
            assert_same_bits(ours, right)


@pytest.mark.parametrize("checked", [False, True], ids=["bare", "checked"])
@each_call
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_an_empty_batch(call, checked):
    """What the reference computes is computed, what it refuses is refused."""
    args, options = calls(0)[call]
    numpy, compiled = (backends.load(name, checked=checked) for name in ("numpy", "numba"))
    expected, found = (outcome_or_refusal(backend, call, args, options) for backend in (numpy, compiled))
    assert len(found) == len(expected)
    for ours, right in zip(found, expected, strict=True):
        assert_same_bits(np.asarray(ours), np.asarray(right))


@each_call
def test_arrays_that_are_not_float32_or_not_contiguous(call):
    """Kernels themselves refuse them; a backend that is loaded with checks converts what it can (test_arguments)."""
    args, options = calls(2)[call]
    compiled = backends.load("numba", checked=False)
    for place, a in enumerate(args):
        if not isinstance(a, np.ndarray):
            continue
        wrong = {"contiguous": np.repeat(a, 2, axis=-1)[..., ::2]}
        if a.dtype == np.float32:
            wrong |= {"float32, not float64": np.float64(a), "float32, not float16": np.float16(a)}
        op, function = call.partition(",")[0].split(".")
        for said, bad in wrong.items():
            with pytest.raises(ShapeError, match=f"backend numba .*{said}"):
                getattr(getattr(compiled, op), function)(*args[:place], bad, *args[place + 1 :], **options)


@pytest.mark.parametrize("dtype", ["f8", ">f8"])
def test_asarray_takes_float32_alone(dtype):
    with pytest.raises(ConfigError, match="float32, not float64"):
        backends.load("numba").asarray(np.ones(2, dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int32, np.int64, np.uint32])
def test_asarray_copies_and_keeps_the_dtype(dtype):
    a = np.arange(6).astype(dtype).reshape(2, 3)
    copy = backends.load("numba").asarray(a.T)
    assert copy.flags.c_contiguous
    assert not np.shares_memory(copy, a)
    assert_same_bits(copy, a.T)


def test_more_threads_than_there_are():
    with pytest.raises(ConfigError, match=f"threads={CORES + 1} .* at most {CORES}"):
        backends.load("numba", threads=CORES + 1)


def test_another_device():
    with pytest.raises(BackendUnavailableError, match="runs only on the CPU, not on cuda:1"):
        backends.load("numba", columns=2, devices=("cpu", "cuda:1"))


# Networks ------------------------------------------------------------------------------------------------------------


def pixels(shape, batch, scale):
    return np.random.default_rng(0).normal(0, scale, (batch, *shape)).astype(np.float32)


def some_params(plan):
    """Draw parameters; quicker than their own initialisation."""
    rng = np.random.default_rng(7)
    host = {}
    for node in plan.nodes:
        for letter, shape in node.params.items():
            drawn = rng.standard_normal(shape, np.float32)
            scaled = drawn * np.float32(node.layer.sigma) if letter == "w" else drawn + np.float32(node.layer.bias)
            host[f"{node.name}.{letter}"] = scaled
    return host


def logits(name, plan, host, images):
    backend = backends.load(name, columns=plan.columns)
    params = passes.place_params(plan, host, backend)
    tape = passes.forward(plan, params, passes.place(plan, images, backend), backend, record=False)
    return backend.to_numpy(tape.output)


@pytest.mark.parametrize(("net", "batch", "scale"), [("digits", 32, 16.0), ("paper", 1, 60.0)])
def test_logits_are_those_of_numpy(net, batch, scale):
    net = nets.get(net)
    plan = net.plan(2)
    host, images = some_params(plan), pixels(net.input_shape, batch, scale)
    expected = logits("numpy", plan, host, images)
    found = logits("numba", plan, host, images)
    largest = np.abs(expected).max()
    assert largest > 0
    assert np.abs(found - expected).max() <= 1e-4 * largest


def losses(backend):
    """Train digits for twenty steps, with dropout, momentum and decay."""
    plan = nets.get("digits").plan(2)
    rng = np.random.default_rng(1)
    images = rng.integers(-8, 9, (16, 1, 8, 8)).astype(np.float32)
    found, _ = train(plan, initialise(plan, SEED), images, rng.integers(0, 10, 16), backend, count=20)
    return np.float64(found)


def test_twenty_steps_of_training():
    """|dloss| <= 4 times the divergence of two NumPy runs that only differ in the order of their sums.

    And a unit in the last place of the loss, which is a float32: two runs may round to the same one by chance.
    """
    with threadpool_limits(1):
        reference, other_order, found = (
            losses(backend) for backend in (NumpyBackend(2), BackwardsOrder(2), backends.load("numba", columns=2))
        )
    divergence = np.maximum.accumulate(np.abs(other_order - reference))
    assert 0 < divergence.max() < 1e-2
    off, allowed = np.abs(found - reference), 4 * divergence + np.spacing(reference.astype(np.float32))
    assert (off <= allowed).all(), f"off by {off}, allowed {allowed}"
    assert reference[-5:].mean() < 0.85 * reference[:5].mean()


def test_the_variable_that_limits_threads_is_named(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    monkeypatch.setattr(NumbaBackend, "max_threads", 1)
    with pytest.raises(ConfigError, match="it must be at most 1, the limit of NUMBA_NUM_THREADS=1"):
        NumbaBackend(threads=2)
