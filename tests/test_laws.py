"""Identities that hold for any numbers, in exact arithmetic, on every backend."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.ops import relu as relu_chapter
from refnet.testing.bounds import EPS, bit_equal, equal, softmax_bound, within
from refnet.testing.cases import case_of
from refnet.testing.strategies import distinct, shape, shapes

seeds = st.integers(0, 2**32 - 1)
conv_geometry = case_of("conv2d", "forward").geometry
pool_geometry = case_of("maxpool", "forward").geometry
KEY = (11, 2)


def whole(rng, *lengths, low=-4, high=5):
    return rng.integers(low, high, lengths).astype(np.float32)


def normals(rng, *lengths):
    return rng.standard_normal(lengths).astype(np.float32)


def dot(a, b):
    return int((a.astype(np.int64) * b.astype(np.int64)).sum())


class On:
    """Calls the ops of a backend with host arrays, so that a law reads as it is written."""

    def __init__(self, backend, column=0):
        self._backend = backend
        self._column = column

    def __call__(self, op, function, *args, **kwargs):
        result = getattr(getattr(self._backend, op), function)(*map(self.there, args), **kwargs)
        return tuple(map(self.here, result)) if isinstance(result, tuple) else self.here(result)

    def there(self, a):
        return self._backend.asarray(a, self._column) if isinstance(a, np.ndarray) else a

    def here(self, a):
        return self._backend.to_numpy(a)


@pytest.fixture(scope="session")
def on(backend):
    return On(backend)


# <y, dy> = <x, dx> = <w, dw>, and <b, db> for the bias, exactly.


@given(geometry=conv_geometry, seed=seeds)
def test_conv2d_is_linear(on, geometry, seed):
    sizes, options = geometry
    rng = np.random.default_rng(seed)
    x, w, dy = (whole(rng, *shape(sizes, letters)) for letters in ("NCHW", "KCRS", "NKPQ"))
    b = whole(rng, sizes["K"])
    y = on("conv2d", "forward", x, w, 0 * b, **options)
    dx, dw, db = on("conv2d", "backward", dy, x, w, **options)
    assert dot(y, dy) == dot(x, dx) == dot(w, dw)
    biased = on("conv2d", "forward", x, w, b, **options)
    assert dot(biased, dy) - dot(y, dy) == dot(b, db)


@given(geometry=case_of("linear", "forward").geometry, seed=seeds)
def test_linear_is_linear(on, geometry, seed):
    sizes, _ = geometry
    rng = np.random.default_rng(seed)
    x = whole(rng, *shape(sizes, "NCHW" if "C" in sizes else "ND"))
    w, dy, b = (whole(rng, *shape(sizes, letters)) for letters in ("KD", "NK", "K"))
    y = on("linear", "forward", x, w, 0 * b)
    dx, dw, db = on("linear", "backward", dy, x, w)
    assert dot(y, dy) == dot(x, dx) == dot(w, dw)
    assert dot(on("linear", "forward", x, w, b), dy) - dot(y, dy) == dot(b, db)


@given(geometry=pool_geometry, seed=seeds)
def test_maxpool_is_linear(on, geometry, seed):
    """With its winners fixed, pooling is linear; a gradient of ones counts the windows that a pixel won."""
    sizes, options = geometry
    rng = np.random.default_rng(seed)
    x, dy = whole(rng, *shape(sizes, "NCHW")), whole(rng, *shape(sizes, "NCPQ"))
    y, which = on("maxpool", "forward", x, **options)
    dx = on("maxpool", "backward", dy, which, x_shape=x.shape, **options)
    assert dot(y, dy) == dot(x, dx)
    assert dx.sum() == dy.sum()


@given(geometry=case_of("avgpool", "forward").geometry, seed=seeds)
def test_avgpool_is_linear(on, geometry, seed):
    """Numbers are multiples of 3600, which every count of up to 5 x 5 pixels divides; then means are whole."""
    sizes, options = geometry
    rng = np.random.default_rng(seed)
    x, dy = 3600 * whole(rng, *shape(sizes, "NCHW")), 3600 * whole(rng, *shape(sizes, "NCPQ"))
    y = on("avgpool", "forward", x, **options)
    dx = on("avgpool", "backward", dy, x_shape=x.shape, **options)
    assert dot(y, dy) == dot(x, dx)
    assert dx.sum() == dy.sum()


@given(geometry=case_of("avgpool", "forward").geometry, constant=st.integers(-99, 99))
def test_the_average_of_a_constant_is_the_constant(on, geometry, constant):
    """At the edges too, where windows have fewer pixels."""
    sizes, options = geometry
    x = np.full(shape(sizes, "NCHW"), constant, np.float32)
    bit_equal(on("avgpool", "forward", x, **options), np.full(shape(sizes, "NCPQ"), constant, np.float32), "mean")


@given(geometry=case_of("dropout", "forward").geometry, seed=seeds)
def test_dropout_is_linear(on, geometry, seed):
    sizes, options = geometry
    rng = np.random.default_rng(seed)
    x, dy = whole(rng, *shape(sizes, "NCHW")), whole(rng, *shape(sizes, "NCHW"))
    assert dot(on("dropout", "forward", x, **options), dy) == dot(x, on("dropout", "backward", dy, **options))


@given(sizes=shapes(), seed=seeds)
def test_relu_is_idempotent(on, sizes, seed):
    y = on("relu", "forward", normals(np.random.default_rng(seed), *shape(sizes, "NCHW")))
    bit_equal(on("relu", "forward", y), y, "relu(relu(x))")


@given(geometry=pool_geometry, seed=seeds)
def test_maxpool_commutes_with_monotone_maps(on, geometry, seed):
    sizes, options = geometry
    x = normals(np.random.default_rng(seed), *shape(sizes, "NCHW"))
    y, which = on("maxpool", "forward", x, **options)
    for monotone in (lambda a: 4 * a, lambda a: a - 8, relu_chapter.forward, np.cbrt):
        bit_equal(on("maxpool", "forward", monotone(x), **options)[0], monotone(y), "pool(f(x)), f(pool(x))")
    bit_equal(on("maxpool", "forward", 4 * x, **options)[1], which, "winners of 4x")


@given(sizes=shapes(min_axes=2), seed=seeds, counter=st.tuples(*[st.integers(0, 99)] * 4), cut=st.floats(0, 1))
def test_a_mask_does_not_depend_on_the_split(on, sizes, seed, counter, cut):
    """Part of a batch, and a column's part of the features, draw what the whole would have drawn."""
    step, layer, sample, feature = counter
    x = normals(np.random.default_rng(seed), *shape(sizes, "NCHW"))
    N, F = len(x), prod(x.shape[1:])
    y = on("dropout", "forward", x, drop=0.5, key=KEY, counter=counter)
    n, f = round(cut * N), round(cut * F)
    later = on("dropout", "forward", x[n:], drop=0.5, key=KEY, counter=(step, layer, sample + n, feature))
    bit_equal(later, y[n:], "a later part of the batch")
    rows = x.reshape(N, F)[:, f:]
    right = on("dropout", "forward", rows, drop=0.5, key=KEY, counter=(step, layer, sample, feature + f))
    bit_equal(right, y.reshape(N, F)[:, f:], "a later column")


