"""The test protocol: ten crops by hand, ties, ensembles and their weights, confusions, and networks that differ."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet import backend as backends
from refnet.data.crops import centre, ten
from refnet.data.dataset import ArraySplit
from refnet.data.opening import open_dataset
from refnet.data.parallel import Reading
from refnet.errors import CheckpointError, ConfigError, NumericError
from refnet.evaluation import protocol
from refnet.evaluation.labelled import matched
from refnet.evaluation.protocol import PROTOCOLS, Tally, blend, classify, evaluate, likeliest, search
from refnet.evaluation.score import score
from refnet.evaluation.trained import Trained, check_members, open_trained
from refnet.nets import Net, NetSpec
from refnet.network import passes
from refnet.network.plan import linear, relu
from refnet.runs import generations
from refnet.runs.checkpoint import Checkpoint

SIDE, CROP, CLASSES = 4, (2, 3), 3
READING = Reading(threads=1)


@pytest.fixture
def trained_of(checkpoint_of):
    """Give a function that makes a network of two fully connected layers on images of 4x4x2, crops of 2x3."""

    def make(seed=0, *, flip=True, scale=0.05, where="net", columns=1):
        layers = (
            linear("fc1", 6, sigma=1, bias=0),
            relu("relu1"),
            linear("fc2", CLASSES, sigma=1, bias=0, columns="one"),
        )
        net = Net("tiny", (2, *CROP), SIDE, layers, ("default",), {}, data=None, flip=flip)
        plan, backend = net.plan(columns), backends.load("numpy", columns=columns)
        rng = np.random.default_rng(seed)
        params = {name: (scale * rng.normal(size=s)).astype(np.float32) for name, s in plan.param_shapes().items()}
        mean = rng.uniform(0, 255, (SIDE, SIDE, 2)).astype(np.float32)
        facts = checkpoint_of().facts
        data = replace(facts.data, image_shape=(SIDE, SIDE, 2))
        facts = replace(facts, classes=("a", "b", "c"), data=data)
        placed = passes.place_params(plan, params, backend)
        return Trained(where, facts, net, plan, placed, backend.asarray(mean), backend)

    return make


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (7, SIDE, SIDE, 2), dtype=np.uint8)


@pytest.fixture
def split(images):
    return ArraySplit(np.array([0, 1, 2, 0, 1, 2, 2]), images)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def by_hand(trained, image, windows):
    """Cut, subtract, mirror and multiply in float64, one image and one window at a time."""
    p = []
    host = {name: np.asarray(a, np.float64) for name, a in trained.params.items()}
    for row, column, mirrored in windows:
        here = np.s_[row : row + CROP[0], column : column + CROP[1]]
        x = image[here] - np.asarray(trained.mean, np.float64)[here]
        x = (x[:, ::-1] if mirrored else x).transpose(2, 0, 1).ravel()
        hidden = np.maximum(host["fc1@0.w"] @ x + host["fc1@0.b"], 0)
        p.append(softmax(host["fc2@0.w"] @ hidden + host["fc2@0.b"]))
    return np.mean(p, axis=0)


CORNERS = [(0, 0), (0, 1), (2, 0), (2, 1)]  # of 2x3 in 4x4
UPRIGHT = [(*at, False) for at in [(1, 0), *CORNERS]]
ALL = UPRIGHT + [(row, column, True) for row, column, _ in UPRIGHT]

# Views


def test_the_ten_views():
    views = ten(3, (256, 256, 3), (224, 224))
    found = [(*draws.offsets[2].tolist(), int(draws.flips[2])) for draws in views]
    upright = [(16, 16), (0, 0), (0, 32), (32, 0), (32, 32)]
    assert found == [(*at, flip) for flip in (0, 1) for at in upright]
    for drawn, expected in zip(views[0], centre(3, (256, 256, 3), (224, 224)), strict=True):
        np.testing.assert_array_equal(drawn, expected)
    assert all(draws.shifts.shape == (3, 3) and not draws.shifts.any() for draws in views)


def test_a_crop_as_large_as_the_image_has_one_place():
    assert {tuple(draws.offsets[0]) for draws in ten(1, (5, 5, 1), (5, 5))} == {(0, 0)}


def test_a_crop_larger_than_the_image():
    with pytest.raises(ConfigError, match="a crop of 6x5 does not fit in images of 5x5"):
        ten(1, (5, 5, 1), (6, 5))


def test_one_crop_and_ten_by_hand(trained_of, images):
    trained = trained_of()
    found = classify(trained, images)
    for n, image in enumerate(images):
        np.testing.assert_allclose(found["centre"][n], by_hand(trained, image, UPRIGHT[:1]), rtol=1e-4)
        np.testing.assert_allclose(found["ten"][n], by_hand(trained, image, ALL), rtol=1e-4)


@pytest.mark.parametrize("mutant", [ALL[:-1], UPRIGHT * 2, [(0, 0, False), *ALL[1:]]])
def test_the_comparison_sees_other_views(trained_of, images, mutant):
    trained = trained_of()
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(classify(trained, images)["ten"][0], by_hand(trained, images[0], mutant), rtol=1e-4)


def test_the_mean_is_of_probabilities_and_not_of_scores(trained_of, images):
    trained = trained_of()
    views = trained.classify(images, ten(len(images), trained.image_shape, CROP))
    scores = np.exp(np.mean(np.log(np.maximum(views, 1e-30)), axis=0))
    scores /= scores.sum(axis=1, keepdims=True)
    assert np.abs(classify(trained, images)["ten"] - scores).max() > 0.01


def test_where_a_mirror_image_is_something_else_there_are_five(trained_of, images):
    trained = trained_of(flip=False)
    np.testing.assert_allclose(classify(trained, images)["ten"][0], by_hand(trained, images[0], UPRIGHT), rtol=1e-4)


def test_any_batch(trained_of, split):
    whole = evaluate([trained_of()], split, batch=7, reading=READING)
    for batch in (1, 3, 100):
        parts = evaluate([trained_of()], split, batch=batch, reading=READING)
        for name in PROTOCOLS:
            assert parts.together[name].top1_error == pytest.approx(whole.together[name].top1_error)
            np.testing.assert_allclose(parts.together[name].confusion, whole.together[name].confusion)


def test_one_crop_is_what_training_reports(trained_of, split):
    trained = trained_of()
    mean = trained.backend.to_numpy(trained.mean)
    reported = score(trained.plan, trained.params, split, mean, trained.backend, batch=4, reading=READING)
    found = evaluate([trained], split, batch=4, reading=READING).members[0]["centre"]
    assert (found.top1_error, found.top5_error) == (reported.top1_error, reported.top5_error)


def test_progress_is_told(trained_of, split):
    told = []
    evaluate([trained_of()], split, batch=3, reading=READING, advance=told.append)
    assert told == [3, 6, 7]


def test_a_probability_that_is_not_finite(trained_of, images):
    trained = trained_of()
    trained.params["fc2@0.b"] = np.full(CLASSES, np.nan, np.float32)
    with pytest.raises(NumericError, match="net: a probability is NaN"):
        classify(trained, images)


# Tally


def test_ties_share_an_image():
    tally = Tally(3, 4)
    tally.add(np.array([[0.4, 0.4, 0.1, 0.1], [0.1, 0.2, 0.7, 0.0], [0.25] * 4]), np.array([0, 0, 2]))
    assert tally.count == 3
    assert tally.top1_error == pytest.approx((1 / 2 + 1 + 3 / 4) / 3)
    assert tally.top5_error == 0
    np.testing.assert_allclose(tally.confusion, [[0.5, 0.5, 1, 0], [0, 0, 0, 0], [0.25] * 4])
    np.testing.assert_allclose(tally.class_errors, [3 / 4, np.nan, 3 / 4])


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(2, 9))
def test_confusion_and_error_agree(seed, count, outputs):
    rng = np.random.default_rng(seed)
    p = rng.integers(0, 4, (count, outputs)) / 4.0  # many ties
    labels = rng.integers(0, outputs, count)
    tally = Tally(outputs, outputs)
    tally.add(p, labels)
    assert tally.confusion.sum() == pytest.approx(count)
    assert 1 - np.trace(tally.confusion) / count == pytest.approx(tally.top1_error)


# Ensembles


def test_the_mean_of_several_by_hand(trained_of, images, split):
    members = [trained_of(seed) for seed in range(3)]
    expected = np.mean([classify(each, images)["ten"] for each in members], axis=0)
    tally = Tally(CLASSES, CLASSES)
    tally.add(expected, split.labels)
    found = evaluate(members, split, batch=3, reading=READING)
    np.testing.assert_allclose(found.together["ten"].confusion, tally.confusion)
    for each, tallies in zip(members, found.members, strict=True):
        alone = evaluate([each], split, batch=3, reading=READING).together["ten"]
        np.testing.assert_allclose(tallies["ten"].confusion, alone.confusion)


def test_weights_by_hand():
    a, b = np.array([[0.8, 0.2]]), np.array([[0.1, 0.9]])
    np.testing.assert_allclose(blend([a, b], [0.75, 0.25]), [[0.625, 0.375]])


def test_weights_decide(trained_of, split):
    members = [trained_of(seed) for seed in (0, 1)]
    for number, weights in enumerate(([1, 0], [0, 1])):
        found = evaluate(members, split, batch=7, reading=READING, weights=dict.fromkeys(PROTOCOLS, weights))
        np.testing.assert_allclose(found.together["ten"].confusion, found.members[number]["ten"].confusion)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 30))
def test_no_other_weights_are_likelier(seed, members, count):
    rng = np.random.default_rng(seed)
    truths = rng.uniform(0.01, 1, (members, count))
    found = likeliest(truths)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    reached = np.log(found @ truths).mean()
    for other in (*np.eye(members), *rng.dirichlet(np.ones(members), 20)):
        assert np.log(other @ truths).mean() <= reached + 1e-3


def test_likeliest_by_hand():
    np.testing.assert_allclose(likeliest(np.array([[1.0, 1, 0], [0, 0, 1]])), [2 / 3, 1 / 3])
    np.testing.assert_allclose(likeliest(np.array([[0.9, 0.8], [0.1, 0.2]])), [1, 0], atol=1e-3)
    np.testing.assert_allclose(likeliest(np.zeros((2, 3))), [1 / 2, 1 / 2])  # nothing is known


def test_the_search_finds_the_better_network(trained_of, images):
    good, bad = trained_of(0, scale=0.01), trained_of(5, scale=0.01)
    labels = classify(good, images)["ten"].argmax(axis=1)
    labels[0] = classify(bad, images)["ten"][0].argmax()
    found = search([good, bad], ArraySplit(labels, images), batch=2, reading=READING)
    assert set(found) == set(PROTOCOLS)
    assert found["ten"][0] > 0.6
    truths = np.stack([classify(each, images)["ten"][np.arange(7), labels] for each in (good, bad)])
    np.testing.assert_allclose(found["ten"], likeliest(truths))


# Networks that do not fit


def test_members_must_fit_one_another(trained_of):
    first, other = trained_of(), trained_of(where="other")
    check_members([first, other])

    def refused(match, **changes):
        with pytest.raises(CheckpointError, match=match):
            check_members([first, replace(other, **changes)])

    facts = other.facts
    refused("other does not fit net: it has 2 classes, not 3", facts=replace(facts, classes=("a", "b")))
    refused(r"its class 1 is \\x1b, not b", facts=replace(facts, classes=("a", "\x1b", "c")))
    refused(
        "it takes images of 5x5x1, not of 4x4x2", facts=replace(facts, data=replace(facts.data, image_shape=(5, 5, 1)))
    )
    refused(
        "it has 6 outputs, not 3", net=replace(other.net, layers=(*other.net.layers, linear("x", 6, sigma=1, bias=0)))
    )


def test_data_must_have_the_shape_that_the_network_takes(trained_of):
    dataset = open_dataset("digits", image_size=10, channels=1)
    with pytest.raises(CheckpointError, match="it takes images of 4x4x2, these are 10x10x1"):
        matched(trained_of(), dataset)


# Checkpoints


@pytest.mark.parametrize("name", ["numpy", "numba", "loopback"])
@pytest.mark.parametrize("columns", [1, 2])
def test_every_backend_says_the_same(checkpoint_of, tmp_path, name, columns):
    saved = checkpoint_of(spec=NetSpec("digits", columns=columns))
    params = {key: 0.05 * a for key, a in saved.params.items()}
    (tmp_path / "checkpoints").mkdir()
    generations.save(tmp_path, Checkpoint(saved.facts, params, saved.velocities, saved.mean))
    dataset = open_dataset("digits", image_size=10, channels=1)
    images = dataset.test.images(np.arange(5))
    expected, found = (open_trained(tmp_path, each) for each in ("numpy", name))
    np.testing.assert_allclose(classify(found, images)["ten"], classify(expected, images)["ten"], rtol=1e-3, atol=1e-6)
    features = found.features(images, centre(5, (10, 10, 1), (8, 8)))
    assert features.dtype == np.float32
    assert features.shape == (5, 128)
    np.testing.assert_allclose(
        features, expected.features(images, centre(5, (10, 10, 1), (8, 8))), rtol=1e-3, atol=1e-4
    )


def test_the_last_hidden_layer_by_hand(trained_of, images):
    trained = trained_of()
    found = trained.features(images, centre(len(images), trained.image_shape, CROP))
    w, b = (np.asarray(trained.params[f"fc1@0.{letter}"], np.float64) for letter in "wb")
    mean = np.asarray(trained.mean, np.float64)
    for n, image in enumerate(images):
        x = (image - mean)[1:3, 0:3].transpose(2, 0, 1).ravel()
        np.testing.assert_allclose(found[n], np.maximum(w @ x + b, 0), rtol=1e-4, atol=1e-4)


def test_an_output_without_a_class_has_a_name(trained_of):
    trained = trained_of()
    assert trained.called(1) == "b"
    assert trained.called(3) == "(no class: output 3)"


def test_protocols_are_the_first_views():
    assert protocol.PROTOCOLS == {"centre": 1, "ten": 10}
