"""The chapters of refnet.ops compared with their mathematics, PyTorch and published numbers, in float64."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.errors import ArgumentError, ConfigError, ShapeError
from refnet.ops import (
    avgpool,
    conv2d,
    dropout,
    linear,
    lrn,
    maxpool,
    philox,
    relu,
    rnorm,
    sgd,
    softmax_xent,
    tanh,
)
from refnet.ops._rules import overhang, windows
from refnet.testing import agreement, gradients
from refnet.testing.cases import CASES, case_of

BACKWARD = [case for case in CASES if case.function == "backward"]
# What differences cannot see: NaN, the loss of float32's last digits, and the order of a sum. Tests of values do.
NOT_BY_DIFFERENCES = {
    ("relu", "no gradient where y is NaN"),
    ("tanh", "1 - y² computed as written, which cancels near ±1"),
    ("dropout", "a dropped NaN stays"),
    ("avgpool", "shares added column by column"),
}

# What a message says when a value is refused, and not the shape of an array.
OF_VALUES = re.compile(r"must be (finite|odd|at (least|most))|^(key|counter) is|cannot draw")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def torch():
    import torch

    return torch


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case.function == "forward"], ids=str)
@given(data=st.data())
def test_residuals_have_the_dtypes_that_the_chapter_says(case, data):
    problem = agreement.pose(case, data.draw(case.calls("normal")))
    results = agreement.reference(case, problem.call, problem.given, np.float32)
    residuals = {name: str(a.dtype) for name, a in zip(case.results[1:], results[1:], strict=True)}
    assert residuals == getattr(case.chapter, "RESIDUALS", {})


def test_every_backward_is_checked():
    assert [case for case in BACKWARD if not case.differentiable] == []


@pytest.mark.parametrize("case", BACKWARD, ids=str)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_gradients_by_central_differences(case, data, seed):
    rng = np.random.default_rng(seed)
    problem = case.differentiable(*data.draw(case.geometry), rng)
    gradients.check(problem, case.chapter.backward, rng)


@pytest.mark.parametrize(
    ("case", "mutant"),
    [
        pytest.param(case, mutant, id=f"{case}: {mutant}")
        for case in BACKWARD
        for mutant in case.mutants
        if (case.op, mutant) not in NOT_BY_DIFFERENCES
    ],
)
def test_mutants_are_rejected_by_differences(case, mutant, falsified):
    def check(geometry):
        rng = np.random.default_rng(0)
        gradients.check(case.differentiable(*geometry, rng), case.mutants[mutant], rng)

    assert "finite differences " in falsified(check, case.geometry)


def test_first_layer_does_without_dx(rng):
    dy, x, w = rng.random((2, 4, 3, 5)), rng.random((2, 3, 5, 7)), rng.random((4, 3, 3, 3))
    _, dw, db = conv2d.backward(dy, x, w, stride=1, pad=0)
    none, dw_alone, db_alone = conv2d.backward(dy, x, w, stride=1, pad=0, need_dx=False)
    assert none is None
    np.testing.assert_array_equal(dw_alone, dw)
    np.testing.assert_array_equal(db_alone, db)


@pytest.mark.parametrize("case", CASES, ids=str)
@given(data=st.data())
def test_shape_rules_foretell_the_results(case, data):
    problem = agreement.pose(case, data.draw(case.calls()))
    given = {name: value.shape if agreement.is_array(value) else value for name, value in problem.given.items()}
    found = tuple(None if result is None else result.shape for result in problem.expected)
    rule = getattr(case.chapter, f"{case.function}_shapes")
    assert rule(*case.arguments(given), **problem.call.options) == found[: len(found) - len(case.changes)]


@pytest.mark.parametrize("op", ["conv2d", "maxpool", "avgpool"])
@given(data=st.data())
def test_windows_are_those_drawn(op, data):
    """The strategies count windows from the output's side, so this is the rule against another derivation."""
    sizes, options = data.draw(case_of(op, "forward").geometry)
    for length, window, count in (("H", "R", "P"), ("W", "S", "Q")):
        pad, stride, ceil = options.get("pad", 0), options["stride"], options["ceil"]
        assert windows(op, sizes[length], sizes[window], stride, pad, ceil) == sizes[count]


@pytest.mark.parametrize("ceil", [False, True])
@given(st.integers(1, 12), st.integers(1, 7), st.integers(1, 7), st.integers(0, 3))
def test_windows_by_counting(ceil, size, window, stride, pad):
    """A window counts if it fits; under ceil also while pixels are left that no window has reached, if it starts
    before the image ends."""
    padded = size + 2 * pad
    starts = range(0, padded, stride)
    fits = [start for start in starts if start + window <= padded]
    reached = [start for start in starts if start == 0 or start - stride + window < padded]
    counted = [start for start in reached if start < pad + size] if ceil else fits
    if not counted or (ceil and window - padded >= stride):
        with pytest.raises(ShapeError, match="does not fit"):
            windows("conv2d", size, window, stride, pad, ceil)
    else:
        count = windows("conv2d", size, window, stride, pad, ceil)
        assert count == len(counted)
        reach = (count - 1) * stride + window
        assert overhang(size, window, stride, pad, count) == max(0, reach - padded)


