"""The networks, number by number against the paper and its code, and their initial weights."""

from dataclasses import replace
from itertools import combinations
from math import prod, sqrt

import numpy as np
import pytest

from refnet import nets
from refnet.errors import ConfigError
from refnet.nets.variants import VARIANTS
from refnet.network.initial import initialise
from refnet.network.plan import IMAGE, Plan, crossings, split
from refnet.ops import dropout, lrn

# spec.md, section 1: the layer, its output over both columns, its parameters, its forward MMAC for an image.
TABLE = {
    "conv1": ((96, 55, 55), 34_944, "105.4"),
    "pool1": ((96, 27, 27), 0, "0.0"),
    "conv2": ((256, 27, 27), 307_456, "223.9"),
    "pool2": ((256, 13, 13), 0, "0.0"),
    "conv3": ((384, 13, 13), 885_120, "149.5"),
    "conv4": ((384, 13, 13), 663_936, "112.1"),
    "conv5": ((256, 13, 13), 442_624, "74.8"),
    "pool5": ((256, 6, 6), 0, "0.0"),
    "fc6": ((4096,), 37_752_832, "37.7"),
    "fc7": ((4096,), 16_781_312, "16.8"),
    "fc8": ((1000,), 4_097_000, "4.1"),
}
# A column's filters and how they are laid: w, stride, pad, what is read, bias.
COLUMN = {
    "conv1": ((48, 3, 11, 11), 4, 0, IMAGE, 0),
    "conv2": ((128, 48, 5, 5), 1, 2, "own", 1),
    "conv3": ((192, 256, 3, 3), 1, 1, "all", 0),
    "conv4": ((192, 192, 3, 3), 1, 1, "own", 1),
    "conv5": ((128, 192, 3, 3), 1, 1, "own", 1),
    "fc6": ((2048, 9216), None, None, "all", 1),
    "fc7": ((2048, 4096), None, None, "all", 1),
    "fc8": ((1000, 4096), None, None, "all", 0),
}
SIGMAS = {
    "paper": dict.fromkeys(COLUMN, 0.01),
    "code2012": dict.fromkeys(COLUMN, 0.01) | {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03},
}
CHAIN = (
    "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5 "
    "fc6 relu6 drop6 fc7 relu7 drop7 fc8"
)
NOUNS = {"conv": "conv2d", "relu": "relu", "norm": "lrn", "pool": "maxpool", "fc": "linear", "drop": "dropout"}


def nodes(plan, layer):
    return [node for node in plan.nodes if node.layer.name == layer and node.layer.op != "gather"]


def parameters(plan):
    return sum(prod(shape) for shape in plan.param_shapes().values())


def seen_by(plan, node):
    """Columns whose work a node reads, through its gather."""
    made = {other.name: other for other in plan.nodes}
    (name,) = node.inputs
    if name == IMAGE:
        return IMAGE
    source = made[name]
    return {node.column} if source.layer.op != "gather" else set(source.sources)


@pytest.fixture
def plan():
    return nets.get("paper").plan(2)


