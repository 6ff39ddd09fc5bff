"""``refnet summary``: the numbers of a network, as an object, as JSON and as a table."""

import json
import re
from dataclasses import asdict
from math import prod

import pytest
from networks import pooled_by_mean

from refnet import nets
from refnet.cli.main import main
from refnet.errors import ShapeError
from refnet.nets.summary import summarise
from refnet.network.plan import crossings

# The printed table of `paper`: reads, in, out, parameters, MMAC, what crosses.
PRINTED = {
    "conv1": ("image", "3x224x224", "2 x 48x55x55", "34,944", "105.4", None),
    "norm1": ("own", "48x55x55", "2 x 48x55x55", None, None, None),
    "pool1": ("own", "48x55x55", "2 x 48x27x27", None, None, None),
    "conv2": ("own", "48x27x27", "2 x 128x27x27", "307,456", "223.9", None),
    "pool2": ("own", "128x27x27", "2 x 128x13x13", None, None, None),
    "conv3": ("all", "256x13x13", "2 x 192x13x13", "885,120", "149.5", "11.08 MB"),
    "conv4": ("own", "192x13x13", "2 x 192x13x13", "663,936", "112.1", None),
    "conv5": ("own", "192x13x13", "2 x 128x13x13", "442,624", "74.8", None),
    "pool5": ("own", "128x13x13", "2 x 128x6x6", None, None, None),
    "fc6": ("all", "256x6x6", "2 x 2048", "37,752,832", "37.7", "2.36 MB"),
    "fc7": ("all", "4096", "2 x 2048", "16,781,312", "16.8", "1.05 MB"),
    "fc8": ("all", "4096", "1 x 1000", "4,097,000", "4.1", "1.05 MB"),
}
# Net and columns: parameters, MAC, and of each those of conv2d and linear.
TOTALS = {
    ("paper", 2): (60_965_224, 724_406_816, 2_334_080, 665_784_864, 58_631_144, 58_621_952),
    ("paper", 1): (62_378_344, 1_135_256_096, 3_747_200, 1_076_634_144, 58_631_144, 58_621_952),
    ("half", 1): (59_798_312, 391_514_384, 1_167_168, 332_892_432, 58_631_144, 58_621_952),
    # By hand: 32*9*64 + 64*16*9*16 + 64*64*9*16 + 64*32*9*16, and 128*256 + 10*128.
    ("digits", 2): (99_210, 1_084_672, 65_024, 1_050_624, 34_186, 34_048),
}


def refnet(capsys, *argv):
    code = main(["summary", *argv])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(("net", "columns"), TOTALS)
def test_totals(net, columns):
    figures = summarise(nets.get(net), columns, 128).as_dict()
    by_op = [figures[op][figure] for op in ("conv2d", "linear") for figure in ("parameters", "macs")]
    assert (figures["parameters"], figures["macs"], *by_op) == TOTALS[net, columns]
    assert figures["parameters"] == figures["conv2d"]["parameters"] + figures["linear"]["parameters"]
    assert figures["macs"] == figures["conv2d"]["macs"] + figures["linear"]["macs"]


def test_the_totals_are_the_sums_of_the_layers():
    figures = summarise(nets.get("paper"), 2, 7).as_dict()
    for figure in ("parameters", "macs", "activation_bytes"):
        assert figures[figure] == sum(layer[figure] for layer in figures["layers"])
    assert len(figures["layers"]) == 2 * 22 - 1  # gathers are no layers


def test_the_crossings_are_the_plans():
    net = nets.get("paper")
    assert summarise(net, 2, 3).as_dict()["crossings"] == [asdict(each) for each in crossings(net.plan(2), 3)]
    assert summarise(net, 1, 3).as_dict()["crossings"] == []


def test_a_layer_reads_through_its_gather():
    rows = {(row.layer, row.column): row for row in summarise(nets.get("paper"), 2, 1).rows}
    assert rows["conv1", 1].reads == ("image",)
    assert rows["conv2", 1].reads == ("pool1@1",)
    assert rows["conv3", 0].reads == rows["conv3", 1].reads == ("pool2@0", "pool2@1")
    assert rows["fc8", 0].reads == ("drop7@0", "drop7@1")


def test_activations_count_the_batch_the_residuals_and_what_is_gathered():
    """Four bytes a number; LRN keeps its scale as well, pooling a byte for each winner."""
    for batch in (1, 5):
        for row in summarise(nets.get("paper"), 2, batch).rows:
            each = {"lrn": 8, "maxpool": 5}.get(row.op, 4)
            gathered = 4 * prod(row.input_shape) if len(row.reads) > 1 else 0
            assert row.activation_bytes == batch * (each * prod(row.output_shape) + gathered)


def test_averages_keep_nothing_and_normalisation_within_a_map_its_scale():
    rows = {row.layer: row for row in summarise(pooled_by_mean(), 2, 3).rows if row.column == 1}
    assert rows["rnorm1"].output_shape == rows["rnorm1"].input_shape == (4, 10, 8)
    assert rows["rnorm1"].activation_bytes == 3 * 8 * prod((4, 10, 8))
    assert (rows["pool2"].input_shape, rows["pool2"].output_shape) == ((3, 10, 8), (3, 5, 4))
    assert rows["pool2"].activation_bytes == 3 * 4 * prod((3, 5, 4))
    assert {rows[name].parameters + rows[name].macs for name in ("rnorm1", "pool2")} == {0}


def test_columns_that_do_not_divide_are_refused():
    with pytest.raises(ShapeError, match=r"conv1@0: its 32 .* 3 columns"):
        summarise(nets.get("digits"), 3, 1)


