"""The parts of ``refnet bench``: rounds, peaks, fingerprints, layers, contenders, results, PyTorch's networks."""

import json
import subprocess
import sys
from dataclasses import replace
from math import prod

import numpy as np
import pytest

from refnet import nets, typed_json
from refnet.backend.loading import load
from refnet.backend.wrapped import Tapped
from refnet.bench import earlier, figures, machine, report, step, timing
from refnet.bench.contender import Spec, contender, forget_peak, peak_bytes
from refnet.bench.machine import Peak, differences
from refnet.bench.ops import DATA, WEIGHT, BackendLayers, LayerTiming, has_halves, time_ops
from refnet.bench.step import Entry
from refnet.bench.timing import Timing, in_rounds, timed
from refnet.errors import BackendUnavailableError, ConfigError
from refnet.network import passes
from refnet.network.fuse import fuse
from refnet.network.initial import initialise
from refnet.network.walk import RANDOM_KEY, images_of, walk
from refnet.terminal.progress import Quiet

DIGITS = nets.get("digits")
PLAN = DIGITS.plan(2)
PEAK = Peak(1e11, 1e10, "NumPy")
SPEC = Spec("numpy", "digits", 2, 4, 1)


pytestmark = pytest.mark.usefixtures("one_thread")


# Timing --------------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only when work is done."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def work(self, *seconds):
        """Make work that takes so long the first time, the second time, ..., and the last from then on."""
        remaining = list(seconds)

        def work():
            self.now += remaining.pop(0) if len(remaining) > 1 else remaining[0]

        return work


class TestTiming:
    def test_long_work_is_done_once(self, monkeypatch):
        clock = Clock(monkeypatch)
        assert timed(clock.work(3.0, 100.0)) == 3
        assert clock.now == 3

    def test_short_work_is_repeated(self, monkeypatch):
        clock = Clock(monkeypatch)
        assert timed(clock.work(0.25), min_seconds=1) == 0.25
        assert clock.now == 0.25 * (1 + 4)

    def test_rounds_are_taken_in_turn_after_a_warm_up(self, monkeypatch):
        order = []
        works = {name: lambda name=name: order.append(name) for name in "ab"}
        monkeypatch.setattr(timing, "timed", lambda work: work() or 1.0)
        assert in_rounds(works, 2) == {"a": Timing(1, 1), "b": Timing(1, 1)}
        assert "".join(order) == "ab" + "abab"

    def test_the_warm_up_does_not_count(self, monkeypatch):
        clock = Clock(monkeypatch)
        assert in_rounds({"a": clock.work(50.0, 1.0, 4.0, 2.0)}, 3) == {"a": Timing(1, 2)}

    def test_a_difference_below_zero_is_noise(self):
        assert Timing(3, 4) - Timing(1, 1) == Timing(2, 3)
        assert Timing(3, 4) - Timing(3, 1) is None


# The machine ---------------------------------------------------------------------------------------------------------


class TestMachine:
    def test_peaks(self, monkeypatch):
        monkeypatch.setattr(machine, "MATRIX_SIZE", 64)
        monkeypatch.setattr(machine, "COPIED_BYTES", 1 << 16)
        peak = machine.measure(1)
        assert peak.flops > 1e6
        assert peak.bandwidth > 1e6
        assert peak.product in {"NumPy", "PyTorch"}
        assert json.loads(json.dumps(peak.as_dict())) == peak.as_dict()

    def test_without_torch(self, monkeypatch):
        monkeypatch.setattr(machine, "MATRIX_SIZE", 64)
        monkeypatch.setitem(sys.modules, "torch", None)
        assert not machine.has_torch()
        assert machine.measure(1).product == "NumPy"

    def test_what_limits_is_what_takes_longer(self):
        assert PEAK.seconds(1e11, 1e9) == 1
        assert PEAK.seconds(1e10, 2e10) == 2

    def test_fingerprint(self):
        found = machine.fingerprint([1, 2], {"NUMBA_OPT": "1", "OPENBLAS_CORETYPE": "Haswell", "HOME": "/"})
        assert found["threads"] == [1, 2]
        assert found["numpy"] == np.__version__
        assert found["variables"] == {"NUMBA_OPT": "1", "OPENBLAS_CORETYPE": "Haswell"}
        assert json.loads(json.dumps(found)) == found

    def test_differences_have_both_values(self):
        assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ["b was 2 and is 3", "c was None and is 4"]
        assert differences({"a": [1]}, {"a": [1]}) == []