class TestPaper:
    def test_it_reads_colour_images_of_224_pixels_cut_from_256(self):
        net = nets.get("paper")
        assert (net.input_shape, net.crop, net.image_size, net.outputs, net.flip) == (
            (3, 224, 224),
            (224, 224),
            256,
            1000,
            True,
        )

    def test_order_of_layers(self):
        layers = nets.get("paper").layers
        assert [layer.name for layer in layers] == CHAIN.split()
        assert [layer.op for layer in layers] == [NOUNS[name.rstrip("0123456789")] for name in CHAIN.split()]

    @pytest.mark.parametrize("layer", TABLE)
    def test_table(self, plan, layer):
        shape, params, mmac = TABLE[layer]
        both = nodes(plan, layer)
        assert len(both) == (1 if layer == "fc8" else 2)
        assert (sum(node.shape[0] for node in both), *both[0].shape[1:]) == shape
        assert sum(prod(param) for node in both for param in node.params.values()) == params
        assert f"{sum(node.macs() for node in both) / 1e6:.1f}" == mmac

    @pytest.mark.parametrize("layer", COLUMN)
    def test_column(self, plan, layer):
        w, stride, pad, reads, bias = COLUMN[layer]
        for node in nodes(plan, layer):
            assert node.params == {"w": w, "b": w[:1]}
            assert (node.layer.options.get("stride"), node.layer.options.get("pad")) == (stride, pad)
            assert node.layer.bias == bias
            assert seen_by(plan, node) == {IMAGE: IMAGE, "own": {node.column}, "all": {0, 1}}[reads]

    def test_totals(self, plan):
        assert parameters(plan) == 60_965_224
        macs = sum(node.macs() for node in plan.nodes)
        assert macs == 724_406_816
        assert f"{macs / 1e6:.1f}" == "724.4"

    def test_neurons_of_conv1_where_figure_2_errs(self, plan):
        assert sum(prod(node.shape) for node in nodes(plan, "conv1")) == 290_400

    def test_layers_without_parameters_are_the_papers(self):
        options = {layer.name: dict(layer.options) for layer in nets.get("paper").layers}
        for name in ("norm1", "norm2"):
            assert options[name] == {"n": 5, "k": 2, "alpha": 1e-4, "beta": 0.75}
        for name in ("pool1", "pool2", "pool5"):
            assert options[name] == {"size": 3, "stride": 2, "ceil": True}
        for name in ("drop6", "drop7"):
            assert options[name] == {"drop": 0.5}

    def test_ceil_matters_in_the_first_layer_alone(self):
        """224 pixels make 55 by ceil and 54 by floor; everything after fits either way."""
        layers = nets.get("paper").layers
        floor = tuple(
            replace(layer, options={**layer.options, "ceil": False}) if "ceil" in layer.options else layer
            for layer in layers
        )
        assert nodes(split(floor, 2, (3, 224, 224)), "conv1")[0].shape == (48, 54, 54)
        whole = (layers[0], *floor[1:])
        exact = [node.shape for node in split(whole, 2, (3, 224, 224)).nodes]
        assert exact == [node.shape for node in nets.get("paper").plan(2).nodes]

    def test_what_crosses_to_the_byte(self, plan):
        """spec.md, section 1, batch 128: 11.08, 2.36, 1.05 MB each way, and 1.05 MB from b to a."""
        into = {}
        for crossing in crossings(plan, 128):
            into[crossing.into, crossing.source, crossing.target] = (crossing.of, crossing.nbytes)
        assert into == {
            ("conv3", 1, 0): ("pool2@1", 11_075_584),
            ("conv3", 0, 1): ("pool2@0", 11_075_584),
            ("fc6", 1, 0): ("pool5@1", 2_359_296),
            ("fc6", 0, 1): ("pool5@0", 2_359_296),
            ("fc7", 1, 0): ("drop6@1", 1_048_576),
            ("fc7", 0, 1): ("drop6@0", 1_048_576),
            ("fc8", 1, 0): ("drop7@1", 1_048_576),
        }
        assert [f"{nbytes / 1e6:.2f}" for nbytes in (11_075_584, 2_359_296, 1_048_576)] == ["11.08", "2.36", "1.05"]

    def test_recipe(self):
        recipe = nets.get("paper").recipe
        assert {key: recipe[key] for key in ("batch", "lr", "momentum", "weight_decay", "columns")} == {
            "batch": 128,
            "lr": 0.01,
            "momentum": 0.9,
            "weight_decay": 0.0005,
            "columns": 2,
        }
        assert (recipe["schedule"], recipe["lr_factor"], recipe["lr_drops"], recipe["epochs"]) == ("plateau", 10, 3, 90)

    def test_in_one_column_it_is_the_ungrouped_net(self):
        plan = nets.get("paper").plan(1)
        assert parameters(plan) == 62_378_344
        assert plan.param_shapes()["conv2@0.w"] == (256, 96, 5, 5)
        assert [node.name for node in plan.nodes] == [f"{name}@0" for name in CHAIN.split()]


