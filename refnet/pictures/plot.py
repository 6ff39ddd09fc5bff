"""Pictures of runs by matplotlib: first-layer kernels, curves, activations, neighbours, predictions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from refnet.errors import ConfigError, setting
from refnet.evaluation.seen import activations, best_and_worst, look, nearest, spread
from refnet.evaluation.trained import Floats, Trained, open_data, open_trained
from refnet.pictures.kernels import first_kernels, grid
from refnet.pictures.write import choose, thumbnails
from refnet.runs import history
from refnet.terminal.printable import printable
from refnet.terminal.progress import Show

QUERIES, NEIGHBOURS, EXAMPLES, BARS = 5, 6, 4, 5
MAPS = 32  # of a layer in a column
Size = tuple[float, float]  # inches
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
    "text.parse_math": False,  # a folder's name is no formula
    "svg.hashsalt": "refnet",  # the same picture is the same file
}


def plot(kind: str, runs: Sequence[Path], output: Path, show: Show, *, backend: str = "auto", image: int = 0) -> None:
    """Draw a picture of some runs to a file, whose ending says whether it is PNG or SVG.

    Parameters
    ----------
    image
        Of which test image activations are drawn.

    Raises
    ------
    ConfigError
        Matplotlib is missing, or the file's ending is another.
    """
    with figure_to(output) as figure:
        from matplotlib.gridspec import GridSpec  # noqa: PLC0415 - an extra, which is there

        if kind == "curves":
            figure.set_size_inches(_curves(figure, runs))
        else:
            rows, sizes = GridSpec(len(runs), 1, figure), list[Size]()
            for row, run in enumerate(runs):
                part = figure.add_subfigure(rows[row])
                sizes.append(DRAWN[kind](part, open_trained(run, backend), show, image))
                if len(runs) > 1:
                    part.suptitle(printable(run.resolve().name), x=0.01, ha="left", fontsize=13)
            widths, heights = zip(*sizes, strict=True)
            rows.set_height_ratios(heights)
            figure.set_size_inches(max(widths), sum(heights) + 0.4 * (len(runs) > 1) * len(runs))


def check_output(output: Path) -> None:
    """Raise ``ConfigError`` unless a picture can be drawn there: for another ending, and without matplotlib."""
    if output.suffix not in {".png", ".svg"}:
        raise ConfigError(f"-o {output} must end in .png or .svg")
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise ConfigError("a picture needs matplotlib; install it with: pip install 'refnet[plots]'") from error


@contextmanager
def figure_to(output: Path) -> Iterator[Any]:
    """Give an empty figure in refnet's style, and write it once it is drawn. Raises as `check_output` does."""
    check_output(output)
    import matplotlib as mpl  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(STYLE):
        figure = Figure(layout="constrained")
        yield figure
        metadata = {"Date": None} if output.suffix == ".svg" else {}
        figure.savefig(output, dpi=144, metadata=metadata)


def _curves(figure: Any, runs: Sequence[Path]) -> Size:
    """Draw loss, errors, rate and speed of several runs over one another."""
    axes = figure.subplots(2, 2)
    histories = [history.read(run) for run in runs]
    longest = max(map(len, histories))
    for place, (run, went) in enumerate(zip(runs, histories, strict=True)):
        style = {"color": COLOURS[place % len(COLOURS)], "linewidth": 1.4, "label": printable(run.resolve().name)}
        epochs = went.epochs
        axes[0, 0].plot(*went.smooth("loss", longest), **style)
        axes[0, 0].plot(epochs["step"], epochs["validation_loss"], **style | {"label": None, "linestyle": "--"})
        axes[0, 1].plot(epochs["epoch"], 100 * epochs["validation_top1_error"], **style)
        axes[0, 1].plot(
            epochs["epoch"], 100 * epochs["validation_top5_error"], **style | {"label": None, "linestyle": "--"}
        )
        axes[1, 0].plot(*went.rate(), **style)
        axes[1, 1].plot(*went.speed(longest), **style)
    axes[0, 1].xaxis.get_major_locator().set_params(integer=True)
    axes[1, 0].set_yscale("log")
    axes[1, 0].yaxis.set_major_formatter("{x:g}")
    axes[1, 0].yaxis.set_minor_formatter("")
    titles = ("Loss (dashed: validation)", "Validation error, % (dashed: top-5)", "Learning rate", "Images per second")
    for axis, title, over in zip(axes.flat, titles, ("steps", "epochs", "steps", "steps"), strict=True):
        axis.set_title(title)
        axis.set_xlabel(over)
    for axis in (axes[0, 0], axes[0, 1], axes[1, 1]):
        axis.set_ylim(bottom=0)
    if len(runs) > 1:
        axes[0, 0].legend(frameon=False)
    return 9, 6


