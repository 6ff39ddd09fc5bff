"""Pictures of runs, TensorBoard's files, and the curve in a terminal."""

import builtins
import io
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

import refnet
from refnet.cli.main import main
from refnet.errors import ConfigError
from refnet.pictures import fonts
from refnet.pictures.plot import KINDS
from refnet.terminal.progress import Live, Plain
from refnet.terminal.sparkline import MIN_BLOCKS, Sparkline


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "tiny"
    argv = ["train", "--json", "--run-dir", str(run), "--max-steps", "12", "--backend", "numpy", "--tensorboard"]
    assert main(argv) == 0
    return run


@pytest.fixture
def lacks(monkeypatch):
    def without(package):
        true = builtins.__import__

        def absent(name, *rest, **named):
            if name.partition(".")[0] == package:
                raise ImportError(name)
            return true(name, *rest, **named)

        monkeypatch.setattr(builtins, "__import__", absent)

    return without


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["png", "svg"])
def test_every_picture_is_drawn(trained, tmp_path, capsys, kind, form):
    out = tmp_path / f"out.{form}"
    assert main(["plot", kind, str(trained), "-o", str(out), "--backend", "numpy"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    if form == "png":
        with Image.open(out) as picture:
            assert len(picture.convert("L").getcolors()) > 10
    else:
        assert "</svg>" in out.read_text()


def test_curves_of_several_runs_are_named(trained, tmp_path):
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        assert main(["plot", "curves", str(trained), str(trained), "-o", str(tmp_path / "a.svg")]) == 0
    assert (tmp_path / "a.svg").read_text().count(">tiny<") == 2


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "curves"])
def test_several_runs_stand_below_one_another(trained, tmp_path, kind):
    sizes = []
    for runs in ([trained], [trained, trained]):
        out = tmp_path / f"{len(runs)}.png"
        assert main(["plot", kind, *map(str, runs), "-o", str(out), "--backend", "numpy"]) == 0
        with Image.open(out) as picture:
            sizes.append(picture.size)
    (width, height), (both_width, both_height) = sizes
    assert both_width == width
    assert both_height >= 2 * height


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["kernels", "RUN", "-o", "x.jpg"], "must end in .png or .svg"),
        (["activations", "RUN", "--image", "360"], "--image 360 does not exist"),
        (["curves", "RUN", "nowhere"], "nowhere is not a run folder (no config.toml)"),
        (["curves", "RUN", "-o", "."], ". cannot be written: it is a folder; name a file with -o"),
        (["portrait", "RUN"], "KIND portrait is not allowed; it must be one of kernels, curves"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(trained, capsys, tmp_path, monkeypatch, argv, says):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", *[str(trained) if a == "RUN" else a for a in argv]]) == 2
    assert says in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_without_matplotlib_the_extra_is_named(trained, capsys, lacks):
    lacks("matplotlib")
    assert main(["plot", "curves", str(trained)]) == 2
    assert "pip install 'refnet[plots]'" in capsys.readouterr().err


def test_runs_whose_names_begin_with_an_underscore_are_named(trained, tmp_path):
    import matplotlib as mpl

    runs = [tmp_path / name for name in ("_lr1", "lr2", "_lr3")]
    for run in runs:
        shutil.copytree(trained, run)
    with mpl.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["plot", "curves", *map(str, runs), "-o", str(tmp_path / "a.svg")]) == 0
    svg = (tmp_path / "a.svg").read_text()
    assert [svg.count(f">{run.name}<") for run in runs] == [1, 1, 1]