def test_half_is_the_papers_net_for_one_gpu():
    """Half the kernels in conv1 to conv4; the last convolution and the fully connected layers as they are."""
    net = nets.get("half")
    plan = net.plan(1)
    assert net.recipe["columns"] == 1
    assert parameters(plan) == 59_798_312
    widths = {node.layer.name: node.shape[0] for node in plan.nodes if node.params}
    assert widths == {
        "conv1": 48, "conv2": 128, "conv3": 192, "conv4": 192, "conv5": 256, "fc6": 4096, "fc7": 4096, "fc8": 1000,
    }  # fmt: skip


def test_digits_has_every_ingredient_of_the_paper():
    net = nets.get("digits")
    plan = net.plan(2)
    assert (net.input_shape, net.outputs, net.recipe["columns"], net.flip) == ((1, 8, 8), 10, 2, False)
    assert {layer.op for layer in net.layers} == set(NOUNS.values())
    assert [node.layer.name for node in plan.nodes if node.layer.op == "gather" and node.column == 0] == [
        "conv3",
        "fc5",
        "fc6",
    ]
    assert plan.nodes[-1].name == "fc6@0"
    assert net.layers[-1].columns == "one"


class TestGet:
    def test_a_slip_is_told_the_nearest(self):
        with pytest.raises(
            ConfigError, match=r"papre is not known; there are digits, paper, half, cifar, fashion; .*paper\?$"
        ):
            nets.get("papre")

    def test_an_unknown_initialisation_is_told_those_there_are(self):
        with pytest.raises(ConfigError, match="paper has no initialisation caffe; it has code2012, paper"):
            nets.get("paper", "caffe")

    @pytest.mark.parametrize("name", nets.NETS)
    def test_every_net_and_initialisation(self, name):
        for init in (None, *nets.get(name).inits):
            net = nets.get(name, init)
            assert net.name == name
            assert net.plan(net.recipe["columns"]).nodes[-1].shape == (net.outputs,)

    @pytest.mark.parametrize("name", ["paper", "half"])
    def test_the_codes_initialisation_is_the_default(self, name):
        """With the text's sigma the loss stays at chance (spec.md, section 2)."""
        assert nets.get(name) == nets.get(name, "code2012")
        assert nets.get(name) != nets.get(name, "paper")


class TestVariants:
    @pytest.mark.parametrize("variant", VARIANTS)
    @pytest.mark.parametrize("name", nets.NETS)
    def test_every_variant_of_every_net(self, name, variant):
        net, changed = nets.get(name), nets.get(name, None, [variant])
        assert (changed.layers == net.layers) == ((name, variant) == ("digits", "strong-lrn"))  # which it has
        assert replace(changed, layers=net.layers) == net
        for columns in (1, 2):
            nodes, others = net.plan(columns).nodes, changed.plan(columns).nodes
            assert [node.index for node in nodes] == [node.index for node in others]
            if variant != "half":
                assert [(node.shape, node.params) for node in nodes] == [(node.shape, node.params) for node in others]

    def test_layers_without_effect_have_none(self):
        x = np.random.default_rng(0).normal(size=(2, 8, 3, 4))
        options = {layer.op: layer.options for layer in nets.get("cifar", None, ["no-lrn", "no-dropout"]).layers}
        assert lrn.forward(x, **options["lrn"])[0] == pytest.approx(x * 2**-0.75, rel=1e-12)
        assert dropout.forward(x, **options["dropout"], key=(0, 2), counter=(1, 0, 0, 0)).tobytes() == x.tobytes()
        assert dropout.expected(x, **options["dropout"]).tobytes() == x.tobytes()

    def test_variants_add_up(self):
        both = nets.get("digits", None, ["no-dropout", "tanh"])
        assert both.layers == nets.get("digits", None, ["tanh", "no-dropout"]).layers
        assert {layer.op for layer in both.layers} == {"conv2d", "tanh", "lrn", "maxpool", "linear", "dropout"}

    @pytest.mark.parametrize("variant", ["tanhh", [["tanh"]], [None], 3])
    def test_what_is_none_is_told_those_there_are(self, variant):
        with pytest.raises(ConfigError, match=r"net digits has no variant .* tanh, no-lrn, "):
            nets.get("digits", None, variant)


ROWS = 24  # of a fully connected layer: enough to measure, and the whole of fc6 takes seconds


