"""What ``import refnet`` offers."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import refnet

DOCS = Path(__file__).parents[1] / "docs"
NAMES = ["__version__", "backend", "check", "load", "nets", "open_data", "ops", "train"]


def run_python(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_the_package_offers_these_names_and_no_other():
    assert sorted(refnet.__all__) == NAMES
    assert dir(refnet) == NAMES
    for name in NAMES:
        assert getattr(refnet, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'trian'; it has .*train"):
        refnet.trian  # noqa: B018


def test_importing_it_imports_no_library():
    code = "import sys, refnet; print([m for m in ('numpy', 'numba', 'rich', 'PIL', 'hypothesis') if m in sys.modules])"
    assert run_python(code).stdout == "[]\n"
    assert (
        run_python("import sys; sys.modules['hypothesis'] = None; import refnet; refnet.train; refnet.check").returncode
        == 0
    )


def test_a_type_checker_sees_every_name():
    tree = ast.parse(inspect.getsource(refnet))
    typed = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.asname or alias.name for node in typed.body for alias in node.names}
    assert seen == set(NAMES) - {"__version__"}


def test_every_public_name_is_in_the_api_reference():
    text = (DOCS / "api.md").read_text()
    documented = re.findall(r"(?:autofunction|autoclass|automodule):: ([\w.]+)", text)
    members = {
        f"{module}.{name.strip()}"
        for module, names in re.findall(r"automodule:: ([\w.]+)\n\s+:members: (.*)", text)
        for name in names.split(",")
    }
    functions = {f"{module}.{name}" for name, module in refnet._FUNCTIONS.items()}
    public = functions | {f"refnet.api.run.{name}" for name in ("Run", "Curves")}
    public |= {f"refnet.api.network.{name}" for name in ("Network", "Text")}
    public |= {"refnet.data.handle.Data", "refnet.evaluation.prediction.Prediction"}
    public |= {"refnet.nets.Net", "refnet.nets.NetSpec", "refnet.nets.get", "refnet.nets.register"}
    public |= {
        f"refnet.network.plan.{name}" for name in ("conv", "linear", "relu", "tanh", "lrn", "maxpool", "dropout")
    }
    assert public <= set(documented) | members
    assert "](ops/index.md)" in text
    assert "refnet.backend.loading" in documented
