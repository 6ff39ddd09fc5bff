"""Draw the figures at every build, and insert them into pages.

The directive ``drawn`` shows a figure. In Markdown, a picture from ``docs/figures/`` (which GitHub shows unchanged) is
replaced by the figure drawn at the build, and the comment ``<!-- gallery -->`` by the figures of all chapters.
"""

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import figures
from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

from refnet.ops import OPS

COMMITTED_FIGURE = re.compile(r"figures/(\w+)\.svg$")
GALLERY = "<!-- gallery -->"


def write_figures(app: Any) -> None:
    """Write the changed figures of docs/drawn/."""
    folder = Path(app.srcdir) / "drawn"
    folder.mkdir(exist_ok=True)
    for name in figures.NAMES:
        for theme, text in figures.render(name).items():
            path = folder / f"{name}-{theme}.svg"
            if not path.exists() or path.read_text() != text:
                path.write_text(text)


class Drawn(SphinxDirective):
    """Show a figure with its caption, in the colours of the page's theme (light or dark)."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the figure's nodes."""
        (name,) = self.arguments
        caption = nodes.caption("", figures.caption(name))
        return [nodes.figure("", *_images(name, figures.summary(name)), caption, classes=["drawn", name])]


class InMarkdown(SphinxTransform):
    """Replace committed figures by those in the colours of the page's theme, and insert the gallery."""

    default_priority = 260  # after pictures have got their captions (:mod:`github`)

    def apply(self, **_: Any) -> None:
        """Replace the figures and the gallery comment of a page."""
        for image in list(self.document.findall(nodes.image)):
            if match := COMMITTED_FIGURE.search(image["uri"]):
                image.parent["classes"] += ["drawn", match[1]]
                image.parent.replace(image, _images(match[1], image["alt"]))
        for raw in list(self.document.findall(nodes.raw)):
            if raw.astext().strip() == GALLERY:
                raw.replace_self(_gallery(self.app.builder, self.env.docname))


def _gallery(builder: Any, docname: str) -> nodes.container:
    """Return every chapter's figure, small, as a link to its page."""
    cards = nodes.container(classes=["gallery"])
    for op in OPS:
        sentence = (inspect.getdoc(import_module(f"refnet.ops.{op}")) or "").partition("\n\n")[0]
        words = re.sub(r":mod:`refnet\.ops\.(\w+)`", r"\1", " ".join(sentence.split()))
        page = builder.get_relative_uri(docname, f"ops/{op}")
        content = (*_images(op, ""), nodes.strong("", op), nodes.inline("", words))
        cards += nodes.paragraph("", "", nodes.reference("", "", *content, internal=True, refuri=page))
    return cards


def _images(name: str, description: str) -> list[nodes.image]:
    return [
        nodes.image(uri=f"/drawn/{name}-{theme}.svg", alt=description, classes=[f"only-{theme}"])
        for theme in ("light", "dark")
    ]


def setup(app: Any) -> dict[str, Any]:
    """Register this Sphinx extension."""
    app.connect("builder-inited", write_figures)
    app.add_directive("drawn", Drawn)
    app.add_transform(InMarkdown)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