@given(sizes=distinct("NF"), counter=st.tuples(*[st.integers(0, 99)] * 4))
def test_a_mask_is_the_words_against_the_threshold(on, sizes, counter):
    x = np.ones((sizes["N"], sizes["F"]), np.float32)
    words = on("philox", "bits", *x.shape, key=KEY, counter=counter)
    kept = on("dropout", "forward", x, drop=0.25, key=KEY, counter=counter)
    np.testing.assert_array_equal(kept, words >= 2**30)


@pytest.mark.parametrize("op", ["lrn", "rnorm"])
@given(data=st.data(), seed=seeds)
def test_normalisation_without_alpha_divides_by_a_constant(on, op, data, seed):
    sizes, options = data.draw(case_of(op, "forward").geometry)
    x = normals(np.random.default_rng(seed), *shape(sizes, "NCHW"))
    options = {**options, "alpha": 0.0}
    y, scale = on(op, "forward", x, **options)
    y64 = x * np.float64(options["k"]) ** -options["beta"]
    within(y, y64, 15 * EPS * np.abs(y64), "x k^-beta")
    equal(scale, np.full_like(x, options["k"]), "k")


@given(sizes=distinct("NK"), seed=seeds, shift=st.integers(-1000, 1000))
def test_softmax_is_shift_invariant(on, sizes, seed, shift):
    """To the bit: whole numbers are shifted without rounding, and so is their distance from the largest."""
    rng = np.random.default_rng(seed)
    z, labels = whole(rng, *shape(sizes, "NK"), low=-9, high=10), rng.integers(0, sizes["K"], sizes["N"])
    loss, p = on("softmax_xent", "forward", z, labels)
    shifted_loss, shifted_p = on("softmax_xent", "forward", z + np.float32(shift), labels)
    bit_equal(shifted_loss, loss, "loss of shifted scores")
    bit_equal(shifted_p, p, "p of shifted scores")
    ones = np.ones((len(z), 1))
    within(p.sum(axis=1, keepdims=True, dtype=np.float64), ones, softmax_bound(z), "the sum of p")