# Layers --------------------------------------------------------------------------------------------------------------


class TestWalk:
    @pytest.mark.parametrize("plan", [PLAN, fuse(PLAN)], ids=["plain", "fused"])
    def test_visits_the_activations_of_a_training_pass(self, plan):
        backend = load("numpy", columns=2)
        visits = {visit.node.name: visit for visit in walk(plan, backend, 3)}
        assert list(visits) == [node.name for node in plan.nodes]
        params = passes.place_params(plan, initialise(plan, 0), backend)
        tape = passes.forward(
            plan, params, passes.place(plan, images_of(plan, 3), backend), backend, random_key=RANDOM_KEY
        )
        last = visits[plan.nodes[-1].name]
        np.testing.assert_array_equal(last.run(backend)()[0], tape.output)
        for visit in visits.values():
            assert [a.shape for a in visit.inputs] == [(3, *shape) for shape in visit.node.shapes]
            assert visit.dy.shape == (3, *visit.node.shape)

    def test_tapped_notes_calls_and_changes_nothing(self):
        backend = load("numpy", columns=2)
        tapped = Tapped(backend)
        x = np.ones((2, 3), np.float32)
        np.testing.assert_array_equal(tapped.relu.forward(x), x)
        (call,) = tapped.calls
        assert (call.op, call.function, list(call.arguments)) == ("relu", "forward", ["x"])
        assert call.results[0].shape == (2, 3)
        assert tapped.columns == 2


@pytest.fixture(scope="module")
def rows():
    plan = fuse(PLAN)
    backend = load("numpy", columns=2)
    return {(row.layer, row.direction): row for row in time_ops(plan, 4, backend, [BackendLayers(backend)], 1, Quiet())}


class TestLayers:
    def test_there_is_a_row_for_every_layer_of_column_0_and_both_directions(self, rows):
        names = [node.name.partition("@")[0] for node in fuse(PLAN).nodes if node.column == 0]
        for name in (*names, "loss"):
            assert rows[name, "forward"].timings["numpy"].minimum > 0
            assert rows[name, "backward"].timings["numpy"].minimum > 0
        assert rows["update", "update"].timings["numpy"].minimum > 0

    def test_convolutions_that_do_not_read_the_image_have_halves(self, rows):
        assert {layer for layer, direction in rows if direction == WEIGHT} == {"conv2", "conv3", "conv4"}
        assert {layer for layer, direction in rows if direction == DATA} == {"conv2", "conv3", "conv4"}

    def test_operations_and_bytes(self, rows):
        (conv,) = (node for node in PLAN.nodes if node.name == "conv2@0")
        macs = prod(conv.params["w"]) * prod(conv.shape[1:]) * 4
        x, w, b, y = (
            4 * size for size in (4 * prod(conv.shapes[0]), *map(prod, conv.params.values()), 4 * prod(conv.shape))
        )
        found = {direction: rows["conv2", direction] for direction in ("forward", "backward", DATA, WEIGHT)}
        assert [row.flops for row in found.values()] == [2 * macs, 4 * macs, 2 * macs, 2 * macs]
        assert [row.nbytes for row in found.values()] == [
            x + w + b + y,
            (y + y + x + w) + (x + w + b),  # dy and y, since ReLU is joined to it
            (y + y + w) + x,
            (y + y + x) + (w + b),
        ]
        assert rows["conv1", "backward"].flops == rows["conv1", "forward"].flops  # no gradient of the pixels
        assert rows["norm1", "forward"].flops == 0
        assert rows["norm1", "forward"].nbytes == 3 * 4 * 4 * prod((16, 8, 8))  # x, y and scale

    def test_the_faster_of_one_name_counts(self):
        class Twice(BackendLayers):
            def layer(self, visit):
                works = super().layer(visit)
                return {direction: lambda work=work: (work(), work(), work()) for direction, work in works.items()}

        backend = load("numpy", columns=2)
        both = [BackendLayers(backend), Twice(backend)]
        found = time_ops(fuse(PLAN), 4, backend, both, 2, Quiet())
        assert {tuple(row.timings) for row in found if row.direction == "forward"} == {("numpy",)}

    def test_what_has_halves(self):
        by_name = {node.name: node for node in PLAN.nodes}
        assert [name for name, node in by_name.items() if has_halves(node) and node.column == 0] == [
            "conv2@0",
            "conv3@0",
            "conv4@0",
        ]


# Contenders ----------------------------------------------------------------------------------------------------------


