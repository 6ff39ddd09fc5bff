"""Write a page for each chapter, and one for each file that makes it fast, from the files themselves.

A chapter's docstring is reStructuredText with sections, so it becomes the page as it stands, with its figure below the
first sentence. Then come the NumPy text, what the conformance suite demands, and the backends' files. Nothing is
written down twice.
"""

import ast
import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

from refnet.ops import OPS
from refnet.testing.cases import CASES, Case

BACKENDS = {"refnet_numba": "Numba", "refnet_triton": "Triton"}
EXACT = {
    "always": "the same bits, whatever the values",
    "integers": "the same numbers where sums are exact (integers), and otherwise within the bound below",
    "never": "within the bound below",
}


def write_pages(app: Any) -> None:
    """Write docs/ops/ and docs/code/ where they have changed."""
    docs = Path(app.srcdir)
    for op in OPS:
        _write(docs / "ops" / f"{op}.rst", _chapter(op))
        for package, name in BACKENDS.items():
            _write(docs / "code" / package / f"{op}.rst", _fast(op, package, name))


def _chapter(op: str) -> str:
    module = import_module(f"refnet.ops.{op}")
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
            *_title("The NumPy text", "-"),
            f"``refnet/ops/{op}.py``, which is the definition:",
            "",
            f".. literalinclude:: ../../refnet/ops/{op}.py",
            "   :language: python",
            f"   :lines: {(docstring.end_lineno or 0) + 2}-",
            "",
            *_title("How close a backend must come", "-"),
            f"From ``refnet/testing/cases/{op}.py``. The reference is the text above in float64; ``EPS`` is",
            "2\\ :sup:`-23`, ``U`` half of it.",
            "",
            *(line for case in cases for line in _demands(case)),
            *_bounds(cases),
            *_title("The fast files", "-"),
            *(f"- :doc:`backends/{package}/{op}.py </code/{package}/{op}>`" for package in BACKENDS),
            "",
        ]
    )


def _demands(case: Case) -> list[str]:
    wrong = "; ".join(case.mutants)
    return [
        f"``{case.function}``",
        f"   {', '.join(f'``{name}``' for name in case.results)}: {EXACT[case.exact]}.",
        f"   Rejected, among others: {wrong}.",
        "",
    ]


def _bounds(cases: list[Case]) -> list[str]:
    """Quote the functions that say what is allowed, each once."""
    functions = dict.fromkeys(case.allowed for case in cases if case.allowed)
    if not functions:
        return []
    source = "\n\n".join(inspect.getsource(function).rstrip() for function in functions)
    return [".. code-block:: python", "", *(f"   {line}".rstrip() for line in source.splitlines()), ""]


def _fast(op: str, package: str, name: str) -> str:
    return "\n".join(
        [
            ":orphan:",
            "",
            *_title(f"{op}, made fast by {name}", "="),
            f"``backends/{package}/{op}.py``. What it computes is said by its chapter, :doc:`/ops/{op}`.",
            "",
            f".. literalinclude:: ../../../backends/{package}/{op}.py",
            "   :language: python",
            "",
        ]
    )


def _title(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]


def _write(path: Path, text: str) -> None:
    """Leave alone what has not changed, so that Sphinx builds it no second time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: Any) -> dict[str, Any]:
    """Be a Sphinx extension."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
