"""A network rejects arguments that do not fit; and twenty steps of training agree between backends."""

import numpy as np
import pytest
from networks import SEED, ZERO, BackwardsOrder, assert_losses_agree, each_backend, sgd, some_params, train

from refnet import backend as backends
from refnet import nets
from refnet.backend.reference import NumpyBackend
from refnet.errors import ShapeError
from refnet.network import passes
from refnet.network.initial import initialise
from refnet.network.plan import conv, linear, split

pytestmark = pytest.mark.usefixtures("one_thread")  # most arrays here are small


@each_backend
class TestDoor:
    @pytest.mark.parametrize("door", ["place_params", "forward"])
    @pytest.mark.parametrize(
        ("key", "shape", "said"),
        [
            ("conv2@1.w", None, r"conv2@1\.w \(32, 16, 3, 3\) is missing"),
            ("fc6@0.b", None, r"fc6@0\.b \(10,\) is missing"),
            ("conv3@0.w", (32, 32, 3, 3), r"conv3@0\.w must have shape \(32, 64, 3, 3\), it has \(32, 32, 3, 3\)"),
            ("fc5@1.b", (64, 1), r"fc5@1\.b must have shape \(64,\), it has \(64, 1\)"),
            ("fc6@1.w", (10, 128), r"fc6@1\.w belongs to no layer"),
            ("conv1.w", (32, 1, 3, 3), r"conv1\.w belongs to no layer"),
        ],
    )
    def test_parameters_are_named(self, example, name, door, key, shape, said):
        loaded = backends.load(name, columns=2)
        images = passes.place(example.plan, example.images, loaded)
        host = dict(example.host)
        host.pop(key, None)
        if shape is not None:
            host[key] = np.zeros(shape)
        params = {each: loaded.asarray(a) for each, a in host.items()}
        enter = {
            "place_params": lambda: passes.place_params(example.plan, host, loaded),
            "forward": lambda: passes.forward(example.plan, params, images, loaded),
        }
        with pytest.raises(ShapeError, match=said) as caught:
            enter[door]()
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("shapes", "said"),
        [
            ([(5, 1, 8, 8)], "2 columns, not 1"),
            ([(5, 1, 8, 8)] * 3, "2 columns, not 3"),
            ([], "2 columns, not 0"),
            ([(5, 1, 8, 8), (5, 1, 8, 9)], r"column 1 must .*1, 8, 8.* they \w+ \(5, 1, 8, 9\)"),
            ([(5, 3, 8, 8)] * 2, r"column 0 must .*1, 8, 8.* they \w+ \(5, 3, 8, 8\)"),
            ([(1, 8, 8)] * 2, r"column 0 must .*1, 8, 8.* they \w+ \(1, 8, 8\)"),
            ([(5, 64)] * 2, r"column 0 must .*1, 8, 8.* they \w+ \(5, 64\)"),
        ],
    )
    def test_images_are_named(self, example, name, shapes, said):
        loaded = backends.load(name, columns=2)
        params = passes.place_params(example.plan, example.host, loaded)
        images = [loaded.asarray(np.zeros(shape), min(column, 1)) for column, shape in enumerate(shapes)]
        with pytest.raises(ShapeError, match=said):
            passes.forward(example.plan, params, images, loaded)

    def test_columns_that_got_different_batches(self, example, name):
        loaded = backends.load(name, columns=2)
        params = passes.place_params(example.plan, example.host, loaded)
        images = [loaded.asarray(np.zeros((5 + column, 1, 8, 8)), column) for column in (0, 1)]
        with pytest.raises(ShapeError, match="column 1"):
            passes.forward(example.plan, params, images, loaded)

    def test_what_is_placed_is_a_copy_in_its_column(self, example, name):
        loaded = backends.load(name, columns=2)
        params = passes.place_params(example.plan, example.host, loaded)
        images = passes.place(example.plan, example.images, loaded)
        assert len(images) == 2
        if name == "loopback":
            assert [a._column for a in images] == [0, 1]
            assert all(a._column == int(key[-3]) for key, a in params.items())
        before = {key: a.copy() for key, a in example.host.items()}
        sgd(params, passes.place_params(example.plan, example.host, loaded), params, loaded)
        assert all(np.array_equal(a, example.host[key]) for key, a in before.items())