def test_sizes_of_the_paper():
    assert windows("conv2d", 224, 11, 4, 0, ceil=True) == 55
    assert windows("conv2d", 227, 11, 4, 0, ceil=False) == 55
    assert windows("conv2d", 224, 11, 4, 0, ceil=False) == 54
    assert overhang(224, 11, 4, 0, 55) == 3
    for ceil in (False, True):
        assert [windows("maxpool", size, 3, 2, 0, ceil) for size in (55, 27, 13)] == [27, 13, 6]
    assert [windows("maxpool", size, 3, 2, 0, ceil=True) for size in (32, 16, 8)] == [16, 8, 4]
    assert [windows("maxpool", size, 3, 2, 0, ceil=False) for size in (32, 15, 7)] == [15, 7, 3]


@pytest.mark.parametrize(("case", "message"), [pytest.param(c, m, id=f"{c}: {m}") for c in CASES for m in c.refusals])
def test_rules_refuse(case, message):
    rule = getattr(case.chapter, f"{case.function}_shapes")
    with pytest.raises(ArgumentError if OF_VALUES.search(message) else ShapeError) as caught:
        rule(**case.refusals[message])
    assert message in str(caught.value)
    assert isinstance(caught.value, ConfigError)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("function", [softmax_xent.forward_values, softmax_xent.backward_values])
@pytest.mark.parametrize("label", [-1, 4])
def test_labels_out_of_range(function, label):
    function(np.zeros((3, 4)), np.array([0, 3, 1]))
    with pytest.raises(ArgumentError, match=rf"labels\[1\] is {label}, it must be at least 0 and below 4"):
        function(np.zeros((3, 4)), np.array([0, label, 9]))


@given(data=st.data())
def test_conv2d_against_torch(data, torch):
    F = torch.nn.functional
    sizes, options = data.draw(case_of("conv2d", "forward").geometry)
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal([sizes[i] for i in letters]) for letters in ("NCHW", "KCRS", "K"))
    stride, pad = options["stride"], options["pad"]
    bottom, right = (
        pad + overhang(sizes[length], sizes[window], stride, pad, sizes[count])
        for length, window, count in ("HRP", "WSQ")
    )
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    ty = F.conv2d(F.pad(tx, (pad, right, pad, bottom)), tw, tb, stride=stride)
    dy = rng.standard_normal(ty.shape)
    ty.backward(torch.tensor(dy))
    assert_close(conv2d.forward(x, w, b, **options), ty.detach())
    for found, tensor in zip(conv2d.backward(dy, x, w, **options), (tx, tw, tb), strict=True):
        assert_close(found, tensor.grad)


@pytest.mark.parametrize("kind", ["normal", "integers"])
@given(data=st.data())
def test_maxpool_against_torch(kind, data, torch):
    """Values and gradients, ties included: PyTorch's first maximum is ours."""
    case = case_of("maxpool", "forward")
    problem = agreement.pose(case, data.draw(case.calls(kind)))
    x, options = problem.given["x"].astype(np.float64), problem.call.options
    size, stride, ceil = options["size"], options["stride"], options["ceil"]
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.nn.functional.max_pool2d(tx, size, stride, ceil_mode=ceil)
    y, which = maxpool.forward(x, **options)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    ty.backward(torch.tensor(dy))
    assert_close(y, ty.detach())
    assert_close(maxpool.backward(dy, which, x_shape=x.shape, **options), tx.grad)


def test_maxpool_of_one_nan_against_torch(torch, rng):
    x = rng.standard_normal((2, 3, 7, 9))
    x[1, 2, 4, 4] = np.nan
    ty = torch.nn.functional.max_pool2d(torch.tensor(x), 3, 2)
    np.testing.assert_array_equal(maxpool.forward(x, size=3, stride=2)[0], ty)


@given(data=st.data())
def test_avgpool_against_torch(data, torch):
    """Values and gradients, clipped windows included: PyTorch divides by the pixels inside, too."""
    case = case_of("avgpool", "forward")
    problem = agreement.pose(case, data.draw(case.calls("normal")))
    x, options = problem.given["x"].astype(np.float64), problem.call.options
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.nn.functional.avg_pool2d(tx, options["size"], options["stride"], ceil_mode=options["ceil"])
    y = avgpool.forward(x, **options)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    ty.backward(torch.tensor(dy))
    assert_close(y, ty.detach())
    assert_close(avgpool.backward(dy, x_shape=x.shape, **options), tx.grad)


