"""Plans: how layers are split into columns, and what a plan computes about itself."""

from itertools import pairwise
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refnet.errors import ArgumentError, ConfigError, ShapeError
from refnet.network.plan import IMAGE, Crossing, conv, crossings, dropout, linear, lrn, maxpool, relu, split, tanh

ZERO = {"sigma": 0.0, "bias": 0.0}
NET = (
    conv("a", 8, 3, pad=1, **ZERO),
    relu("r"),
    maxpool("p"),
    conv("c", 12, 1, reads="all", **ZERO),
    linear("f", 6, **ZERO),
    dropout("d"),
    linear("z", 5, columns="one", **ZERO),
)
PIXELS = (2, 9, 7)

# One line a node: name, index, column, inputs, their shapes and columns, shape, w and b, first.
TWO = [
    ("a@0", 0, 0, [IMAGE], [PIXELS], [0], (4, 9, 7), [(4, 2, 3, 3), (4,)], 0),
    ("a@1", 0, 1, [IMAGE], [PIXELS], [1], (4, 9, 7), [(4, 2, 3, 3), (4,)], 4),
    ("r@0", 1, 0, ["a@0"], [(4, 9, 7)], [0], (4, 9, 7), [], 0),
    ("r@1", 1, 1, ["a@1"], [(4, 9, 7)], [1], (4, 9, 7), [], 252),
    ("p@0", 2, 0, ["r@0"], [(4, 9, 7)], [0], (4, 4, 3), [], 0),
    ("p@1", 2, 1, ["r@1"], [(4, 9, 7)], [1], (4, 4, 3), [], 48),
    ("c.gather@0", 3, 0, ["p@0", "p@1"], [(4, 4, 3)] * 2, [0, 1], (8, 4, 3), [], 0),
    ("c.gather@1", 3, 1, ["p@0", "p@1"], [(4, 4, 3)] * 2, [0, 1], (8, 4, 3), [], 0),
    ("c@0", 3, 0, ["c.gather@0"], [(8, 4, 3)], [0], (6, 4, 3), [(6, 8, 1, 1), (6,)], 0),
    ("c@1", 3, 1, ["c.gather@1"], [(8, 4, 3)], [1], (6, 4, 3), [(6, 8, 1, 1), (6,)], 6),
    ("f.gather@0", 4, 0, ["c@0", "c@1"], [(6, 4, 3)] * 2, [0, 1], (12, 4, 3), [], 0),
    ("f.gather@1", 4, 1, ["c@0", "c@1"], [(6, 4, 3)] * 2, [0, 1], (12, 4, 3), [], 0),
    ("f@0", 4, 0, ["f.gather@0"], [(12, 4, 3)], [0], (3,), [(3, 144), (3,)], 0),
    ("f@1", 4, 1, ["f.gather@1"], [(12, 4, 3)], [1], (3,), [(3, 144), (3,)], 3),
    ("d@0", 5, 0, ["f@0"], [(3,)], [0], (3,), [], 0),
    ("d@1", 5, 1, ["f@1"], [(3,)], [1], (3,), [], 3),
    ("z.gather@0", 6, 0, ["d@0", "d@1"], [(3,)] * 2, [0, 1], (6,), [], 0),
    ("z@0", 6, 0, ["z.gather@0"], [(6,)], [0], (5,), [(5, 6), (5,)], 0),
]
ONE = [
    ("a@0", 0, 0, [IMAGE], [PIXELS], [0], (8, 9, 7), [(8, 2, 3, 3), (8,)], 0),
    ("r@0", 1, 0, ["a@0"], [(8, 9, 7)], [0], (8, 9, 7), [], 0),
    ("p@0", 2, 0, ["r@0"], [(8, 9, 7)], [0], (8, 4, 3), [], 0),
    ("c@0", 3, 0, ["p@0"], [(8, 4, 3)], [0], (12, 4, 3), [(12, 8, 1, 1), (12,)], 0),
    ("f@0", 4, 0, ["c@0"], [(12, 4, 3)], [0], (6,), [(6, 144), (6,)], 0),
    ("d@0", 5, 0, ["f@0"], [(6,)], [0], (6,), [], 0),
    ("z@0", 6, 0, ["d@0"], [(6,)], [0], (5,), [(5, 6), (5,)], 0),
]


