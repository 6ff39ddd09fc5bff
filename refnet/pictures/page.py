"""The sections of the report as HTML. Every text from outside is escaped with `esc`."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from refnet.data.dataset import Pixels
from refnet.evaluation.responses import Responses
from refnet.network.plan import Plan
from refnet.pictures import curves, drawing
from refnet.pictures.charts import charts
from refnet.pictures.kernels import Kernels, grid
from refnet.pictures.neighbours import NeighbourRow
from refnet.pictures.predictions import Prediction
from refnet.pictures.thumbnails import Captioned
from refnet.runs.history import History
from refnet.runs.inventory import RunSummary
from refnet.terminal.printable import duration, printable

MAX_SHARP_SIDE = 32  # pixels up to which an image is magnified without smoothing
MAX_TABLE_CLASSES = 30  # in a confusion matrix


def esc(text: object) -> str:
    """Escape any text for HTML, and make it printable."""
    return escape(printable(text))


def document(title: str, body: str) -> str:
    """Return a whole page of HTML, which may load nothing and run nothing."""
    style = (files("refnet.pictures") / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{esc(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def title(run: RunSummary) -> str:
    """Return the title of a run: its network and, if known, its data."""
    return f"{run.net} on {run.data}" if run.data else run.net


def heading(run: RunSummary) -> str:
    """Return the heading: which run it is, and its main results."""
    tiles: list[tuple[str, str]] = []
    tiles += [(f"test error, {name}", error) for name, error in run.test_errors.items()]
    if run.best_error is not None:
        tiles.append(("best validation error", _percent(run.best_error)))
    tiles.append(("steps", f"{run.step:,}"))
    tiles.append(("epochs", f"{run.epoch} of {esc(run.epochs)}"))
    if run.seconds is not None:
        tiles.append(("time", duration(run.seconds)))
    on = f" <small>on {esc(run.data)}</small>" if run.data else ""
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles)
    return (
        f'<header><p class="over">refnet report</p><h1>{esc(run.net)}{on}</h1>'
        f"<p>{esc(run.path)} · backend {esc(run.backend)} · {run.status}</p>"
        f'<dl class="tiles">{shown}</dl></header>'
    )


def note(text: str) -> str:
    """Return a note on what is missing from the page, and why."""
    return f'<p class="notice">{esc(text)}</p>'


def network_section(plan: Plan) -> str:
    """Return the section with the drawing of the network."""
    words = (
        "Each column of the network has its own colour. Grey lines stay in a column; orange lines cross to the other. "
        "Beside them is the size of one image's activations, both directions added. In training, gradients of the same "
        "size cross back."
        if plan.columns > 1
        else "The network has one column."
    )
    return _section("The network", words, drawing.draw(plan))


def curves_section(history: History) -> str:
    """Return the section with the curves of training."""
    drawn = "".join(curves.svg(chart) for chart in charts(history))
    return _section("Training", "", f'<div class="charts">{drawn}</div>')


def kernels_section(kernels: list[Kernels]) -> str:
    """Return the section with the first layer's kernels, column by column."""
    parts = []
    for each in kernels:
        tiles = each.tiles()
        side = tiles.shape[1]
        across = min(8, len(tiles))
        gaps = grid(np.full_like(tiles[..., :1], 255), across, gap=4, zoom=max(1, 33 // side), ground=0)
        shown = grid(tiles, across, gap=4, zoom=max(1, 33 // side))
        picture = _img(np.concatenate([shown, gaps], axis=2), f"column {each.column}")  # the gaps are transparent
        share = "grey images, so no colour share" if each.colour is None else f"colour share {each.colour:.2f}"
        count, channels = each.weights.shape[:2]
        parts.append(
            f'<figure class="kernels">{picture}<figcaption><b class="column{each.column}">column {each.column}</b> '
            f"{count} kernels of {side}&times;{side}&times;{channels} · {share}</figcaption></figure>"
        )
    words = (
        "The kernels that read the image, as in the paper's figure 3. Mid-grey is zero; each column has its own scale. "
        "Colour share: how much of a kernel's energy is colour rather than brightness (0 = none, about 2/3 = random "
        "weights)."
    )
    return _section("First-layer kernels", words, f'<div class="pair">{"".join(parts)}</div>')


def confusion_section(responses: Responses, classes: tuple[str, ...]) -> str:
    """Return the section with the confusion matrix, or with the most frequent confusions of many classes."""
    counts = responses.confusion()
    if len(classes) <= MAX_TABLE_CLASSES:
        words = f"{len(responses.labels):,} test images. Rows: the correct class; columns: the predicted class."
        return _section("Confusion", words, _confusion_table(counts, classes))
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:20]
    pairs = [divmod(int(place), len(classes)) for place in order if wrong.flat[place]]
    rows = "".join(
        f"<tr><td>{esc(classes[a])}</td><td>{esc(classes[b])}</td><td class=n>{wrong[a, b]:,g}</td></tr>"
        for a, b in pairs
    )
    return _section(
        "Confusion",
        f"The most frequent confusions among {len(responses.labels):,} test images.",
        '<div class="scroll"><table><tr><th>correct class</th><th>predicted</th><th class=n>images</th></tr>'
        f"{rows}</table></div>",
    )


def predictions_section(best_and_worst: Mapping[str, Sequence[Prediction]]) -> str:
    """Return the section with the best and the worst predicted images."""
    parts = []
    for title, predictions in best_and_worst.items():
        cards = "".join(map(_card, predictions))
        parts.append(f'<h3>{title.capitalize()}</h3><div class="cards">{cards}</div>')
    words = "Test images whose correct class got the highest and the lowest probability. The correct class is coloured."
    return _section("Predictions", words, "".join(parts))


def neighbours_section(rows: Sequence[NeighbourRow]) -> str:
    """Return the section with test images and their nearest training images."""
    shown = []
    for row in rows:
        similar = "".join(map(_captioned, row.neighbours))
        shown.append(f'<div class="row"><div class="query">{_captioned(row.query)}</div>{similar}</div>')
    words = (
        "Left: test images. Beside each: the training images whose activations in the last hidden layer are nearest "
        "to its own, as in the paper's figure 4."
    )
    return _section("Nearest neighbours", words, f'<div class="rows">{"".join(shown)}</div>')


def table_section(title: str, values: Mapping[str, Any]) -> str:
    """Return a section that lists keys and values."""
    rows = "".join(
        f"<tr><th>{esc(key)}</th><td>{esc(_plain(value))}</td></tr>"
        for key, value in values.items()
        if value not in (None, [], ())
    )
    return _section(title, "", f'<div class="scroll"><table class="keys">{rows}</table></div>')


def _section(title: str, words: str, content: str) -> str:
    return f"<section><h2>{esc(title)}</h2>{f'<p>{esc(words)}</p>' if words else ''}{content}</section>"


def _confusion_table(counts: npt.NDArray[np.float64], classes: tuple[str, ...]) -> str:
    head = "".join(f"<th>{esc(name)}</th>" for name in classes)
    rows = []
    for label, name in enumerate(classes):
        total = max(counts[label].sum(), 1)
        cells = ""
        for predicted, count in enumerate(counts[label]):
            kind = "right" if predicted == label else "wrong"
            # A single mistake must be visible beside hundreds of correct predictions.
            share = count / total if predicted == label else min(1.0, 0.25 + 2 * count / total)
            style = f' class="{kind}" style="--share:{share:.2f}"' if count else ""
            cells += f"<td{style}>{f'{count:g}' if count else '·'}</td>"
        rows.append(f"<tr><th>{esc(name)}</th>{cells}</tr>")
    upright = " upright" if max(map(len, classes)) > 3 else ""  # long names are rotated, so that columns stay narrow
    table = f'<table class="confusion{upright}"><tr><td></td>{head}</tr>{"".join(rows)}</table>'
    return f'<div class="scroll">{table}</div>'


def _card(prediction: Prediction) -> str:
    bars = "".join(
        f'<div class="bar{" correct" if bar.correct else ""}"><span>{esc(bar.caption)}</span>'
        f'<i style="--share:{bar.probability:.4f}"></i><b>{100 * bar.probability:.1f}%</b></div>'
        for bar in prediction.bars
    )
    return f'<article class="card">{_captioned(prediction.shown)}<div class="bars">{bars}</div></article>'


def _captioned(shown: Captioned) -> str:
    caption = esc(shown.caption)
    return f"<figure>{_img(shown.image, shown.caption)}<figcaption>{caption}</figcaption></figure>"


def _img(picture: Pixels, alternative: str) -> str:
    """Return an image (H,W,1 or 3), with transparency (H,W,2 or 4), as a PNG inside an <img>."""
    height, width = picture.shape[:2]
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    sharp = " class=sharp" if min(height, width) <= MAX_SHARP_SIDE else ""
    return f'<img{sharp} src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{esc(alternative)}">'


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(_plain, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _percent(share: object) -> str:
    return f"{share:.2%}" if isinstance(share, float | int) else "unknown"
