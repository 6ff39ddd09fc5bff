"""Pictures of runs with matplotlib: first-layer kernels, curves, activations, neighbours, predictions."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refnet.data.dataset import Dataset
from refnet.data.parallel import Reading
from refnet.errors import ConfigError
from refnet.evaluation.labelled import open_labelled
from refnet.evaluation.responses import activations, evenly_spaced, respond
from refnet.evaluation.trained import Floats, Trained, open_trained
from refnet.machine.compiling import noted
from refnet.pictures import fonts, neighbours
from refnet.pictures.charts import charts
from refnet.pictures.kernels import first_kernels, grid
from refnet.pictures.predictions import predictions
from refnet.pictures.thumbnails import thumbnails
from refnet.runs import directory, history
from refnet.terminal.printable import printable
from refnet.terminal.progress import Show
from refnet.terminal.spelling import setting

EXAMPLES = 4  # of the best and of the worst predictions
MAX_MAPS = 32  # of a layer in a column
Size = tuple[float, float]  # inches
Labelled = Callable[[], Dataset]  # opens the images
COLOURS = ("#1f5fa8", "#b8520a", "#1d7a5f", "#7a3e9d", "#8a6d00", "#a02840")
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9299",
    "axes.grid": True,
    "grid.color": "#e4e2dd",
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "font.size": 10,
    "text.parse_math": False,  # a folder's name is not a formula
    "svg.hashsalt": "refnet",  # so that the same picture is the same file
}


def plot(
    kind: str,
    runs: Sequence[Path],
    output: Path,
    show: Show,
    *,
    backend: str = "auto",
    image: int = 0,
    data: str | None = None,
    reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
) -> None:
    """Draw a picture of one or several runs to a PNG or SVG file.

    Parameters
    ----------
    image
        Index of the test image whose activations are drawn.
    data
        The new place of the images that a run was trained on, or other labelled images.
    reading
        How images are read.

    Raises
    ------
    ConfigError
        Matplotlib is not installed, or the file's name ends in neither .png nor .svg; or, for curves, a path is not a
        run folder.
    """
    with figure_to(output, show) as figure:
        from matplotlib.gridspec import GridSpec  # noqa: PLC0415 - an extra, which is there

        if kind == "curves":
            for run in runs:
                directory.configuration(run)
            figure.set_size_inches(_curves(figure, runs))
        else:
            rows, sizes = GridSpec(len(runs), 1, figure), list[Size]()
            for row, run in enumerate(runs):
                part = figure.add_subfigure(rows[row])
                trained = open_trained(run, backend)
                with noted(show, trained.backend):
                    labelled = partial(open_labelled, trained, show, what=data, reading=reading)
                    sizes.append(DRAWN[kind](part, trained, show, image, labelled))
                if len(runs) > 1:
                    part.suptitle(printable(run.resolve().name), x=0.01, ha="left", fontsize=13)
            widths, heights = zip(*sizes, strict=True)
            rows.set_height_ratios(heights)
            figure.set_size_inches(max(widths), sum(heights) + 0.4 * (len(runs) > 1) * len(runs))


def check_output(output: Path) -> None:
    """Raise ``ConfigError`` unless the file's name ends in .png or .svg and matplotlib is installed."""
    if output.suffix not in {".png", ".svg"}:
        raise ConfigError(f"-o {output} must end in .png or .svg")
    try:
        _import_matplotlib()
    except ImportError as error:
        raise ConfigError("a picture needs matplotlib; install it with: pip install 'refnet[plots]'") from error