def lines(plan):
    return [
        (
            node.name,
            node.index,
            node.column,
            list(node.inputs),
            list(node.shapes),
            list(node.sources),
            node.shape,
            list(node.params.values()),
            node.first,
        )
        for node in plan.nodes
    ]


@pytest.mark.parametrize(("columns", "expected"), [(1, ONE), (2, TWO)])
def test_every_step(columns, expected):
    plan = split(NET, columns, PIXELS)
    assert plan.columns == columns
    assert plan.input_shape == PIXELS
    for line, wanted in zip(lines(plan), expected, strict=True):
        gather = ".gather" in line[0]
        assert line[: 8 if gather else 9] == wanted[: 8 if gather else 9]


def test_more_columns_than_two():
    plan = split((conv("a", 8, 3, **ZERO), conv("c", 4, 1, reads="all", **ZERO)), 4, PIXELS)
    assert [node.name for node in plan.nodes] == [
        *(f"a@{column}" for column in range(4)),
        *(f"c.gather@{column}" for column in range(4)),
        *(f"c@{column}" for column in range(4)),
    ]
    assert all(node.sources == (0, 1, 2, 3) for node in plan.nodes if node.layer.op == "gather")


def test_the_param_shapes_carry_the_column_in_their_names():
    shapes = split(NET, 2, PIXELS).param_shapes()
    nodes = ("a@0", "a@1", "c@0", "c@1", "f@0", "f@1", "z@0")
    assert list(shapes) == [f"{node}.{letter}" for node in nodes for letter in "wb"]
    assert shapes["c@1.w"] == (6, 8, 1, 1)


def test_who_reads_what():
    assert split(NET, 2, PIXELS).readers() == {
        IMAGE: 2,
        "a@0": 1, "a@1": 1, "r@0": 1, "r@1": 1,
        "p@0": 2, "p@1": 2, "c.gather@0": 1, "c.gather@1": 1,
        "c@0": 2, "c@1": 2, "f.gather@0": 1, "f.gather@1": 1,
        "f@0": 1, "f@1": 1, "d@0": 1, "d@1": 1,
        "z.gather@0": 1, "z@0": 0,
    }  # fmt: skip


def test_what_crosses():
    """3 layers read all; c and f in both columns, z in the first alone."""
    assert crossings(split(NET, 2, PIXELS), batch=10, itemsize=4) == [
        Crossing("c", "p@1", 1, 0, 10 * 48 * 4),
        Crossing("c", "p@0", 0, 1, 10 * 48 * 4),
        Crossing("f", "c@1", 1, 0, 10 * 72 * 4),
        Crossing("f", "c@0", 0, 1, 10 * 72 * 4),
        Crossing("z", "d@1", 1, 0, 10 * 3 * 4),
    ]
    assert crossings(split(NET, 1, PIXELS), batch=10) == []


def test_multiply_adds_are_weights_times_places():
    macs = {node.name: node.macs() for node in split(NET, 2, PIXELS).nodes}
    assert macs["a@1"] == 4 * 2 * 3 * 3 * 9 * 7
    assert macs["c@0"] == 6 * 8 * 4 * 3
    assert macs["f@0"] == 3 * 144
    assert macs["z@0"] == 5 * 6
    assert {macs[name] for name in ("r@0", "p@0", "c.gather@0", "d@1")} == {0}