class TestJson:
    def test_it_is_one_object_with_every_figure(self, capsys):
        code, out, err = refnet(capsys, "--json")
        assert (code, err) == (0, "")
        figures = json.loads(out)
        assert figures == json.loads(json.dumps(summarise(nets.get("paper"), 2, 128).as_dict()))
        assert set(figures) == {
            "net", "columns", "batch", "parameters", "macs", "activation_bytes",
            "conv2d", "linear", "layers", "crossings",
        }  # fmt: skip
        assert (figures["net"], figures["columns"], figures["batch"]) == ("paper", 2, 128)
        assert figures["parameters"] == 60_965_224
        assert figures["macs"] == 724_406_816
        assert [crossing["nbytes"] for crossing in figures["crossings"]] == [
            11_075_584, 11_075_584, 2_359_296, 2_359_296, 1_048_576, 1_048_576, 1_048_576,
        ]  # fmt: skip

    @pytest.mark.parametrize(("net", "columns"), TOTALS)
    def test_net_columns_and_batch_are_heard(self, capsys, net, columns):
        code, out, _ = refnet(capsys, net, "--columns", str(columns), "--batch", "3", "--json")
        figures = json.loads(out)
        assert code == 0
        assert (figures["net"], figures["columns"], figures["batch"]) == (net, columns, 3)
        assert figures["parameters"] == TOTALS[net, columns][0]

    @pytest.mark.parametrize(("net", "columns"), [("paper", 2), ("half", 1), ("digits", 2)])
    def test_without_columns_the_recipe_says(self, capsys, net, columns):
        assert json.loads(refnet(capsys, net, "--json")[1])["columns"] == columns


def cells(out):
    """Cells of the printed table by layer. Columns lie two spaces apart or more; empty cells vanish."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    return {line[0]: line[1:] for line in lines if re.fullmatch(r"[a-z]+\d", line[0])}


class TestTable:
    def test_every_row_of_the_paper(self, capsys):
        code, out, err = refnet(capsys)
        assert (code, err) == (0, "")
        printed = cells(out)
        assert list(printed) == [layer.name for layer in nets.get("paper").layers]
        for layer, (reads, made_of, makes, *figures) in PRINTED.items():
            # The last but one cell, or the last where nothing crosses, is the activations.
            *row, activations = (
                printed[layer] if figures[-1] is None else [*printed[layer][:-2], *printed[layer][:-3:-1]]
            )
            assert row == [cell for cell in (reads, made_of, makes, *figures) if cell is not None], layer
            assert activations.endswith(" MB")

    def test_totals_and_crossings_of_the_paper(self, capsys):
        _, out, _ = refnet(capsys)
        text = re.sub(r"\s+", " ", out)
        assert "paper: 2 columns, batch 128" in text
        assert "total 60,965,224 parameters 724.4 MMAC/image" in text
        assert "convolutional 2,334,080 parameters 665.8 MMAC/image (3.8% of the parameters, 91.9% of the" in text
        assert "fully connected 58,631,144 parameters 58.6 MMAC/image (96.2% of the parameters, 8.1% of the" in text
        assert "the columns exchange 30.02 MB of activations forward" in text
        assert re.findall(r"\w+@\d -> \w+@\d [\d.]+ MB", text) == [
            "pool2@1 -> conv3@0 11.08 MB",
            "pool2@0 -> conv3@1 11.08 MB",
            "pool5@1 -> fc6@0 2.36 MB",
            "pool5@0 -> fc6@1 2.36 MB",
            "drop6@1 -> fc7@0 1.05 MB",
            "drop6@0 -> fc7@1 1.05 MB",
            "drop7@1 -> fc8@0 1.05 MB",
        ]

    def test_one_column(self, capsys):
        code, out, _ = refnet(capsys, "--columns", "1")
        assert code == 0
        assert "paper: 1 column, batch 128" in out
        assert "62,378,344" in out
        assert "exchange" not in out
        assert cells(out)["conv3"][:3] == ["own", "256x13x13", "384x13x13"]

    def test_half(self, capsys):
        code, out, _ = refnet(capsys, "half")
        assert code == 0
        assert "half: 1 column," in out
        assert "59,798,312" in out

    def test_digits(self, capsys):
        code, out, _ = refnet(capsys, "digits")
        assert code == 0
        assert "99,210" in out
        assert cells(out)["conv1"][:5] == ["image", "1x8x8", "2 x 16x8x8", "320", "0.018"]

    def test_memory_and_crossings_grow_with_the_batch(self, capsys):
        assert "fc6@0         2.36 MB" in refnet(capsys)[1]
        assert "fc6@0         4.72 MB" in refnet(capsys, "--batch", "256")[1]


class TestMistakes:
    @pytest.mark.parametrize(
        ("argv", "said"),
        [
            (
                ["papper"],
                "NET papper is not allowed; it must be one of digits, paper, half, cifar, fashion; did you mean paper?",
            ),
            (["--columns", "3"], "--columns 3 is not allowed; it must be a whole number from 1 to 2"),
            (["--columns", "0"], "--columns 0 is not allowed"),
            (["--columns", "-1"], "--columns -1 is not allowed"),
            (["--batch", "0"], "--batch 0 is not allowed; it must be a whole number of at least 1"),
            (["--columns", "two"], "--columns two is not allowed"),
            (["--colums=2"], "--colums is not an argument of refnet summary; did you mean --columns?"),
        ],
    )
    def test_one_line_and_exit_code_2(self, capsys, argv, said):
        code, out, err = refnet(capsys, *argv)
        assert (code, out) == (2, "")
        assert err.startswith(f"refnet: {said}")
        assert err.count("\n") == 1