class TestContenders:
    @pytest.mark.parametrize("name", ["numpy", "numba", "torch-eager"])
    @pytest.mark.parametrize("net", ["digits"])
    def test_all_compute_the_same_scores(self, name, net):
        expected = contender(replace(SPEC, net=net)).forward()
        for layout in ("nchw", "nhwc") if name.startswith("torch") else ("",):
            found = contender(replace(SPEC, net=net, contender=name, layout=layout)).forward()
            assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()

    def test_the_paper_in_torch(self):
        """At full size: 224 pixels with windows over the edge, grouped convolutions, normalisation in each column."""
        spec = replace(SPEC, net="paper", batch=2)
        expected = contender(replace(spec, contender="numba")).forward()
        found = contender(replace(spec, contender="torch-eager", layout="nchw")).forward()
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()

    @pytest.mark.parametrize("name", ["numpy", "torch-eager"])
    def test_training_changes_the_parameters(self, name):
        built = contender(replace(SPEC, contender=name))
        before = built.forward().copy()
        for _ in range(3):
            built.train()
        after = built.forward()
        assert 0 < np.abs(after - before).max() < 0.1

    def test_compiled(self, monkeypatch):
        import torch

        compiled = []
        monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
        contender(replace(SPEC, contender="torch-eager"))
        assert not compiled
        contender(replace(SPEC, contender="torch-compiled"))
        assert len(compiled) == 1

    def test_without_torch(self, monkeypatch):
        monkeypatch.delitem(sys.modules, "refnet.bench.torch_peer", raising=False)
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(BackendUnavailableError, match="torch-eager needs PyTorch"):
            contender(replace(SPEC, contender="torch-eager"))

    def test_a_layer_that_the_peer_lacks(self):
        from refnet.bench.torch_peer import Peer
        from refnet.network.plan import Layer

        net = replace(DIGITS, layers=(replace(DIGITS.layers[0], op="conv9d"), *DIGITS.layers[1:]))
        plan = replace(
            PLAN, nodes=tuple(replace(s, layer=net.layers[0]) if s.layer == DIGITS.layers[0] else s for s in PLAN.nodes)
        )
        with pytest.raises(BackendUnavailableError, match="conv9d in 1 columns has no"):
            Peer(net, plan, initialise(PLAN, 0))
        assert isinstance(net.layers[0], Layer)

    def test_layers_in_torch(self):
        from refnet.bench.torch_peer import TorchLayers

        backend = load("numpy", columns=2)
        for visit in walk(fuse(PLAN), backend, 3):
            works = TorchLayers(1, "nhwc").layer(visit)
            if visit.node.layer.op == "gather":
                assert not works
                continue
            y, backprop = visit.run(backend, None if visit.node.layer.op == "dropout" else RANDOM_KEY)()
            if visit.node.layer.op == "dropout":
                continue  # drawn otherwise there
            np.testing.assert_allclose(works["forward"]().detach().numpy(), y, rtol=1e-4, atol=1e-4 * np.abs(y).max())
            to_inputs, to_params = backprop(visit.dy)
            expected = [a for a in (*to_inputs, *to_params.values()) if a is not None]
            for mine, theirs in zip(works["backward"](), expected, strict=True):
                np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())

    def test_peak_memory(self):
        forget_peak()
        before = peak_bytes()
        held = np.ones(1 << 25)
        after = peak_bytes()
        assert after - before > 0.9 * held.nbytes
        del held
        forget_peak()
        assert peak_bytes() < after - 0.5 * (1 << 28)