class TestAfterALayerInOneColumn:
    NET = (conv("a", 4, 3, **ZERO), linear("one", 6, columns="one", **ZERO))

    def test_a_layer_that_reads_its_own_stays_there(self):
        plan = split((*self.NET, relu("r"), linear("z", 3, reads="own", **ZERO)), 2, PIXELS)
        assert [node.name for node in plan.nodes][-3:] == ["one@0", "r@0", "z@0"]

    def test_a_layer_that_reads_all_is_split_again_and_only_the_other_column_gathers(self):
        plan = split((*self.NET, linear("z", 4, **ZERO)), 2, PIXELS)
        assert [(node.name, node.inputs) for node in plan.nodes][-3:] == [
            ("z.gather@1", ("one@0",)),
            ("z@0", ("one@0",)),
            ("z@1", ("z.gather@1",)),
        ]
        assert crossings(plan, 1)[-1] == Crossing("z", "one@0", 0, 1, 6 * 4)


@pytest.mark.parametrize("columns", [1, 2])
def test_the_image_is_read_by_each_column_and_never_gathered(columns):
    for reads in ("own", "all"):
        plan = split((linear("f", 4, reads=reads, **ZERO),), columns, PIXELS)
        assert [node.inputs for node in plan.nodes] == [(IMAGE,)] * columns
        assert crossings(plan, 1) == []


class TestErrors:
    @pytest.mark.parametrize(
        ("layers", "named"),
        [
            ((conv("odd", 7, 3, **ZERO),), "odd@0: its 7 .* among 2 columns"),
            ((conv("a", 4, 3, **ZERO), linear("odd", 5, **ZERO)), "odd@0: its 5 .* among 2 columns"),
            ((conv("big", 4, 10, **ZERO),), "big@0, which reads image: .*10 does not fit in (9|7)"),
            ((conv("a", 4, 3, **ZERO), conv("big", 4, 8, **ZERO)), "big@0, which reads a@0: .* does not fit"),
            ((conv("a", 4, 3, **ZERO), maxpool("p", size=8, ceil=False)), "p@0, which reads a@0: .* does not fit"),
            ((linear("f", 4, **ZERO), conv("c", 4, 1, reads="all", **ZERO)), r"c@0, which reads c\.gather@0: .* axes"),
            ((linear("f", 4, **ZERO), maxpool("p")), "p@0, which reads f@0: .* axes"),
        ],
    )
    def test_the_step_is_named(self, layers, named):
        with pytest.raises(ShapeError, match=named):
            split(layers, 2, PIXELS)

    @pytest.mark.parametrize(
        ("layer", "named"),
        [
            (lrn("even", n=4), "even@0, which reads image: .* odd"),
            (dropout("all", drop=1.0), "all@0, which reads image: .* below 1"),
            (conv("still", 4, 3, stride=0, **ZERO), "still@0, which reads image: .* stride"),
        ],
    )
    def test_the_step_is_named_where_a_value_is_wrong(self, layer, named):
        with pytest.raises(ArgumentError, match=named):
            split((layer,), 2, PIXELS)

    def test_a_layer_in_one_column_that_reads_its_own_would_lose_the_others(self):
        with pytest.raises(ShapeError, match="z"):
            split((conv("a", 4, 3, **ZERO), linear("z", 3, reads="own", columns="one", **ZERO)), 2, PIXELS)

    def test_two_layers_of_one_name(self):
        with pytest.raises(ConfigError, match="a"):
            split((linear("a", 4, **ZERO), relu("r"), linear("a", 4, **ZERO)), 1, (4, 1, 1))

    @pytest.mark.parametrize("columns", [0, -1])
    def test_no_columns(self, columns):
        with pytest.raises(ConfigError, match="columns"):
            split(NET, columns, PIXELS)

    def test_a_layer_in_one_column_need_not_divide(self):
        assert split((linear("z", 7, columns="one", **ZERO),), 2, PIXELS).nodes[0].shape == (7,)