def _kernels(figure: Any, trained: Trained, _show: Show, _image: int) -> Size:
    """Draw the kernels that read the image, column by column."""
    found = first_kernels(trained)
    if not found:
        raise ConfigError(f"net {trained.facts.net} has no convolution that reads the image")
    across = 8
    rows = -(-len(found[0].weights) // across)
    for axis, each in zip(np.atleast_1d(figure.subplots(1, len(found))), found, strict=True):
        tiles = each.tiles()
        _picture(axis, grid(tiles, across, zoom=max(1, 40 // tiles.shape[1]), gap=3))
        share = "" if each.colour is None else f", colour share {each.colour:.2f}"
        axis.set_title(f"{each.layer}, column {each.column}{share}")
    return 4.4 * len(found), 0.55 * rows + 0.35


def _activations(figure: Any, trained: Trained, show: Show, image: int) -> Size:
    """Show what every layer before the fully connected ones makes of a test image, column by column."""
    data = open_data(trained, show)
    if not 0 <= image < len(data.test):
        raise ConfigError(f"{setting('image', image)} does not exist; the test images are 0 to {len(data.test) - 1}")
    made = activations(trained, data.test, image)
    layers = list(
        dict.fromkeys(name.partition("@")[0] for name in made if name.startswith(("relu", "tanh", "norm", "pool")))
    )
    columns = trained.plan.columns
    axes = figure.subplots(len(layers), columns + 1, squeeze=False, width_ratios=[1.2, *[5] * columns])
    for axis in axes[1:, 0]:
        axis.set_axis_off()
    _picture(axes[0, 0], thumbnails(data.test, [np.int64(image)])[image])
    axes[0, 0].set_title(printable(data.captions[data.test.labels[image]]))
    for row, layer in zip(axes, layers, strict=True):
        for column, axis in enumerate(row[1:]):
            maps = made.get(f"{layer}@{column}")
            if maps is None:
                axis.set_axis_off()
                continue
            shown = maps[:MAPS]
            _picture(axis, grid(_grey(shown), 16, zoom=max(1, 28 // shown.shape[1]), gap=2))
            more = f", the first {MAPS} of {len(maps)} maps" if len(maps) > MAPS else f", {len(maps)} maps"
            axis.set_title(f"{layer}, column {column}{more}", fontsize=9, fontweight="normal")
    return 5 * columns + 1.2, 1.0 * len(layers)


def _neighbours(figure: Any, trained: Trained, show: Show, _: int) -> Size:
    """Show test images, and to the right of each the training images that are nearest in the last hidden layer."""
    data = open_data(trained, show)
    queries = choose(look(trained, data.test, spread(data.test), show, "looking at test images"), QUERIES)
    among = look(trained, data.train, spread(data.train), show, "looking at training images")
    found = nearest(queries.hidden, among.hidden, NEIGHBOURS)
    mine = thumbnails(data.test, queries.indices)
    others = thumbnails(data.train, among.indices[np.unique(found)])
    widths = [1, 0.1, *[1] * found.shape[1]]  # with a gap between question and answers
    axes = figure.subplots(len(found), len(widths), squeeze=False, width_ratios=widths)
    for place, row in enumerate(axes):
        row[1].set_axis_off()
        _picture(row[0], mine[int(queries.indices[place])])
        row[0].set_title(printable(data.captions[queries.labels[place]]), fontsize=9)
        for axis, other in zip(row[2:], found[place], strict=True):
            _picture(axis, others[int(among.indices[other])])
            axis.set_title(printable(data.captions[among.labels[other]]), fontsize=9, fontweight="normal")
    return 1.25 * (NEIGHBOURS + 1), 1.45 * len(found)


def _predictions(figure: Any, trained: Trained, show: Show, _: int) -> Size:
    """Show the test images whose truth is the most and the least probable to the network."""
    data = open_data(trained, show)
    seen = look(trained, data.test, spread(data.test), show)
    places = best_and_worst(seen, EXAMPLES)
    images = thumbnails(data.test, seen.indices[np.concatenate(places)])
    axes = figure.subplots(4, max(len(places[0]), 1), squeeze=False, height_ratios=[3, 2, 3, 2])
    for row, title, chosen in zip((0, 2), ("best", "worst"), places, strict=True):
        for column, place in enumerate(chosen):
            truth, p = seen.labels[place], seen.p[place]
            order = np.argsort(-p, kind="stable")[:BARS][::-1]
            _picture(axes[row, column], images[int(seen.indices[place])])
            axes[row, column].set_title(f"{title}: {printable(data.captions[truth])}")
            bars = axes[row + 1, column]
            bars.barh(
                range(len(order)),
                100 * p[order],
                color=[COLOURS[0] if k == truth else "#9aa2a9" for k in order],
                tick_label=[printable(data.captions[k])[:18] for k in order],
            )
            bars.grid(visible=False, axis="y")
            bars.set_xlim(0, 100)
            bars.set_xlabel("%")
    return 10, 7


def _picture(axis: Any, picture: Any) -> None:
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_axis_off()


def _grey(maps: Floats) -> Any:
    """Show maps (C,H,W) as tiles, each from its own least to its largest value."""
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    return np.rint(255 * (maps - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)[..., None]


DRAWN: Mapping[str, Callable[[Any, Trained, Show, int], Size]] = {
    "kernels": _kernels,
    "activations": _activations,
    "neighbours": _neighbours,
    "predictions": _predictions,
}
KINDS = ("kernels", "curves", "activations", "neighbours", "predictions")