@given(data=st.data())
def test_rnorm_against_torch(data, torch):
    """PyTorch has no such layer; it adds the squares as a convolution with ones, and derives the gradient."""
    sizes, options = data.draw(case_of("rnorm", "backward").geometry)
    rng = np.random.default_rng(3)
    x = rng.standard_normal([sizes[i] for i in "NCHW"])
    tx = torch.tensor(x, requires_grad=True)
    n, ones = options["n"], torch.ones(x.shape[1], 1, options["n"], options["n"], dtype=torch.float64)
    squares = torch.nn.functional.conv2d(tx**2, ones, padding=n // 2, groups=x.shape[1])
    ty = tx * (options["k"] + options["alpha"] * squares) ** -options["beta"]
    dy = rng.standard_normal(x.shape)
    ty.backward(torch.tensor(dy))
    y, scale = rnorm.forward(x, **options)
    assert_close(y, ty.detach())
    assert_close(rnorm.backward(dy, x, y, scale, **options), tx.grad)


@given(data=st.data())
def test_lrn_against_torch(data, torch):
    sizes, options = data.draw(case_of("lrn", "backward").geometry)
    rng = np.random.default_rng(3)
    x = rng.standard_normal([sizes[i] for i in "NCHW"])
    tx = torch.tensor(x, requires_grad=True)
    n, alpha = options["n"], options["alpha"]
    ty = torch.nn.functional.local_response_norm(tx, n, alpha * n, options["beta"], options["k"])
    dy = rng.standard_normal(x.shape)
    ty.backward(torch.tensor(dy))
    y, scale = lrn.forward(x, **options)
    assert_close(y, ty.detach())
    assert_close(lrn.backward(dy, x, y, scale, **options), tx.grad)


def test_linear_against_torch(torch, rng):
    x, w, b = rng.standard_normal((3, 2, 4, 5)), rng.standard_normal((7, 40)), rng.standard_normal(7)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    ty = torch.nn.functional.linear(tx.flatten(1), tw, tb)
    dy = rng.standard_normal((3, 7))
    ty.backward(torch.tensor(dy))
    assert_close(linear.forward(x, w, b), ty.detach())
    for found, tensor in zip(linear.backward(dy, x, w), (tx, tw, tb), strict=True):
        assert_close(found, tensor.grad)


@pytest.mark.parametrize("spread", [1, 30, 1000])
def test_softmax_xent_against_torch(spread, torch, rng):
    z, labels = spread * rng.standard_normal((11, 7)), rng.integers(0, 7, 11)
    tz = torch.tensor(z, requires_grad=True)
    tloss = torch.nn.functional.cross_entropy(tz, torch.tensor(labels))
    tloss.backward()
    loss, p = softmax_xent.forward(z, labels)
    assert_close(loss, tloss.detach())
    assert_close(p, torch.softmax(tz, 1).detach())
    assert_close(softmax_xent.backward(p, labels), tz.grad)


@pytest.mark.parametrize("chapter", [relu, tanh])
def test_units_against_torch(chapter, torch, rng):
    x, dy = 2 * rng.standard_normal((2, 100))
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.relu(tx) if chapter is relu else torch.tanh(tx)
    ty.backward(torch.tensor(dy))
    y = chapter.forward(x)
    assert_close(y, ty.detach())
    assert_close(chapter.backward(dy, y), tx.grad)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, words):
    c0, c1, c2, c3 = counter = [int(word, 16) for word in counter.split()]
    key = tuple(int(word, 16) for word in key.split())
    words = [int(word, 16) for word in words.split()]
    assert [int(word[0]) for word in philox.block(*np.array(counter, np.uint32)[:, None], key)] == words
    # The same block as refnet counts: feature 4 c0 of sample c1, layer c2 and step c3.
    assert philox.bits(1, 4, key=key, counter=(c3, c2, c1, 4 * c0)).tolist() == [words]


def test_philox_counts_modulo_two_to_the_32():
    """Samples and steps wrap at 2^32; four features share a block, so features wrap at 2^34."""
    around = philox.bits(4, 12, key=(7, 1), counter=(2**32, 0, 2**32 - 2, 2**34 - 4))
    words = philox.bits(4, 12, key=(7, 1), counter=(0, 0, 0, 0))
    np.testing.assert_array_equal(around[2:, 4:], words[:2, :8])


def test_philox_may_draw_nothing():
    assert philox.bits(0, 3, key=(1, 2), counter=(0, 0, 0, 1)).shape == (0, 3)
    assert philox.bits(3, 0, key=(1, 2), counter=(0, 0, 0, 1)).shape == (3, 0)


