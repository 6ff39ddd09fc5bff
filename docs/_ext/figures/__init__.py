"""Figures that are drawn by calling the operations that they explain, so that none goes out of date.

Each figure is one file: its docstring is the caption, and its function ``draw`` fills a matplotlib figure (or ``svg``
returns the file). A figure is drawn once, in the colours of a light page; its dark version is the same file with each
colour replaced.

The figures of Markdown pages are also in docs/figures/, on a white background, for readers of the unbuilt pages.
``python -m figures``, run in docs/_ext, draws those again.
"""

import inspect
import io
from importlib import import_module
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
from matplotlib.figure import Figure

from figures.style import COLOURS, STYLE

OTHERS = {"__init__", "__main__", "style", "units"}
NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in OTHERS)


def render(name: str) -> dict[str, str]:
    """Return a figure as two SVG texts, for light and for dark pages."""
    module = import_module(f"figures.{name}")
    light = dark = module.svg() if hasattr(module, "svg") else _drawn(module)
    for day, night in COLOURS:
        dark = dark.replace(day, night)
    return {"light": light, "dark": dark}


def caption(name: str) -> str:
    """Return the caption of a figure, in one line."""
    return " ".join((inspect.getdoc(import_module(f"figures.{name}")) or "").split())


def summary(name: str) -> str:
    """Return the first sentence of a figure's caption, as its alternative text."""
    return " ".join((inspect.getdoc(import_module(f"figures.{name}")) or "").partition("\n\n")[0].split())


def on_white(name: str) -> str:
    """Return a figure as SVG on a white background, which suits every page."""
    head, svg, rest = render(name)["light"].partition("<svg")
    opening, end, content = rest.partition(">")
    return f'{head}{svg}{opening}{end}<rect width="100%" height="100%" style="fill:#fff;stroke:none"/>{content}'


def _drawn(module: ModuleType) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 2.9), layout="constrained")
        module.draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue()
