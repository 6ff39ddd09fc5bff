"""How Sphinx builds the documentation; ``nox -s docs`` does it, with warnings as errors."""

import sys
from pathlib import Path
from typing import Any

from docutils import nodes

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from refnet import __version__

project = "refnet"
author = "The refnet authors"
copyright = author  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = [
    "myst_nb",  # myst_parser, and notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "chapters",
    "drawn",
    "commands",
    "github",
]
exclude_patterns = ["_build", "_ext"]
highlight_language = "none"  # blocks without a language, such as formulas, are not coloured
smartquotes = False  # --resume has two hyphens
html_theme = "furo"
html_title = "refnet"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["refnet.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True  # a notebook trains into runs/
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds for a cell; the first one that trains also compiles
nb_merge_streams = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures are in the source; these pages show the descriptions
napoleon_use_ivar = True
napoleon_attr_annotations = False  # a description gives the shape and dtype of an array, which its type does not
napoleon_use_rtype = False
copybutton_exclude = ".linenos, .gp, .go"


def set_dashes(_app: Any, document: nodes.document) -> None:
    """Set the dash between a parameter and its description; all of smartquotes would change code that people copy."""
    for text in list(document.findall(nodes.Text)):
        if text.startswith(" -- "):
            text.parent.replace(text, nodes.Text(text.replace(" -- ", " – ", 1)))  # noqa: RUF001


def setup(app: Any) -> None:
    """Register the function above."""
    app.connect("doctree-read", set_dashes)