class TestProcesses:
    def test_all_in_turn(self):
        wanted = step.specs("digits", 2, ["numpy", "torch-eager"], [4], [1])
        assert [(spec.contender, spec.layout) for spec in wanted] == [
            ("numpy", ""),
            ("torch-eager", "nchw"),
            ("torch-eager", "nhwc"),
        ]
        entries = step.time_steps(wanted[:2], 1, Quiet())
        assert [entry.spec for entry in entries] == wanted[:2]
        for entry in entries:
            assert entry.forward.minimum > 0
            assert entry.training.minimum > 0
            assert entry.peak_bytes > 20e6
        assert entries[1].peak_bytes > 2 * entries[0].peak_bytes  # PyTorch itself

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"contender": "nunpy"}, BackendUnavailableError, "nunpy, batch 4, 1 thread: backend nunpy is not known"),
            ({"net": "digit"}, ConfigError, "net digit is not known"),
            ({"contender": "numba", "threads": 999}, ConfigError, "threads=999 is more than backend numba has"),
        ],
        ids=str,
    )
    def test_one_that_cannot_run(self, change, error, message):
        with pytest.raises(error, match=message):
            step.time_steps([replace(SPEC, **change)], 1, Quiet())

    def test_one_that_dies(self, monkeypatch):
        program = "import sys; print('no space left', file=sys.stderr); sys.exit(3)"
        start = subprocess.Popen
        monkeypatch.setattr(
            step.subprocess, "Popen", lambda _, **options: start([sys.executable, "-c", program], **options)
        )
        with pytest.raises(BackendUnavailableError, match=r"its process ended \(3\): no space left"):
            step.time_steps([SPEC], 1, Quiet())

    def test_one_that_is_killed(self, monkeypatch):
        program = "import os; os.kill(os.getpid(), 9)"
        start = subprocess.Popen
        monkeypatch.setattr(
            step.subprocess, "Popen", lambda _, **options: start([sys.executable, "-c", program], **options)
        )
        with pytest.raises(BackendUnavailableError, match=r"ended \(-9\); if memory ran out"):
            step.time_steps([SPEC], 1, Quiet())

    def test_what_libraries_print_is_no_answer(self, tmp_path, monkeypatch):
        (tmp_path / "sitecustomize.py").write_text(CHATTY)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        (found,) = step.time_steps([SPEC], 1, Quiet())
        assert found.training.minimum > 0


CHATTY = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "refnet.training.loop":
            print("from a library", flush=True)
            os.write(1, b"from its C part")

