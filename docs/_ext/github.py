"""Adapt Markdown pages, which GitHub shows unchanged, to Sphinx.

A link to a chapter's file becomes a link to the chapter's page, and a link to ``refnet/cli`` one to the command-line
reference. The lists of links under "Contents" become the menus. A picture with a line in italics below it becomes a
figure with a caption. The comment ``<!-- chapters -->`` becomes the list of chapters.
"""

import re
from pathlib import Path
from typing import Any

import chapters
from docutils import nodes
from sphinx.transforms import SphinxTransform

from refnet.ops import OPS

PAGES = (
    (r"(?:\.\./)+refnet/ops/(\w+)\.py", r"/ops/\1.rst"),
    (r"(?:\.\./)+refnet/cli", r"/commands.rst"),
    (r"\.\./CONTRIBUTING\.md", r"/contributing.md"),
    (r"\.\./CHANGELOG\.md", r"/changelog.md"),
)
CHAPTERS = "<!-- chapters -->"
INCLUDED = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
CONTENTS = re.compile(r"^## Contents\n(.*)\Z", re.MULTILINE | re.DOTALL)
LIST = re.compile(r"(?:^\*\*(?P<caption>.+)\*\*\n\n)?(?P<items>(?:^- \[.*\n)+)", re.MULTILINE)
LINK = re.compile(r"\]\(([\w./-]+)\.(?:md|rst|ipynb)\)")


def write_included(app: Any) -> None:
    """Write the pages that only include a file of the repository's root folder."""
    for page, file in INCLUDED.items():
        (Path(app.srcdir) / f"{page}.md").write_text(f"```{{include}} ../{file}\n```\n")


def rewrite(_app: Any, page: str, source: list[str]) -> None:
    """Turn links to files into links to pages, and lists of pages into menus."""
    (text,) = source
    text = text.replace(CHAPTERS, chapters.table())
    for path, target in PAGES:
        text = re.sub(rf"\]\({path}(#[\w-]+)?\)", lambda m, t=target: f"]({m.expand(t)}{m[m.re.groups] or ''})", text)
    if contents := CONTENTS.search(text):
        text += "".join(_menu(part["caption"], LINK.findall(part["items"])) for part in LIST.finditer(contents[1]))
    if page == "ops/index":
        text += _menu(None, list(OPS))
    source[0] = text


def _menu(caption: str | None, pages: list[str]) -> str:
    options = [":hidden:", ":maxdepth: 1", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["\n```{toctree}", *options, "", *pages, "```", ""])


class Captions(SphinxTransform):
    """Combine a picture and the line in italics below it into a figure."""

    default_priority = 200  # before Sphinx gives figures their numbers

    def apply(self, **_: Any) -> None:
        """Combine every paragraph that contains only a picture with its caption."""
        pictures = [p for p in self.document.findall(nodes.paragraph) if _contains_only(p, nodes.image)]
        for picture in pictures:
            caption = picture.next_node(descend=False, siblings=True)
            if isinstance(caption, nodes.paragraph) and _contains_only(caption, nodes.emphasis):
                caption.parent.remove(caption)
                picture.replace_self(nodes.figure("", picture[0], nodes.caption("", "", *caption[0].children)))


def _contains_only(paragraph: nodes.paragraph, kind: type[nodes.Node]) -> bool:
    return len(paragraph) == 1 and isinstance(paragraph[0], kind)


def setup(app: Any) -> dict[str, Any]:
    """Register this Sphinx extension."""
    app.connect("builder-inited", write_included)
    app.connect("source-read", rewrite)
    app.add_transform(Captions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
