"""Draw the chapters' figures at every build, and put them into pages: ``.. chapter-figure:: lrn``."""

from pathlib import Path
from typing import Any

import figures
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from refnet.ops import OPS


def write_figures(app: Any) -> None:
    """Write docs/ops/figures/ where it has changed."""
    folder = Path(app.srcdir) / "ops" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for op in OPS:
        for theme, text in figures.render(op).items():
            path = folder / f"{op}-{theme}.svg"
            if not path.exists() or path.read_text() != text:
                path.write_text(text)


class ChapterFigure(SphinxDirective):
    """Show a chapter's figure, the one that suits the page's light, with its caption."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the nodes."""
        (op,) = self.arguments
        caption = figures.caption(op)
        figure = nodes.figure(classes=["chapter-figure"])
        for theme in ("light", "dark"):
            figure += nodes.image(uri=f"/ops/figures/{op}-{theme}.svg", alt=caption, classes=[f"only-{theme}"])
        figure += nodes.caption("", caption)
        return [figure]


def setup(app: Any) -> dict[str, Any]:
    """Be a Sphinx extension."""
    app.connect("builder-inited", write_figures)
    app.add_directive("chapter-figure", ChapterFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