@st.composite
def networks(draw):
    """Layers that fit together, and a number of columns that divides them."""
    columns = draw(st.sampled_from([1, 2, 3, 4]))
    widths = st.integers(1, 3).map(lambda width: 12 * width)
    layers = []
    for i in range(draw(st.integers(1, 4))):
        reads = draw(st.sampled_from(["own", "all"]))
        layers.append(conv(f"c{i}", draw(widths), draw(st.sampled_from([1, 3])), pad=1, reads=reads, **ZERO))
        layers += draw(st.sampled_from([(), (relu(f"r{i}"),), (tanh(f"t{i}"), lrn(f"n{i}")), (maxpool(f"p{i}"),)]))
    for i in range(draw(st.integers(0, 3))):
        # What only the first column holds reads all: a layer that dropped the other columns would make no sense.
        one = draw(st.booleans())
        reads = "all" if one else draw(st.sampled_from(["own", "all"]))
        layers.append(linear(f"f{i}", draw(widths), reads=reads, columns="one" if one else "split", **ZERO))
        layers += draw(st.sampled_from([(), (dropout(f"d{i}"),)]))
    return tuple(layers), columns


@given(networks())
@settings(deadline=None)
def test_any_plan_can_be_run_in_its_order_and_only_gathers_cross(network):
    layers, columns = network
    plan = split(layers, columns, (3, 16, 16))
    names = [node.name for node in plan.nodes]
    assert len(set(names)) == len(names)
    known = {node.name: node for node in plan.nodes}
    seen = {IMAGE}
    for node in plan.nodes:
        assert seen.issuperset(node.inputs)
        seen.add(node.name)
        for name, shape, source in zip(node.inputs, node.shapes, node.sources, strict=True):
            made = ((3, 16, 16), node.column) if name == IMAGE else (known[name].shape, known[name].column)
            assert (shape, source) == made
        if node.layer.op == "gather":
            assert len(node.inputs) > 1 or node.sources != (node.column,)
            assert node.shape[0] == sum(shape[0] for shape in node.shapes)
        else:
            assert node.sources == (node.column,)
    assert [node.index for node in plan.nodes] == sorted(node.index for node in plan.nodes)
    for before, after in pairwise(plan.nodes):
        assert (before.index, before.layer.op != "gather") <= (after.index, after.layer.op != "gather")
    assert sum(plan.readers().values()) == sum(len(node.inputs) for node in plan.nodes)
    if columns == 1:
        assert not any(node.layer.op == "gather" for node in plan.nodes)


@given(networks())
@settings(deadline=None)
def test_a_plan_put_column_by_column_can_be_run_in_its_order(network):
    layers, columns = network
    plan = split(layers, columns, (3, 16, 16))
    again = plan.column_by_column()
    assert sorted(node.name for node in again.nodes) == sorted(node.name for node in plan.nodes)
    assert again.nodes[-1].layer == plan.nodes[-1].layer
    seen = {IMAGE}
    for node in again.nodes:
        assert seen.issuperset(node.inputs)
        seen.add(node.name)
    for before, after in pairwise(again.nodes):
        assert "gather" in {before.layer.op, after.layer.op} or before.column <= after.column


@given(networks())
@settings(deadline=None)
def test_columns_tile_the_layer(network):
    """Widths add up, `first` counts filters or features through all columns, and what is read is all or the own."""
    layers, columns = network
    one, many = split(layers, 1, (3, 16, 16)), split(layers, columns, (3, 16, 16))
    whole = {node.layer.name: node for node in one.nodes}
    before = None
    for layer in layers:
        nodes = [node for node in many.nodes if node.layer is layer]
        assert [node.column for node in nodes] == list(range(len(nodes)))
        assert sum(node.shape[0] for node in nodes) == whole[layer.name].shape[0]
        first = 0
        for node in nodes:
            assert node.first == first
            first += node.shape[0] if layer.width else prod(node.shape)
            if before is not None:
                shares = len(before) if layer.reads == "own" else 1
                assert prod(node.shapes[0]) * shares == prod(whole[layer.name].shapes[0])
        before = nodes
