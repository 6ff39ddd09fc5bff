"""Figures drawn from the functions that they are about, so that none goes stale: one for each chapter, and a few more.

One file for each: its docstring is the caption, its ``draw`` fills a matplotlib figure (or its ``svg`` gives the file).
A figure is drawn once, in the colours of a light page; its dark twin is the same file with each colour replaced.

Those that a page of Markdown shows lie in docs/figures/ too, on white, for whoever reads the page without building it:
``python -m figures``, in docs/_ext, draws these anew.
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
    """Draw a figure: an SVG for light pages and one for dark ones."""
    module = import_module(f"figures.{name}")
    light = dark = module.svg() if hasattr(module, "svg") else _drawn(module)
    for day, night in COLOURS:
        dark = dark.replace(day, night)
    return {"light": light, "dark": dark}


def caption(name: str) -> str:
    """Give what stands below a figure, in one line."""
    return " ".join((inspect.getdoc(import_module(f"figures.{name}")) or "").split())


def summary(name: str) -> str:
    """Say in a sentence what a figure shows, to whoever does not see it."""
    return " ".join((inspect.getdoc(import_module(f"figures.{name}")) or "").partition("\n\n")[0].split())


def on_white(name: str) -> str:
    """Draw a figure on a ground of its own, which suits every page."""
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