def drawn(name, init=None, seed=0, columns=2):
    """First weights; of a fully connected layer the first rows of each column."""
    plan = nets.get(name, init).plan(columns)
    return initialise(Plan(plan.columns, plan.input_shape, tuple(map(shorter, plan.nodes))), seed)


def shorter(node):
    if node.layer.op != "linear":
        return node
    rows, reads = node.params["w"]
    rows = min(rows, ROWS)
    return replace(node, params={"w": (rows, reads), "b": (rows,)})


def is_normal(numbers, sigma):
    """Mean, deviation and kurtosis are within five of their own standard deviations for this many numbers."""
    n = numbers.size
    z = np.float64(numbers.ravel()) / sigma
    centred = abs(z.mean()) <= 5 / sqrt(n)
    scaled = abs(z.std() - 1) <= 5 / sqrt(2 * n)
    shaped = abs((z**4).mean() - 3) <= 5 * sqrt(96 / n)
    return centred and scaled and shaped


@pytest.fixture(scope="module", params=SIGMAS)
def init(request):
    return request.param, drawn("paper", request.param)


class TestInitialWeights:
    def test_weights_are_normal_with_the_sigma_of_their_layer(self, init):
        name, params = init
        weights = {key: value for key, value in params.items() if key.endswith(".w")}
        assert len(weights) == 2 * len(COLUMN) - 1
        for key, w in weights.items():
            assert w.dtype == np.float32
            assert is_normal(w, SIGMAS[name][key.partition("@")[0]]), key

    def test_the_measure_sees_a_wrong_sigma_mean_and_shape(self):
        good = np.random.default_rng(1).normal(0, 0.01, 20_000)
        assert is_normal(good, 0.01)
        assert not is_normal(good, 0.0105)
        assert not is_normal(good + 0.001, 0.01)
        assert not is_normal(np.random.default_rng(1).uniform(-0.01, 0.01, 20_000) * sqrt(3), 0.01)

    def test_biases_are_exact(self, init):
        _, params = init
        for key, b in params.items():
            if key.endswith(".b"):
                assert b.dtype == np.float32
                assert (b == COLUMN[key.partition("@")[0]][-1]).all(), key

    def test_no_two_layers_or_columns_or_filters_begin_alike(self, init):
        """Two samples of n independent normal numbers correlate by 1/sqrt(n)."""
        _, params = init
        weights = [w.ravel()[:10_000] for key, w in params.items() if key.endswith(".w")]
        for a, b in combinations(weights, 2):
            assert abs(np.corrcoef(a, b)[0, 1]) < 5 / sqrt(a.size)
        filters = params["conv2@1.w"].reshape(128, -1)
        alike = np.corrcoef(filters) - np.eye(128)
        assert np.abs(alike).max() < 6 / sqrt(filters.shape[1])


def test_initial_weights_are_a_function_of_the_seed():
    first, again, other = drawn("digits", seed=1), drawn("digits", seed=1), drawn("digits", seed=2)
    assert list(first) == list(drawn("digits", seed=1))
    for key, array in first.items():
        assert array.tobytes() == again[key].tobytes()
        assert key.endswith(".b") or not (array == other[key]).any()


def test_initial_weights_are_every_parameter_of_the_plan():
    plan = nets.get("digits").plan(2)
    assert {key: array.shape for key, array in initialise(plan, 0).items()} == plan.param_shapes()


def test_a_layer_that_reads_all_begins_alike_in_one_column_and_two():
    """A filter's numbers are counted by its place among all columns' filters, not by its column."""
    plan = nets.get("digits").plan
    one, two = initialise(plan(1), 5), initialise(plan(2), 5)
    for layer in ("conv1", "conv3", "fc5"):
        joined = np.concatenate([two[f"{layer}@{column}.w"] for column in range(2)])
        assert joined.tobytes() == one[f"{layer}@0.w"].tobytes()


def test_pinned():
    """Another first weight would change every run there is."""
    first = initialise(nets.get("digits").plan(2), 7)
    assert first["conv1@0.w"].ravel()[:3] == pytest.approx([0.14199013, -0.028273547, 0.025749093], rel=1e-6)
    assert first["conv1@1.w"].ravel()[:3] == pytest.approx([0.14054441, -0.091277301, -0.037675846], rel=1e-6)
