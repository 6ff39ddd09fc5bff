"""The page itself: sections of HTML from what the other modules found. Every text from outside goes through `esc`."""

import base64
import io
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from refnet.data.dataset import Pixels
from refnet.evaluation.seen import Seen, best_and_worst, confusion, nearest
from refnet.network.plan import Plan
from refnet.pictures import curves, drawing
from refnet.pictures.kernels import Kernels, grid
from refnet.runs.history import History
from refnet.runs.inventory import Run
from refnet.terminal.printable import printable

THUMB = 96  # pixels that a picture is shrunk to
SHARP = 32  # pixels up to which a picture is shown without smoothing
TABLE = 30  # classes that a table of confusion has room for
EXAMPLES, QUERIES, NEIGHBOURS, BARS = 6, 5, 6, 5


def esc(text: object) -> str:
    """Make any text harmless in HTML, and on whatever shows it."""
    return escape(printable(text))


def document(title: str, body: str) -> str:
    """Wrap sections into a page that may load nothing and run nothing."""
    style = (files("refnet.pictures") / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{esc(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def title(run: Run) -> str:
    """Name a run by its network and its data, where they are known."""
    return f"{run.net} on {run.data}" if run.data else run.net


def heading(run: Run) -> str:
    """Say which run it is and how it ended."""
    tiles = []
    if run.result:
        for name, key in (("test error, top-1", "test_top1_error"), ("test error, top-5", "test_top5_error")):
            tiles.append((name, _percent(run.result.get(key))))
    if run.best_error is not None:
        tiles.append(("best validation error", _percent(run.best_error)))
    tiles.append(("steps", f"{run.step:,}"))
    tiles.append(("epochs", f"{run.epoch} of {esc(run.config.get('epochs'))}"))
    if run.state:
        tiles.append(("time", _duration(run.state.seconds)))
    on = f" <small>on {esc(run.data)}</small>" if run.data else ""
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles)
    return (
        f'<header><p class="over">refnet report</p><h1>{esc(run.net)}{on}</h1>'
        f"<p>{esc(run.path)} · backend {esc(run.backend)} · {run.stands}</p>"
        f'<dl class="tiles">{shown}</dl></header>'
    )


def note(text: str) -> str:
    """Say what is missing from the page, and why."""
    return f'<p class="notice">{esc(text)}</p>'


def network_section(plan: Plan) -> str:
    """Draw the network."""
    words = (
        "Boxes of one colour are one column. Grey lines stay in a column; orange ones cross to the other, "
        "with the bytes of one image's activations. As many gradients travel back in training."
        if plan.columns > 1
        else "All layers are in one column."
    )
    return _section("The network", words, drawing.draw(plan))


def curves_section(history: History) -> str:
    """Draw how training went."""
    steps, loss = history.smooth("loss")
    epochs = history.epochs
    validation = curves.Line("validation", epochs["step"], epochs["validation_loss"])
    errors = [curves.Line(f"top-{k}", epochs["epoch"], epochs[f"validation_top{k}_error"]) for k in (1, 5)]
    charts = (
        curves.chart("Loss", [curves.Line("training", steps, loss), validation], "steps"),
        curves.chart("Validation error", errors, "epochs", percent=True),
        curves.chart("Learning rate", [curves.Line("rate", *history.rate())], "steps", log=True),
        curves.chart("Images per second", [curves.Line("images/s", *history.speed())], "steps"),
    )
    return _section("How training went", "", f'<div class="charts">{"".join(charts)}</div>')


def kernels_section(kernels: list[Kernels]) -> str:
    """Show the first layer's kernels, column by column."""
    parts = []
    for each in kernels:
        tiles = each.tiles()
        side = tiles.shape[1]
        across = min(8, len(tiles))
        gaps = grid(np.full_like(tiles[..., :1], 255), across, gap=4, zoom=max(1, 33 // side), ground=0)
        shown = grid(tiles, across, gap=4, zoom=max(1, 33 // side))
        picture = _img(np.concatenate([shown, gaps], axis=2), f"column {each.column}")  # through gaps one sees the page
        share = "grey images: no colour to see" if each.colour is None else f"colour share {each.colour:.2f}"
        count, channels = each.weights.shape[:2]
        parts.append(
            f'<figure class="kernels">{picture}<figcaption><b class="column{each.column}">column {each.column}</b> '
            f"{count} kernels of {side}&times;{side}&times;{channels} · {share}</figcaption></figure>"
        )
    words = (
        "The kernels that read the image, as in the paper's figure 3; mid-grey is 0 and each column has one scale. "
        "The colour share is the mean part of a kernel's energy that is not grey: 0 sees no colour, 2/3 is chance."
    )
    return _section("First-layer kernels", words, f'<div class="pair">{"".join(parts)}</div>')


def confusion_section(seen: Seen, classes: tuple[str, ...]) -> str:
    """Count what was taken for what."""
    counts = confusion(seen, len(classes))
    words = f"{len(seen.labels):,} test images; rows are the truth, columns what the network says."
    if len(classes) <= TABLE:
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
        "The pairs that are confused most often.",
        f'<div class="scroll"><table><tr><th>truth</th><th>said</th><th class=n>images</th></tr>{rows}</table></div>',
    )


def predictions_section(seen: Seen, images: Mapping[int, Pixels], classes: tuple[str, ...]) -> str:
    """Show what the network is surest of, and where it is most wrong."""
    parts = []
    for title, places in zip(("Best", "Worst"), best_and_worst(seen, EXAMPLES), strict=True):
        cards = "".join(_prediction(seen, int(place), images, classes) for place in places)
        parts.append(f'<h3>{title}</h3><div class="cards">{cards}</div>')
    words = "The test images whose truth is the most and the least probable to the network. In colour: the truth."
    return _section("Predictions", words, "".join(parts))


def neighbours_section(
    queries: Seen, among: Seen, images: Mapping[int, Pixels], others: Mapping[int, Pixels], classes: tuple[str, ...]
) -> str:
    """Show test images beside the training images that the last hidden layer finds most alike."""
    rows = []
    for place, found in enumerate(nearest(queries.hidden, among.hidden, NEIGHBOURS)):
        mine = _labelled(images[int(queries.indices[place])], classes[queries.labels[place]])
        alike = "".join(_labelled(others[int(among.indices[other])], classes[among.labels[other]]) for other in found)
        rows.append(f'<div class="row"><div class="query">{mine}</div>{alike}</div>')
    words = (
        "Left, test images; beside each, the training images that are nearest in the last hidden layer, "
        "as in the paper's figure 4."
    )
    return _section("Nearest neighbours", words, f'<div class="rows">{"".join(rows)}</div>')


def table_section(title: str, values: Mapping[str, Any]) -> str:
    """List keys and values."""
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
    for truth, name in enumerate(classes):
        total = max(counts[truth].sum(), 1)
        cells = ""
        for said, count in enumerate(counts[truth]):
            kind = "right" if said == truth else "wrong"
            # A single mistake must be seen beside hundreds of hits.
            share = count / total if said == truth else min(1.0, 0.25 + 2 * count / total)
            style = f' class="{kind}" style="--share:{share:.2f}"' if count else ""
            cells += f"<td{style}>{f'{count:g}' if count else '·'}</td>"
        rows.append(f"<tr><th>{esc(name)}</th>{cells}</tr>")
    upright = " upright" if max(map(len, classes)) > 3 else ""  # long names stand on end, so that columns stay narrow
    table = f'<table class="confusion{upright}"><tr><td></td>{head}</tr>{"".join(rows)}</table>'
    return f'<div class="scroll">{table}</div>'


def _prediction(seen: Seen, place: int, images: Mapping[int, Pixels], classes: tuple[str, ...]) -> str:
    p, truth = seen.p[place], int(seen.labels[place])
    order = np.argsort(-p, kind="stable")[:BARS]
    bars = "".join(
        f'<div class="bar{" truth" if k == truth else ""}"><span>{esc(classes[k])}</span>'
        f'<i style="--share:{p[k]:.4f}"></i><b>{100 * p[k]:.1f}%</b></div>'
        for k in order
    )
    picture = _labelled(images[int(seen.indices[place])], classes[truth])
    return f'<article class="card">{picture}<div class="bars">{bars}</div></article>'


def _labelled(picture: Pixels, label: str) -> str:
    return f"<figure>{_img(picture, label)}<figcaption>{esc(label)}</figcaption></figure>"


def _img(picture: Pixels, alternative: str) -> str:
    """Put a picture (H,W,1 or 3), or one with holes (H,W,2 or 4), into the page."""
    height, width = picture.shape[:2]
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    sharp = " class=sharp" if min(height, width) <= SHARP else ""
    return f'<img{sharp} src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{esc(alternative)}">'


def thumbnail(picture: Pixels) -> Pixels:
    """Shrink a picture that is larger than it will be shown."""
    if max(picture.shape[:2]) <= THUMB:
        return picture
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    image.thumbnail((THUMB, THUMB))
    return np.asarray(image).reshape(image.height, image.width, picture.shape[2])


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(_plain, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _percent(share: object) -> str:
    return f"{share:.2%}" if isinstance(share, float | int) else "unknown"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"