@pytest.mark.parametrize("drop", [0.5, 0.1, 0.9])
def test_dropout_keeps_its_share(drop):
    """Over a million units the share stays within five standard deviations, and its mean is what is expected."""
    x = np.ones((1000, 1000), np.float32)
    y = dropout.forward(x, drop=drop, key=(3, 2), counter=(0, 0, 0, 0))
    assert set(np.unique(y)) == {0, 1}
    assert abs(y.mean() - (1 - drop)) < 5 * np.sqrt(drop * (1 - drop) / x.size)
    np.testing.assert_array_equal(dropout.expected(x, drop=drop), np.full_like(x, 1 - drop))


def test_dropout_turns_a_dropped_nan_into_zero():
    y = dropout.forward(np.full((1, 100), np.nan), drop=0.5, key=(3, 2), counter=(0, 0, 0, 0))
    assert {0.0} == set(y[~np.isnan(y)])


def test_dropout_of_nothing():
    x = np.random.default_rng(0).standard_normal((3, 50))
    np.testing.assert_array_equal(dropout.forward(x, drop=0.0, key=(3, 2), counter=(0, 0, 0, 0)), x)


def test_sgd_by_hand():
    w, v, g = np.array([1.0, -2.0]), np.array([0.5, 0.0]), np.array([4.0, 1.0])
    sgd.step_(w, v, g, lr=0.1, momentum=0.9, weight_decay=0.5)
    assert_close(v, [0.9 * 0.5 - 0.5 * 0.1 * 1 - 0.1 * 4, 0 + 0.5 * 0.1 * 2 - 0.1])
    assert_close(w, [1 + v[0], -2 + v[1]])


def test_loss_stays_finite_where_p_is_zero():
    z = np.array([[0, 1000, 0]], np.float32)
    loss, p = softmax_xent.forward(z, np.array([0]))
    assert p[0, 0] == 0
    assert loss == 1000


def test_loss_of_no_knowledge():
    loss, p = softmax_xent.forward(np.zeros((5, 10)), np.arange(5))
    assert_close(loss, np.log(10))
    assert_close(p, 0.1)


def test_relu_lets_nan_through():
    x = np.array([-1, -0.0, 0, 2, np.nan, -np.inf, np.inf])
    y = relu.forward(x)
    np.testing.assert_array_equal(y, [0, 0, 0, 2, np.nan, 0, np.inf])
    assert not np.signbit(y[:3]).any()
    np.testing.assert_array_equal(relu.backward(np.full(7, 3.0), y), [0, 0, 0, 3, 3, 0, 3])
    np.testing.assert_array_equal(relu.backward(np.full(7, np.nan), y)[3:5], [np.nan, np.nan])


def test_tanh_backward_keeps_its_last_digits():
    y = np.float32(1) - np.arange(1, 9, dtype=np.float32) * np.float32(2**-20)
    exact = (1 - y.astype(np.float64)) * (1 + y.astype(np.float64))
    np.testing.assert_allclose(tanh.backward(np.ones_like(y), y), exact, rtol=2.0**-22)


def test_maxpool_chooses_the_first():
    x = np.array([[[[1, 5, 5], [5, 5, 5], [0, np.nan, np.nan]]]])
    y, which = maxpool.forward(x, size=2, stride=1)
    np.testing.assert_array_equal(y[0, 0], [[5, 5], [np.nan, np.nan]])
    np.testing.assert_array_equal(which[0, 0], [[1, 0], [3, 2]])
    assert which.dtype == np.uint8


def test_avgpool_divides_by_the_pixels_inside():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    y = avgpool.forward(x, size=3, stride=2, ceil=True)
    np.testing.assert_array_equal(y[0, 0], [[5, 6.5], [11, 12.5]])  # of 9, 6, 6 and 4 pixels
    dx = avgpool.backward(np.full_like(y, 36), x_shape=x.shape, size=3, stride=2, ceil=True)
    np.testing.assert_array_equal(dx[0, 0], [[4, 4, 10, 6], [4, 4, 10, 6], [10, 10, 25, 15], [6, 6, 15, 9]])


def test_rnorm_reads_a_square_of_one_map():
    x = np.zeros((1, 2, 5, 5))
    x[0, 0, 1, 3] = 2
    _, scale = rnorm.forward(x, n=3, k=1.0, alpha=0.5, beta=0.75)
    np.testing.assert_array_equal(scale[0, 1], 1)
    np.testing.assert_array_equal(scale[0, 0, :3, 2:], 3)  # 1 + 0.5 * 2²
    assert (scale != 1).sum() == 9


def test_maxpool_never_chooses_beyond_the_edge():
    x = np.full((1, 1, 3, 3), -np.inf)
    y, which = maxpool.forward(x, size=2, stride=2, ceil=True)
    np.testing.assert_array_equal(y, np.full((1, 1, 2, 2), -np.inf))
    np.testing.assert_array_equal(which, np.zeros((1, 1, 2, 2)))