# What a layer that reads all columns relies on.


@given(geometry=conv_geometry, more=st.integers(1, 6), seed=seeds)
def test_a_conv_over_concatenated_channels_is_the_sum_of_convs(two_columns, geometry, more, seed):
    sizes, options = geometry
    widths = (sizes["C"], more)
    rng = np.random.default_rng(seed)
    one, other = ({**sizes, "C": width} for width in widths)
    x = [whole(rng, *shape(part, "NCHW")) for part in (one, other)]
    w = [whole(rng, *shape(part, "KCRS")) for part in (one, other)]
    dy, b = whole(rng, *shape(sizes, "NKPQ")), whole(rng, sizes["K"])
    on = On(two_columns, column=1)

    x_all, w_all = (two_columns.concat([on.there(part) for part in parts]) for parts in (x, w))
    y = on.here(two_columns.conv2d.forward(x_all, w_all, on.there(b), **options))
    sums = [
        two_columns.conv2d.forward(on.there(x[i]), on.there(w[i]), on.there(b * (i == 0)), **options) for i in range(2)
    ]
    equal(y, on.here(two_columns.add(*sums)), "the sum of convs")

    dx, dw, _ = two_columns.conv2d.backward(on.there(dy), x_all, w_all, **options)
    for found, parts in ((dx, 0), (dw, 1)):
        for i, part in enumerate(two_columns.split(found, widths)):
            equal(on.here(part), on("conv2d", "backward", dy, x[i], w[i], **options)[parts], "a part's gradient")


@given(sizes=shapes(min_axes=2), more=st.integers(1, 6), seed=seeds)
def test_gathers_backward_is_its_adjoint(two_columns, sizes, more, seed):
    """<gather(a, b), d> = <a, da> + <b, db>, each gradient back where its column lives; and back is there."""
    rng = np.random.default_rng(seed)
    a, b = whole(rng, *shape(sizes, "NCHW")), whole(rng, *shape({**sizes, "C": more}, "NCHW"))
    d = whole(rng, *shape({**sizes, "C": sizes["C"] + more}, "NCHW"))
    first, second = two_columns.asarray(a, 0), two_columns.asarray(b, 1)
    gathered = two_columns.concat([first, two_columns.move(second, 0)])
    da, db = two_columns.split(two_columns.asarray(d, 0), (sizes["C"], more))
    db = two_columns.move(db, 1)
    y, da, db = map(two_columns.to_numpy, (gathered, da, two_columns.add(db, two_columns.asarray(0 * b, 1))))
    assert dot(y, d) == dot(a, da) + dot(b, db)
    bit_equal(y, np.concatenate([a, b], axis=1), "gathered")
