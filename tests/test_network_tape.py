"""What a pass keeps and for how long, what it records, and that it does not change its arguments."""

import pytest
from networks import LABELS, SEED, STEP, ZERO, Watch, each_backend, some_params, whole_numbers

from refnet import backend as backends
from refnet.network import passes
from refnet.network.layers import RandomKey
from refnet.network.plan import conv, crossings, dropout, linear, maxpool, split

pytestmark = pytest.mark.usefixtures("one_thread")  # most arrays here are small


@each_backend
class TestTape:
    def forward(self, example, name, watch=None, **options):
        loaded = backends.load(name, columns=2)
        watch = Watch(loaded) if watch is None else watch(loaded)
        params = passes.place_params(example.plan, example.host, loaded)
        images = passes.place(example.plan, example.images, loaded)
        return watch, params, passes.forward(example.plan, params, images, watch, **options)

    def test_without_a_record_only_the_output_lives(self, example, name):
        """And while it runs, no more than what is still to be read: each column's latest and a gather."""
        most = []

        def watching(loaded):
            watch = Watch(loaded, lambda _: most.append(len(watch.alive())))
            return watch

        watch, _, tape = self.forward(example, name, watching, record=False)
        assert tape.nodes == []
        assert watch.alive() == ["linear.forward"]
        assert watch.calls[-1].results[0]() is tape.output
        assert len(most) > 30
        assert max(most) <= 3

    def test_what_a_record_keeps(self, example, name):
        """What a chapter says it keeps: not the sums before a ReLU, not what a gather joined."""
        watch, _, tape = self.forward(example, name, random_key=RandomKey(SEED, STEP))
        kept = {}
        for call in watch.calls:
            kept.setdefault(call.what, []).append([result() is not None for result in call.results])
        assert kept == {
            "conv2d.forward": [[False]] * 8,
            "relu.forward": [[True]] * 10,
            "lrn.forward": [[True, True]] * 4,  # y and scale
            "maxpool.forward": [[True, True]] * 2 + [[False, True]] * 2,  # y is conv2's x; pool4's is joined and gone
            "concat": [[True]] * 5,
            "linear.forward": [[False], [False], [True]],
            "dropout.forward": [[False]] * 2,
        }
        assert tape.nodes != []

    def test_a_test_pass_records_the_same(self, example, name):
        _, _, tape = self.forward(example, name)
        assert [node.name for node, _ in tape.nodes] == [node.name for node in example.plan.nodes]

    def test_backward_empties_it_and_activations_die_as_they_are_used(self, example, name):
        ran = []

        def watching(loaded):
            return Watch(loaded, before)

        def before(what):
            if what.endswith(".backward") and what != "softmax_xent.backward":
                ran.append([what, watch.alive_forward()])

        watch, _, tape = self.forward(example, name, watching, random_key=RandomKey(SEED, STEP))
        made = [call for call in watch.calls if call.what != "concat"]
        output = watch.calls[-1].results[0]

        def alive_forward():
            """Which forward calls, by their order, still have an array alive."""
            return [i for i, call in enumerate(made) if any(r() is not None and r is not output for r in call.results)]

        watch.alive_forward = alive_forward
        dy = watch.asarray(whole_numbers(tape.output.shape, 1))
        passes.backward(tape, dy)
        assert tape.nodes == []
        assert tape.output is output()
        assert [what.removesuffix(".backward") for what, _ in ran] == [
            call.what.removesuffix(".forward") for call in reversed(made)
        ]
        for done, (what, alive) in enumerate(ran):
            assert max(alive, default=-1) <= len(made) - 1 - done, f"{what} runs while what came after it is alive"
        assert len(ran[0][1]) > len(ran[-1][1])
        assert alive_forward() == []

    def test_gradients_die_as_they_are_used(self, example, name):
        """Of all data gradients at most four live at once: one for each column, and what is being made of it."""
        most = []

        def watching(loaded):
            return Watch(loaded, before)

        def before(what):
            if what.endswith(".backward"):
                given = [call for call in watch.calls if call.what.endswith(".backward") and len(call.results) != 2]
                most.append(sum(call.results[0]() is not None for call in given))

        watch, _, tape = self.forward(example, name, watching, random_key=RandomKey(SEED, STEP))
        gradients = passes.backward(tape, watch.asarray(whole_numbers(tape.output.shape, 1)))
        assert len(most) == sum(node.layer.op != "gather" for node in example.plan.nodes)
        assert max(most) <= 4
        alive = [result() for call in watch.calls for result in call.results]
        kept = {id(array) for array in alive if array is not None} - {id(tape.output)}
        assert kept == {id(gradient) for gradient in gradients.values()}

    def test_pooling_and_dropout_keep_nothing_of_what_they_read(self, example, name):
        del example
        loaded = backends.load(name, columns=2)
        layers = (conv("a", 4, 3, **ZERO), maxpool("p"), conv("c", 4, 1, **ZERO), dropout("d"))
        plan = split((*layers, linear("z", 3, columns="one", **ZERO)), 2, (1, 8, 8))
        watch = Watch(loaded)
        params = passes.place_params(plan, some_params(plan), loaded)
        images = passes.place(plan, whole_numbers((2, 1, 8, 8), 1), loaded)
        tape = passes.forward(plan, params, images, watch, random_key=RandomKey(SEED, STEP))
        assert tape.nodes != []
        sums = [call for call in watch.calls if call.what == "conv2d.forward"]
        assert [call.results[0]() is None for call in sums] == [True] * 4

    def test_every_parameter_gets_a_gradient_of_its_shape(self, example, name):
        _, params, tape = self.forward(example, name)
        gradients = passes.backward(tape, backends.load(name).asarray(whole_numbers(tape.output.shape, 1)))
        assert {key: gradient.shape for key, gradient in gradients.items()} == example.plan.param_shapes()
        assert {key: gradient.dtype for key, gradient in gradients.items()} == {k: a.dtype for k, a in params.items()}
        if name == "loopback":
            assert {key: a._column for key, a in gradients.items()} == {key: int(key[-3]) for key in params}

    def test_neither_pass_changes_parameters_or_images(self, example, name):
        loaded = backends.load(name, columns=2)
        params = passes.place_params(example.plan, example.host, loaded)
        images = passes.place(example.plan, example.images, loaded)
        tape = passes.forward(example.plan, params, images, loaded, random_key=RandomKey(SEED, STEP))
        passes.backward(tape, loaded.asarray(whole_numbers(tape.output.shape, 1)))
        for key, a in params.items():
            assert loaded.to_numpy(a).tobytes() == example.host[key].tobytes()
        for a in images:
            assert loaded.to_numpy(a).tobytes() == example.images.tobytes()

    def test_what_crossed_is_what_the_plan_says(self, example, name):
        for record in (True, False):
            _, _, tape = self.forward(example, name, record=record)
            assert tape.crossings == crossings(example.plan, len(LABELS), itemsize=8)

    def test_the_pixels_get_no_gradient(self, example, name):
        """The first layer's data gradient, as large as the batch of images, is never computed."""
        watch, _, tape = self.forward(example, name)
        passes.backward(tape, watch.asarray(whole_numbers(tape.output.shape, 1)))
        gave = [len(call.results) for call in watch.calls if call.what == "conv2d.backward"]
        assert gave == [3] * 6 + [2] * 2
