"""Generate a page for each chapter, and one for each of its fast implementations, from their source files.

A chapter's docstring is reStructuredText with sections, so it becomes the page as it is, with the figure below its
first sentence. Then come the NumPy source, the accuracy that the conformance suite requires, and links to the
backends' files. Nothing is written twice.
"""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

from refnet.ops import OPS, chapter
from refnet.testing.cases import CASES, Case

BACKENDS = {"refnet_numba": "Numba", "refnet_triton": "Triton"}
EXACT = {
    "always": "the same bits for all values",
    "integers": "equal if all sums are exact (integer values), otherwise within the bound below",
    "never": "within the bound below",
}

SECTIONS = re.compile(r"^Paper, sections? (\d+(?:\.\d+)?(?:(?:, | and )\d+(?:\.\d+)?)*)", re.MULTILINE)


def write_pages(app: Any) -> None:
    """Write the changed pages of docs/ops/ and docs/code/."""
    docs = Path(app.srcdir)
    for op in OPS:
        _write(docs / "ops" / f"{op}.rst", _chapter(op))
        for package, name in BACKENDS.items():
            _write(docs / "code" / package / f"{op}.rst", _fast_implementation(op, package, name))


def table() -> str:
    """Return the list of chapters as a Markdown table: each operation, and the sections of the paper about it."""
    rows = ["| chapter | what it is | section of the paper |", "|---|---|---|"]
    for op in OPS:
        sentence, _, text = (inspect.getdoc(chapter(op)) or "").partition("\n\n")
        what = " ".join(sentence.split()).partition(":")[0].rstrip(".")
        sections = SECTIONS.search(text)
        rows.append(
            f"| [{op}](../../refnet/ops/{op}.py) | {what[0].lower()}{what[1:]} | {sections[1] if sections else ''} |"
        )
    return "\n".join(rows)


def _chapter(op: str) -> str:
    module = chapter(op)
    sentence, _, text = (inspect.getdoc(module) or "").partition("\n\n")
    source = Path(str(module.__file__))
    docstring = ast.parse(source.read_text()).body[0]
    cases = [case for case in CASES if case.op == op]
    return "\n".join(
        [
            *_title(op, "="),
            f".. py:module:: refnet.ops.{op}",
            "",
            sentence,
            "",
            f".. drawn:: {op}",
            "",
            *text.splitlines(),  # its sections are underlined with dashes, one level below the title
            "",
            *_title("NumPy source", "-"),
            f"``refnet/ops/{op}.py`` defines the operation:",
            "",
            f".. literalinclude:: ../../refnet/ops/{op}.py",
            "   :language: python",
            f"   :lines: {(docstring.end_lineno or 0) + 2}-",
            "",
            *_title("Accuracy required of backends", "-"),
            f"From ``refnet/testing/cases/{op}.py``. Results are compared with the source above, run in float64.",
            "``EPS`` is 2\\ :sup:`-23`, the distance from 1 to the next larger float32. ``U`` is half of it, the",
            "largest relative error of one rounding.",
            "",
            *(line for case in cases for line in _requirements(case)),
            *_bounds(cases),
            *_title("Fast implementations", "-"),
            *(f"- :doc:`backends/{package}/{op}.py </code/{package}/{op}>`" for package in BACKENDS),
            "",
        ]
    )


def _requirements(case: Case) -> list[str]:
    wrong = "; ".join(case.mutants)
    return [
        f"``{case.function}``",
        f"   {', '.join(f'``{name}``' for name in case.results)}: {EXACT[case.exact]}.",
        f"   Wrong versions that the suite must reject: {wrong}.",
        "",
    ]


def _bounds(cases: list[Case]) -> list[str]:
    """Return the source of the functions that compute the allowed errors, each once, as a code block."""
    functions = dict.fromkeys(case.allowed for case in cases if case.allowed)
    if not functions:
        return []
    source = "\n\n".join(inspect.getsource(function).rstrip() for function in functions)
    return [".. code-block:: python", "", *(f"   {line}".rstrip() for line in source.splitlines()), ""]


def _fast_implementation(op: str, package: str, name: str) -> str:
    return "\n".join(
        [
            ":orphan:",
            "",
            *_title(f"{op} in {name}", "="),
            f"``backends/{package}/{op}.py``. The chapter :doc:`/ops/{op}` defines what it computes.",
            "",
            f".. literalinclude:: ../../../backends/{package}/{op}.py",
            "   :language: python",
            "",
        ]
    )


def _title(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]


def _write(path: Path, text: str) -> None:
    """Write a file only if its text has changed, so that Sphinx does not build it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: Any) -> dict[str, Any]:
    """Register this Sphinx extension."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
