"""A figure for each chapter, drawn from the chapter's own functions, so that none goes stale.

One file for each: its docstring is the caption, its ``draw`` fills a matplotlib figure. A figure is drawn once, in the
colours of a light page; its dark twin is the same file with each colour replaced.
"""

import inspect
import io
from importlib import import_module

import matplotlib as mpl
from matplotlib.figure import Figure

from figures.style import COLOURS, STYLE


def render(op: str) -> dict[str, str]:
    """Draw a chapter's figure: an SVG for light pages and one for dark ones."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 2.9), layout="constrained")
        import_module(f"figures.{op}").draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    light = dark = file.getvalue()
    for day, night in COLOURS:
        dark = dark.replace(day, night)
    return {"light": light, "dark": dark}


def caption(op: str) -> str:
    """Give what stands below a chapter's figure, in one line."""
    return " ".join((inspect.getdoc(import_module(f"figures.{op}")) or "").split())