def _import_matplotlib() -> None:
    """Import matplotlib, also where MPLBACKEND names a backend that is not there, as in a notebook's subprocess.

    Raises ``ConfigError`` where there is no folder that matplotlib can write to.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns where an account has no home folder, and uses a temporary one
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
        import matplotlib.font_manager  # noqa: PLC0415 - which reads or writes its cache
    except OSError as error:
        raise ConfigError(
            "matplotlib needs a folder for its list of fonts; set MPLCONFIGDIR to one that can be written to"
        ) from error
    finally:
        logger.setLevel(level)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):  # refnet needs no backend; the program that called it may
            mpl.rcParams["backend"] = backend


@contextmanager
def figure_to(output: Path, show: Show) -> Iterator[Any]:
    """Yield an empty figure in refnet's style, and write it when it has been drawn. Raises as `check_output` does."""
    check_output(output)
    import matplotlib as mpl  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(STYLE):
        figure = Figure(layout="constrained")
        yield figure
        metadata = {"Date": None} if output.suffix == ".svg" else {}
        lacking = fonts.choose(figure)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the note below names them
            figure.savefig(output, dpi=144, metadata=metadata)
    if lacking:
        show.say(f"note: no font here has {lacking}; install one that does, such as Noto Sans CJK for Chinese")


