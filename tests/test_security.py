"""What SECURITY.md promises of the sources: no pickle from outside, no connection but one, no code from a text."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text())
    for folder in ("refnet", "backends")
    for path in (ROOT / folder).rglob("*.py")
}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CONNECTIONS = {"socket", "socketserver", "ssl", "http", "urllib.request", "ftplib", "smtplib", "requests", "httpx"}


def imported(tree):
    """Return the dotted names of all modules that a source imports, and those above them."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {".".join(module.split(".")[:n]) for module in modules for n in range(1, module.count(".") + 2)}


def called(tree):
    """Yield each call as the source of the function and the call."""
    return ((ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def importers(modules, sources=SOURCES):
    return {path for path, tree in sources.items() if imported(tree) & modules}


def breaches(sources=SOURCES):
    """Return the calls that run code from a text or read pickles in arrays."""
    broken = set()
    for path, tree in sources.items():
        for name, call in called(tree):
            allowed = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.get("allow_pickle")
            if name in {"eval", "exec", "torch.load"} or (name == "np.load" and allowed != "False"):
                broken.add(f"{path}: {ast.unparse(call)}")
    return broken


def test_pickles_are_in_the_cache_of_machine_code_alone():
    assert importers(PICKLES) == {"backends/refnet_numba/_jit.py"}


def test_one_module_opens_connections():
    assert importers(CONNECTIONS) == {"refnet/data/fetch.py"}


def test_no_text_is_run_and_no_array_of_objects_is_read():
    assert breaches() == set()


@pytest.mark.parametrize("source", ["eval(text)", "exec(text)", "np.load(path)", "np.load(path, allow_pickle=True)"])
def test_a_breach_is_noticed(source):
    assert breaches({"a.py": ast.parse(source)}) == {f"a.py: {source}"}


@pytest.mark.parametrize(
    ("source", "modules"),
    [("import pickle", PICKLES), ("from urllib import request", CONNECTIONS), ("import http.client as c", CONNECTIONS)],
)
def test_an_import_is_noticed_in_every_spelling(source, modules):
    assert importers(modules, {"a.py": ast.parse(f"def f():\n    {source}")}) == {"a.py"}


def test_the_files_that_the_promises_name_are_there():
    files = re.findall(r"`((?:tests|refnet)/[\w/]+\.py)`", (ROOT / "SECURITY.md").read_text())
    assert len(files) > 5
    assert [file for file in files if not (ROOT / file).exists()] == []
