"""The docstrings on the Python API page have the form that Sphinx's napoleon reads; others would be misprinted."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"auto(?:function|class|module):: (refnet[\w.]*)")
RULE = re.compile(r"-{3,}")
MARKUP = re.compile(r"(?::\w+:)?`+[^`]*`+")
NAMES = re.compile(r"[\w*]+(?:, [\w*]+)*")


def source_of(name):
    """Return the file of a module, or of the module that has a function or class."""
    path = ROOT.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py", path.parent.with_suffix(".py")):
        if candidate.exists():
            return candidate
    return path.parent / "__init__.py"


def misreadings(text):
    """List what napoleon would misread in a module."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or not (docstring := ast.get_docstring(node)):
            continue
        lines = docstring.splitlines()
        decorators = [ast.unparse(each) for each in getattr(node, "decorator_list", [])]
        if any(each.endswith("property") for each in decorators) and ": " in MARKUP.sub("", lines[0]):
            found.append(f"{node.name}: the words before a colon would be printed as its type: {lines[0]}")
        section = None
        for line, below in zip(lines, [*lines[1:], ""], strict=True):
            if RULE.fullmatch(below):
                section = line
            elif section and line and not line.startswith(" ") and not RULE.fullmatch(line):
                if not NAMES.fullmatch(line):
                    found.append(f"{node.name}: a sentence after {section} would be printed as a name: {line}")
                elif section == "Attributes" and "," in line:
                    found.append(f"{node.name}: of several attributes only the last would be printed: {line}")
    return found


@pytest.mark.parametrize(
    "path", sorted({source_of(name) for name in NAMED.findall((ROOT / "docs/api.md").read_text())})
)
def test_napoleon_reads_every_docstring_of_the_page(path):
    assert misreadings(path.read_text()) == []


def test_what_would_be_misread_is_seen():
    text = '''
class C:
    """A class.

    Attributes
    ----------
    a, b
        Two.

    Raises nothing.
    """

    @property
    def shape(self):
        """The shape: (H,W,C)."""

    @property
    def size(self):
        """The size of :func:`f`."""
'''
    kinds = [found.partition(":")[2].split(":")[0] for found in misreadings(text)]
    assert sorted(kind.split()[-1] for kind in kinds) == ["name", "printed", "type"]