def _curves(figure: Any, runs: Sequence[Path]) -> Size:
    """Draw the curves of several runs into the same axes."""
    axes = figure.subplots(2, 2)
    histories = [history.read(run) for run in runs]
    longest = max(map(len, histories))
    for place, of_run in enumerate(histories):
        style = {"color": COLOURS[place % len(COLOURS)], "linewidth": 1.4}
        for axis, chart in zip(axes.flat, charts(of_run, longest), strict=True):
            solid, *dashed = chart.lines
            factor = 100 if chart.percent else 1
            axis.plot(solid.x, factor * solid.y, **style)
            for line in dashed:
                axis.plot(line.x, factor * line.y, **style | {"linestyle": "--"})
            other = "".join(f" (dashed: {line.label})" for line in dashed)
            axis.set_title(f"{chart.title}{', %' if chart.percent else ''}{other}")
            axis.set_xlabel(chart.x_label)
            if chart.log:
                axis.set_yscale("log")
                axis.yaxis.set_major_formatter("{x:g}")
                axis.yaxis.set_minor_formatter("")
            if chart.x_label == "epochs":
                axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes.flat:
        if axis.get_yscale() == "linear":
            axis.set_ylim(bottom=0)
    if len(runs) > 1:
        # Set last, since matplotlib leaves out a label that begins with an underscore.
        solid_lines = axes[0, 0].get_lines()[:: len(axes[0, 0].get_lines()) // len(runs)]
        legend = axes[0, 0].legend(solid_lines, list(map(str, range(len(runs)))), frameon=False)
        for text, run in zip(legend.get_texts(), runs, strict=True):
            text.set_text(printable(run.resolve().name))
    return 9, 6


def _kernels(figure: Any, trained: Trained, _show: Show, _index: int, _labelled: Labelled) -> Size:
    """Draw the kernels that read the image, column by column."""
    of_columns = first_kernels(trained)
    if not of_columns:
        raise ConfigError(f"net {trained.facts.spec.name} has no convolution that reads the image")
    across = 8
    rows = -(-len(of_columns[0].weights) // across)
    for axis, kernels in zip(np.atleast_1d(figure.subplots(1, len(of_columns))), of_columns, strict=True):
        tiles = kernels.tiles()
        _image(axis, grid(tiles, across, zoom=max(1, 40 // tiles.shape[1]), gap=3))
        share = "" if kernels.colour is None else f", colour share {kernels.colour:.2f}"
        axis.set_title(f"{kernels.layer}, column {kernels.column}{share}")
    return 4.4 * len(of_columns), 0.55 * rows + 0.35


def _activations(figure: Any, trained: Trained, _: Show, image: int, labelled: Labelled) -> Size:
    """Draw the activations of every layer before the fully connected ones for one test image, column by column."""
    data = labelled()
    if not 0 <= image < len(data.test):
        raise ConfigError(f"{setting('image', image)} does not exist; the test images are 0 to {len(data.test) - 1}")
    maps_of = activations(trained, data.test, image)
    layers = list(
        dict.fromkeys(name.partition("@")[0] for name in maps_of if name.startswith(("relu", "tanh", "norm", "pool")))
    )
    columns = trained.plan.columns
    axes = figure.subplots(len(layers), columns + 1, squeeze=False, width_ratios=[1.2, *[5] * columns])
    for axis in axes[1:, 0]:
        axis.set_axis_off()
    _image(axes[0, 0], thumbnails(data.test, [np.int64(image)])[image])
    axes[0, 0].set_title(printable(data.captions[data.test.labels[image]]))
    for row, layer in zip(axes, layers, strict=True):
        for column, axis in enumerate(row[1:]):
            maps = maps_of.get(f"{layer}@{column}")
            if maps is None:
                axis.set_axis_off()
                continue
            shown = maps[:MAX_MAPS]
            _image(axis, grid(_grey(shown), 16, zoom=max(1, 28 // shown.shape[1]), gap=2))
            more = f", the first {MAX_MAPS} of {len(maps)} maps" if len(maps) > MAX_MAPS else f", {len(maps)} maps"
            axis.set_title(f"{layer}, column {column}{more}", fontsize=9, fontweight="normal")
    return 5 * columns + 1.2, 1.0 * len(layers)


def _neighbours(figure: Any, trained: Trained, show: Show, _: int, labelled: Labelled) -> Size:
    """Draw test images, and to the right of each its nearest training images."""
    data = labelled()
    tested = respond(trained, data.test, evenly_spaced(data.test), show, "reading test images")
    trained_on = respond(trained, data.train, evenly_spaced(data.train), show, "reading training images")
    rows = neighbours.rows(tested, trained_on, data)
    widths = [1, 0.1, *[1] * len(rows[0].neighbours)]  # with a gap after the first image
    axes = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    for axis_row, row in zip(axes, rows, strict=True):
        axis_row[1].set_axis_off()
        for axis, shown in zip((axis_row[0], *axis_row[2:]), (row.query, *row.neighbours), strict=True):
            _image(axis, shown.image)
            weight = "bold" if shown is row.query else "normal"
            axis.set_title(printable(shown.caption), fontsize=9, fontweight=weight)
    return 1.25 * (neighbours.NEIGHBOURS + 1), 1.45 * len(rows)


def _predictions(figure: Any, trained: Trained, show: Show, _: int, labelled: Labelled) -> Size:
    """Draw the test images whose correct class got the highest and the lowest probability."""
    data = labelled()
    responses = respond(trained, data.test, evenly_spaced(data.test), show)
    best_and_worst = predictions(responses, data, EXAMPLES)
    axes = figure.subplots(4, max(len(best_and_worst["best"]), 1), squeeze=False, height_ratios=[3, 2, 3, 2])
    for row, (title, chosen) in zip((0, 2), best_and_worst.items(), strict=True):
        for column, prediction in enumerate(chosen):
            _image(axes[row, column], prediction.shown.image)
            axes[row, column].set_title(f"{title}: {printable(prediction.shown.caption)}")
            upwards = prediction.bars[::-1]
            bars = axes[row + 1, column]
            bars.barh(
                range(len(upwards)),
                [100 * bar.probability for bar in upwards],
                color=[COLOURS[0] if bar.correct else "#9aa2a9" for bar in upwards],
                tick_label=[printable(bar.caption)[:18] for bar in upwards],
            )
            bars.grid(visible=False, axis="y")
            bars.set_xlim(0, 100)
            bars.set_xlabel("%")
    return 10, 7


def _image(axis: Any, image: Any) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_axis_off()


def _grey(maps: Floats) -> Any:
    """Return feature maps (C,H,W) as grey tiles, each scaled from its smallest to its largest value."""
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    return np.rint(255 * (maps - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)[..., None]


DRAWN: Mapping[str, Callable[[Any, Trained, Show, int, Labelled], Size]] = {
    "kernels": _kernels,
    "activations": _activations,
    "neighbours": _neighbours,
    "predictions": _predictions,
}
KINDS = ("kernels", "curves", "activations", "neighbours", "predictions")