class TestTraining:
    STEPS = 20

    @pytest.fixture
    def runs(self):
        net = nets.get("digits")
        plan = net.plan(2)
        host = initialise(plan, SEED)
        numbers = np.random.default_rng(1)
        images = numbers.integers(0, 17, (16, 1, 8, 8)).astype(np.float32) - np.float32(8)
        labels = numbers.integers(0, 10, 16)
        return lambda backend, seed=SEED: train(plan, host, images, labels, backend, count=self.STEPS, seed=seed)

    def test_twenty_steps_on_loopback_have_the_bits_of_numpy(self, runs):
        losses, params = runs(backends.load("numpy", columns=2))
        others, other_params = runs(backends.load("loopback", columns=2))
        assert losses.dtype == np.float32
        assert losses.tobytes() == others.tobytes()
        assert {key: a.tobytes() for key, a in params.items()} == {key: a.tobytes() for key, a in other_params.items()}
        assert losses[-5:].mean() < 0.85 * losses[:5].mean()
        another, _ = runs(backends.load("numpy", columns=2), seed=SEED + 1)
        assert losses.tobytes() != another.tobytes()

    def test_the_law_of_the_losses(self, runs):
        reference, _ = runs(NumpyBackend(2))
        other_order, _ = runs(BackwardsOrder(2))
        assert 0 < np.abs(other_order - reference).max() < 1e-2
        assert_losses_agree(runs(backends.load("loopback", columns=2))[0], reference, other_order)
        with pytest.raises(AssertionError, match="step 0"):
            assert_losses_agree(runs(NumpyBackend(2), seed=SEED + 1)[0], reference, other_order)

    @each_backend
    def test_a_checked_backend_has_nothing_to_object_to(self, runs, name):
        losses, _ = runs(backends.load(name, columns=2))
        checked, _ = runs(backends.load(name, columns=2, checked=True))
        assert losses.tobytes() == checked.tobytes()


class TestMisuse:
    """A caller's mistakes are reported before anything is computed."""

    def loaded(self, layers, columns=2, backend_columns=2):
        plan = split(layers, columns, (2, 5, 5))
        backend = backends.load("loopback", columns=backend_columns)
        params = passes.place_params(plan, some_params(plan), backend)
        return plan, params, passes.place(plan, np.zeros((3, 2, 5, 5)), backend), backend

    def test_a_last_layer_that_is_split(self):
        layers = (conv("a", 4, 3, **ZERO), linear("z", 4, reads="own", **ZERO))
        with pytest.raises(ShapeError, match="the last layer, z, is split; it must be in one column"):
            passes.forward(*self.loaded(layers))

    def test_a_backend_of_fewer_columns(self):
        layers = (conv("a", 4, 3, **ZERO), linear("z", 4, columns="one", **ZERO))
        with pytest.raises(ShapeError, match="the network has 2 columns, backend loopback was loaded for 1"):
            passes.forward(*self.loaded(layers, backend_columns=1))

    @pytest.mark.parametrize("record", [True, False])
    def test_a_tape_that_is_empty(self, record):
        plan, params, images, backend = self.loaded((linear("z", 4, columns="one", **ZERO),))
        tape = passes.forward(plan, params, images, backend, record=record)
        dy = backend.asarray(np.ones((3, 4)))
        if record:
            passes.backward(tape, dy)
        with pytest.raises(ValueError, match="the tape is empty"):
            passes.backward(tape, dy)

    def test_a_network_of_nothing(self):
        with pytest.raises(ShapeError, match="at least one layer"):
            split((), 1, (2, 5, 5))