@pytest.mark.parametrize("inherited", ["module://matplotlib_inline.backend_inline", "Qt4Agg", "nonsense"])
def test_an_inherited_backend_of_matplotlib_is_not_read(trained, tmp_path, inherited):
    argv = [sys.executable, "-m", "refnet", "plot", "curves", str(trained), "-o", str(tmp_path / "a.png")]
    done = subprocess.run(argv, env=os.environ | {"MPLBACKEND": inherited}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_account_without_a_home_folder(trained, tmp_path):
    """Nothing is said of the temporary folder that matplotlib then uses."""
    argv = [sys.executable, "-m", "refnet", "plot", "curves", str(trained), "-o", str(tmp_path / "a.png")]
    homeless = {"HOME": "/dev/null/home", "MPLCONFIGDIR": "/dev/null/none"}
    done = subprocess.run(argv, env=os.environ | homeless, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


NO_FOLDER = """
import sys, tempfile
def mkdtemp(**_):
    raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")
tempfile.mkdtemp = mkdtemp
from refnet.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_no_folder_can_be_written_to_but_the_one_named(trained, tmp_path):
    argv = [sys.executable, "-c", NO_FOLDER, "plot", "curves", str(trained), "-o", str(tmp_path / "a.png")]
    homeless = {"HOME": "/dev/null/home", "MPLCONFIGDIR": "/dev/null/none"}
    done = subprocess.run(argv, env=os.environ | homeless, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "refnet: matplotlib needs a folder for its list of fonts; set MPLCONFIGDIR to one that can be written to\n",
    )


def test_names_in_other_scripts(trained, tmp_path, capsys, monkeypatch):
    runs = [tmp_path / name for name in ("猫", "كلب")]
    for run in runs:
        shutil.copytree(trained, run)
    argv = ["plot", "curves", *map(str, runs), "-o", str(tmp_path / "a.png")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(fonts, "_fonts", lambda: iter([("cmr10", {"x"})]))
        assert main(argv) == 0
        assert capsys.readouterr().err.startswith("note: no font here has 猫; install one")
        monkeypatch.setattr(fonts, "_fonts", lambda: iter([("STIXGeneral", {"猫"}), ("cmr10", {"猫"})]))
        assert main(argv) == 0
        assert capsys.readouterr().err == ""


def test_a_text_gets_a_font_that_has_its_characters(monkeypatch):
    from matplotlib.figure import Figure

    monkeypatch.setattr(fonts, "_fonts", lambda: iter([("cmr10", {"x"}), ("STIXGeneral", {"猫"})]))
    figure = Figure()
    text = figure.text(0, 0, "猫狗")
    assert fonts.choose(figure) == "狗"
    assert text.get_fontfamily() == ["DejaVu Sans", "STIXGeneral"]


def test_the_fonts_that_are_here_are_read():
    assert "e" in dict(fonts._fonts())["STIXGeneral"]


# TensorBoard


def test_event_files_hold_the_metrics(trained):
    from refnet.runs import history

    told = list(events(trained))
    loss = [value for tag, step, value in told if tag == "loss/training"]
    assert loss == pytest.approx(history.read(trained).steps["loss"].tolist())
    assert {tag for tag, _, _ in told} >= {"lr", "images_per_second", "top1_error/validation", "loss/test"}
    assert [step for tag, step, _ in told if tag == "lr"] == list(range(1, 13))


def test_without_tensorboardx_nothing_is_begun(tmp_path, capsys, lacks):
    lacks("tensorboardX")
    assert main(["train", "--run-dir", str(tmp_path / "run"), "--tensorboard"]) == 2
    assert "pip install 'refnet[tensorboard]'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"tensorboard needs tensorboardX; install it with: pip install"):
        refnet.train(run_dir=str(tmp_path / "run"), tensorboard=True, progress=False)
    assert not (tmp_path / "run").exists()


def events(run):
    """Read the files' records: length (8 bytes), its checksum (4), an event, its checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted((run / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            event, content = Event.FromString(content[12 : 12 + length]), content[16 + length :]
            for value in event.summary.value:
                yield value.tag, event.step, value.simple_value


# The terminal


def test_a_sparkline_is_short_and_falls_as_the_figures_do():
    curve = Sparkline()
    assert str(curve) == ""
    for figure in range(10_000):
        curve.add(-figure)
        curve.add(float("nan"))
        assert len(str(curve)) < 2 * MIN_BLOCKS if figure > 2 * MIN_BLOCKS else True
    assert str(curve)[0] == "█"
    assert str(curve)[-1] == "▁"
    assert list(str(curve)) == sorted(str(curve), reverse=True)


def test_a_sparkline_of_equal_figures_is_flat():
    curve = Sparkline()
    for _ in range(3):
        curve.add(2.0)
    assert str(curve) == "▁▁▁"


def test_a_terminal_shows_the_detail_and_lines_do_not():
    live, plain = io.StringIO(), io.StringIO()
    console = Console(file=live, force_terminal=True, width=100, color_system=None, _environ={})
    for show in (Live(console), Plain(plain, every=0)):
        with show.task("epoch 1", 3) as advance:
            advance(1, remark="loss 1.0", detail="▇▁  error 2.00%")
    assert "loss 1.0  ▇▁  error 2.00%" in live.getvalue()
    assert plain.getvalue() == "epoch 1: 1/3 loss 1.0\n"
