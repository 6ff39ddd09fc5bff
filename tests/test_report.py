"""The page of a run: its contents, that it loads no other file, and that names are escaped."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from networks import pooled_by_mean

from refnet import nets
from refnet.cli.main import main
from refnet.data.fingerprint import fingerprint
from refnet.data.opening import open_dataset
from refnet.evaluation import responses as responding
from refnet.evaluation.labelled import open_labelled
from refnet.evaluation.neighbours import nearest
from refnet.evaluation.trained import open_trained
from refnet.pictures import curves, drawing, kernels
from refnet.pictures.charts import Chart, Line
from refnet.pictures.page import esc
from refnet.runs import generations, history
from refnet.terminal.progress import Quiet

SECTIONS = [
    "The network",
    "Training",
    "First-layer kernels",
    "Confusion",
    "Predictions",
    "Nearest neighbours",
    "Configuration",
    "Environment",
]
VOID = {"meta", "img"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "tiny"
    assert main(["train", "--json", "--run-dir", str(run), "--max-steps", "30", "--backend", "numpy"]) == 0
    return run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def report(tmp_path, capsys):
    def write(run, *argv):
        capsys.readouterr()
        out = tmp_path / "page.html"
        assert main(["report", str(run), "-o", str(out), "--backend", "numpy", *argv]) == 0
        assert capsys.readouterr().out == f"{out}\n"
        return out.read_text()

    return write


class Balanced(HTMLParser):
    """Counts tags that are not closed, and collects headings and what is loaded."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.loaded, self.tags = [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loaded += [value for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, _):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_a_page_has_every_section_and_loads_nothing(run, report):
    page = Balanced(report(run))
    assert page.headings == SECTIONS
    assert page.open == []
    assert page.loaded
    assert all(url.startswith("data:image/png;base64,") for url in page.loaded)
    assert not page.tags & {"script", "link", "iframe", "object"}


def test_the_page_lies_in_the_run_where_no_other_place_is_named(run, capsys):
    assert main(["report", str(run), "--backend", "numpy"]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def test_a_run_without_a_checkpoint_has_a_page_that_says_so(run, report):
    shutil.rmtree(run / "checkpoints")
    text = report(run)
    assert "has no checkpoint" in text
    assert "<title>digits on digits</title>" in text
    assert Balanced(text).headings == ["The network", "Training", "Configuration", "Environment"]


def test_a_run_whose_data_are_gone_has_a_page_that_says_so(run, report, checkpoint_of):
    found = checkpoint_of(config={"data": "/nowhere/at/all"})
    for path in generations.listed(run):
        path.unlink()
    generations.save(run, found)
    text = report(run)
    assert "/nowhere/at/all" in text
    assert Balanced(text).headings == [
        s for s in SECTIONS if s not in {"Confusion", "Predictions", "Nearest neighbours"}
    ]


def test_a_network_that_has_diverged_has_a_page_that_says_so(run, report, checkpoint_of):
    found = checkpoint_of()
    for a in found.params.values():
        a[...] = np.float32(3e38)
    for path in generations.listed(run):
        path.unlink()
    generations.save(run, found)
    with np.errstate(over="ignore", invalid="ignore"):
        text = report(run)
    assert "is not finite" in text
    assert Balanced(text).headings == [
        s for s in SECTIONS if s not in {"Confusion", "Predictions", "Nearest neighbours"}
    ]


def test_names_from_outside_stay_text(run, report):
    evil = "<script>alert(1)</script>\"'&"
    config = (run / "config.toml").read_text().replace('net = "digits"', f"net = {json.dumps(evil)}")
    (run / "config.toml").write_text(config)
    (run / "environment.json").write_text(json.dumps({evil: evil}))
    text = report(run)
    assert "script" not in Balanced(text).tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;" in text


def test_esc_takes_out_what_html_and_terminals_would_follow():
    assert esc('<a b="c">\x1b[0m\u202e') == "&lt;a b=&quot;c&quot;&gt;\\x1b[0m\\u202e"


def test_a_page_is_not_written_over_a_folder(tmp_path, capsys):
    assert main(["report", str(tmp_path), "-o", str(tmp_path)]) == 2
    assert f"{tmp_path} cannot be written: it is a folder; name a file with -o" in capsys.readouterr().err


def test_what_is_no_run_is_an_error(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_metrics_that_are_cut_or_strange_are_left_out(tmp_path):
    good = {"kind": "step", "step": 1, "loss": 2.0, "lr": 0.1, "images": 32, "seconds": 0.5}
    strange = [
        good | {"loss": "2"},
        good | {"loss": float("nan")},
        good | {"loss": 10**400},
        good | {"kind": 3},
        [good],
    ]
    lines = [json.dumps(line) for line in (good, *strange, [good], good | {"step": 2, "loss": 1.0})]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"kind": "st')
    found = history.read(tmp_path)
    assert found.steps["loss"].tolist() == [2.0, 1.0]
    assert found.speed()[1].tolist() == [64.0, 64.0]
    assert all(len(figures) == 0 for figures in found.epochs.values())


def test_long_curves_are_means_of_stretches():
    steps = {name: np.arange(1000.0) for name in history.STEP}
    x, y = history.History(steps, {}).smooth("loss")
    assert len(x) == history.MAX_POINTS
    assert x.tolist() == y.tolist()
    assert y[0] == np.arange(5).mean()


def test_runs_in_one_picture_are_means_over_stretches_of_one_length():
    short = history.History({name: np.arange(100.0) for name in history.STEP}, {})
    assert len(short.smooth("loss")[0]) == 100
    assert len(short.smooth("loss", other_steps=1000)[0]) == 24
    assert len(short.speed(other_steps=1000)[1]) == 24
    assert len(short.smooth("loss", other_steps=10**9)[0]) == 1
    assert len(history.History({name: np.array([]) for name in history.STEP}, {}).smooth("loss", other_steps=5)[0]) == 0


def test_the_learning_rate_falls_at_once():
    steps = {"step": np.arange(1.0, 1001.0), "lr": np.repeat([0.1, 0.01, 0.001], [500, 499, 1])}
    x, y = history.History(steps, {}).rate()
    assert x.tolist() == [1, 500, 501, 999, 1000]
    assert y.tolist() == [0.1, 0.1, 0.01, 0.01, 0.001]
    assert history.History({"step": np.array([]), "lr": np.array([])}, {}).rate()[0].tolist() == []


def test_a_curve_lies_between_its_ticks():
    line = Line("a", np.array([0.0, 10.0]), np.array([0.0, 4.0]))
    points = re.search(r'points="([^"]+)"', curves.svg(Chart("t", [line], "x")))[1].split()
    bottom, top = curves.HEIGHT - curves.BOTTOM, curves.TOP
    assert points == [f"{curves.LEFT:.1f},{bottom:.1f}", f"{curves.WIDTH - curves.RIGHT:.1f},{top:.1f}"]
    assert "No values yet" in curves.svg(Chart("t", [Line("a", np.array([]), np.array([]))], "x"))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.02, 0.44), (-3, 7), (5, 5), (0, 0), (1, 1066)])