sys.meta_path.insert(0, Finder())
"""


# Figures -------------------------------------------------------------------------------------------------------------


def entry(name, training, forward, *, layout="", batch=100, threads=2, memory=1.0):
    spec = Spec(name, "digits", 2, batch, threads, layout)
    return Entry(spec, Timing(training, 2 * training), Timing(forward, forward), int(memory * 1e9))


ENTRIES = [
    entry("numpy", 8.0, 4.0, memory=3),
    entry("numba", 1.0, 0.5, memory=2),
    entry("torch-eager", 4.0, 1.0, layout="nchw", memory=5),
    entry("torch-eager", 2.0, 2.0, layout="nhwc", memory=4),
]
ROWS = [
    LayerTiming(
        "conv1", "conv2d", "forward", int(1e9), int(1e6), {"numba": Timing(0.1, 0.2), "numpy": Timing(0.4, 0.5)}
    ),
    LayerTiming(
        "conv1", "conv2d", "backward", int(1e9), int(1e6), {"numba": Timing(0.1, 0.2), "numpy": Timing(0.2, 0.5)}
    ),
    LayerTiming("conv1", "conv2d", WEIGHT, int(1e9), int(1e6), {"numba": Timing(9.0, 9.0), "numpy": Timing(9.0, 9.0)}),
    LayerTiming("pool1", "maxpool", "forward", 0, int(1e8), {"numba": Timing(0.1, 0.2)}),
]


def table(rows=ROWS, entries=ENTRIES, **changes):
    made = figures.Figures("digits", PLAN, 3, {"processor": "P", "threads": [2]}, PEAK, (100, 2), rows, entries)
    return replace(made, **changes)


class TestFigures:
    def test_rates_are_of_the_best_layout(self):
        found = table().as_dict()
        assert found["images_per_second"] == {
            "numpy": {"training": 12.5, "forward": 25},
            "numba": {"training": 100, "forward": 200},
            "torch-eager": {"training": 50, "forward": 100},
        }

    def test_ratios_to_the_best_of_torch(self):
        found = table().as_dict()["times_best_torch"]
        assert found["numba"] == {"training": 2, "forward": 2, "memory": 0.5}
        assert found["torch-eager"] == {"training": 1, "forward": 1, "memory": 1}
        assert table(entries=ENTRIES[:2]).as_dict()["times_best_torch"] == {}

    def test_rates_of_several_batches_are_in_the_rows_alone(self):
        found = table(entries=[*ENTRIES, entry("numba", 1.0, 1.0, batch=7)]).as_dict()
        assert "images_per_second" not in found
        assert [row["batch"] for row in found["steps"]] == [100] * 4 + [7]

    def test_a_layer(self):
        conv, *_, pool = table().as_dict()["ops"]
        assert conv["times_numpy"] == {"numba": 4, "numpy": 1}
        assert conv["contenders"]["numba"]["gflops_per_s"] == pytest.approx(10)
        assert conv["contenders"]["numba"]["share_of_peak"] == pytest.approx(0.1)
        assert pool["times_numpy"] == {}
        assert pool["contenders"]["numba"]["gbytes_per_s"] == pytest.approx(1)
        assert pool["contenders"]["numba"]["share_of_peak"] == pytest.approx(0.1)

    def test_operations_of_a_step(self):
        paper = table(plan=nets.get("paper").plan(2))
        forward, training = (paper.flops(128, what) for what in ("forward", "training"))
        assert forward == pytest.approx(128 * 2 * 724.4e6, rel=1e-4)
        assert training == pytest.approx(128 * 2 * (3 * 724.4e6 - 105.4e6), rel=1e-4)
        assert table(plan=fuse(nets.get("paper").plan(2))).flops(128, "training") == training

    def test_the_text_has_it_all(self):
        from rich.console import Console

        console = Console(width=250)
        with console.capture() as capture:
            for piece in report.tables(table()):
                console.print(piece)
        text = capture.get()
        assert "100 GFLOP/s in a float32 product by NumPy, 10.0 GB/s in a copy" in text
        lines = {tuple(line.split()[:2]): line.split() for line in text.splitlines()}
        assert lines["conv1", "forward"][2:] == ["1G", "1M", "100", "10", "0.0", "10%", "4.0", "400", "2", "0.0", "2%"]
        assert lines["pool1", "forward"][2:] == ["100M", "100", "1.0", "10%"]
        assert lines["sum", "300"][1:] == ["300", "3.0", "600"]  # without the half, and the ratio without the pool
        assert lines["numba", "100"][-4:] == ["x", "2.00", "x", "2.00"]

    def test_how_it_scales(self):
        several = [entry("numba", 2.0, 1.0, threads=1), entry("numba", 1.0, 1.0), entry("numba", 0.5, 1.0, batch=50)]
        told = list(report._scaling(several))
        assert told == [
            "numba: a training step of 100 is 2.00 times faster on 2 threads than on 1",
            "numba: milliseconds of training per image, by batch, with 2 threads: 50: 10.00, 100: 10.00",
        ]

    @pytest.mark.parametrize(("count", "text"), [(0, ""), (7, "7"), (999, "999"), (999.9, "1k"), (1.234e9, "1.23G")])
    def test_amounts(self, count, text):
        assert report._amount(count) == text


def then(**changed):
    return typed_json.check(earlier.Table, table(**changed).as_dict(), ignore_unknown=True)


class TestEarlier:
    def test_what_has_become_faster(self):
        now = table(entries=[entry("numba", 0.5, 1.0)]).as_dict()
        changes = {change["what"]: change for change in earlier.changes(then(), now)}
        assert changes["training, numba, batch 100, threads 2"] == {
            "what": "training, numba, batch 100, threads 2",
            "then": 1.0,
            "now": 0.5,
            "times_faster": 2.0,
        }
        assert changes["forward, numba, batch 100, threads 2"]["times_faster"] == 0.5
        assert changes["conv1 forward, numpy, batch 100, threads 2"]["times_faster"] == 1
        assert "training, numpy, batch 100, threads 2" not in changes

    def test_nothing_in_common(self):
        with pytest.raises(ConfigError, match="no row of this run"):
            earlier.changes(then(rows=[]), table(rows=[], entries=[entry("numba", 1.0, 1.0, batch=1)]).as_dict())

    def test_other_fingerprints_are_refused(self):
        before = then()
        earlier.require_comparable(before, {"processor": "P", "threads": [2]}, "digits", 2)
        with pytest.raises(ConfigError, match=r"processor was 'P' and is 'Q'; threads was .2. and is .1."):
            earlier.require_comparable(before, {"processor": "Q", "threads": [1]}, "digits", 2)
        with pytest.raises(ConfigError, match="net was 'digits' and is 'paper'"):
            earlier.require_comparable(before, {"processor": "P", "threads": [2]}, "paper", 2)

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            "[]",
            "3",
            "{}",
            '{"fingerprint": 1, "ops": [], "steps": []}',
            '{"fingerprint": {}, "ops": [{}], "steps": []}',
        ],
    )
    def test_files_that_are_no_table(self, tmp_path, content):
        path = tmp_path / "old.json"
        path.write_text(content)
        with pytest.raises(ConfigError, match="save one with refnet bench --json > FILE"):
            earlier.read(path)

    def test_a_table_is_read_back(self, tmp_path):
        path = tmp_path / "old.json"
        path.write_text(json.dumps(table().as_dict()))
        assert earlier.read(path) == then()