def test_ticks_enclose_the_range(low, high):
    found = curves.ticks(low, high, 4)
    assert found[0] <= low
    assert found[-1] >= high
    assert 2 <= len(found) <= 7


@pytest.mark.parametrize(("net", "columns", "crossing"), [("digits", 2, 5), ("digits", 1, 0), ("paper", 2, 7)])
def test_the_drawing_has_a_line_for_each_array_that_crosses(net, columns, crossing):
    text = drawing.draw(nets.get(net).plan(columns))
    assert text.count('class="cross"') == crossing
    assert ("column1" in text) == (columns == 2)


def test_the_drawing_names_the_layers_after_each_convolution():
    text = drawing.draw(pooled_by_mean().plan(2))
    assert text.count("pool · relu · rnorm<") == text.count("relu · avg · rnorm<") == text.count("relu · avg<") == 2


def test_the_colour_share_tells_grey_from_colour():
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.normal(size=(8, 1, 5, 5)), 3, axis=1)
    opponent = rng.normal(size=(8, 3, 5, 5))
    opponent -= opponent.mean(axis=1, keepdims=True)
    random = rng.normal(size=(500, 3, 5, 5))
    share = {name: kernels.Kernels("c", 0, w).colour for name, w in [("g", grey), ("o", opponent), ("r", random)]}
    assert share["g"] == pytest.approx(0, abs=1e-12)
    assert share["o"] == pytest.approx(1)
    assert share["r"] == pytest.approx(2 / 3, abs=0.02)
    assert kernels.Kernels("c", 0, grey[:, :1]).colour is None


def test_a_grid_has_every_tile_in_its_place():
    tiles = np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2)
    assert kernels.grid(tiles, 2, gap=1, ground=9)[..., 0].tolist() == [
        [0, 0, 9, 1, 1],
        [0, 0, 9, 1, 1],
        [9, 9, 9, 9, 9],
        [2, 2, 9, 9, 9],
        [2, 2, 9, 9, 9],
    ]


def test_looking_gives_the_errors_that_the_run_was_tested_with(run):
    net = open_trained(run, "numpy")
    data = open_labelled(net, Quiet())
    seen = responding.respond(net, data.test, np.arange(len(data.test)), Quiet())
    assert fingerprint(data) == net.facts.data.fingerprint
    assert seen.p.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert seen.hidden.shape == (360, 128)
    counts = seen.confusion()
    tested = json.loads((run / "result.json").read_text())["test_top1_error"]
    assert 1 - np.trace(counts) / counts.sum() == pytest.approx(tested)
    assert (
        counts.sum(axis=1).tolist()
        == np.bincount(open_dataset("digits", image_size=10, channels=1).test.labels).tolist()
    )


def test_best_and_worst_are_the_ends_of_the_truths_probability():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.5, 0.5]], np.float32)
    seen = responding.Responses(np.arange(4), np.array([0, 0, 0, 0]), p, p)
    best, worst = seen.best_and_worst(1)
    assert (best.tolist(), worst.tolist()) == ([0], [1])


def test_nearest_is_by_distance_with_the_first_of_those_that_tie():
    features = np.array([[0, 0], [3, 0], [1, 0], [1, 0]], np.float32)
    assert nearest(np.array([1, 0.1], np.float32), features, 3).indices.tolist() == [2, 3, 0]
