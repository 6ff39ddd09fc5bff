"""The layout: what is in ``refnet/``, which folder may import which, and that CONTRIBUTING describes it."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "refnet": ROOT / "refnet",
    "refnet_numba": ROOT / "backends/refnet_numba",
    "refnet_triton": ROOT / "backends/refnet_triton",
}

# Each may import those before it, and none after it.
FLOORS = (
    "terminal",
    "errors",
    "files",
    "typed_json",
    "ops",
    "randomness",
    "backend",
    "machine",
    "network",
    "nets",
    "config",
    "data",
    "runs",
    "evaluation",
    "training",
    "pictures",
    "bench",
    "reproduce",
    "testing",
    "api",
    "cli",
    "__main__",
)

MAX_MODULES = 8
MAX_FOLDERS = 18


def modules() -> dict[str, Path]:
    """Map the dotted name of each module to its file."""
    named = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            named[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return named


MODULES = modules()


def imported(tree: ast.Module, names: set[str], *, functions: bool) -> set[str]:
    """Return which of the names the module imports; with ``functions``, also inside functions and for type checking."""
    targets = set()
    for node in reached(tree, functions=functions):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                targets.add(inner if inner in names else node.module)
    return targets & names


def reached(node: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """Yield the nodes below, leaving out function bodies and TYPE_CHECKING blocks unless asked for."""
    for child in ast.iter_child_nodes(node):
        checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if functions or not (checking or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield child
            yield from reached(child, functions=functions)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def floor(module: str) -> str | None:
    """Return the folder or file directly in ``refnet/`` that a module belongs to; None for the package itself."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if package == "refnet" else package


def upward(graph: dict[str, set[str]]) -> list[str]:
    """List the imports of ``refnet`` that run from an earlier floor to a later one, or to a backend's package."""
    height = {name: index for index, name in enumerate(FLOORS)}
    top = len(FLOORS)
    return [
        f"{module} imports {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if module.startswith("refnet.")
        and (low := floor(module)) is not None
        and (high := floor(target)) is not None
        and height.get(high, top) > height.get(low, top - 1)
    ]


def test_there_are_few_modules_and_folders_directly_in_refnet():
    entries = [path for path in PACKAGES["refnet"].iterdir() if path.name != "__pycache__"]
    assert len([path for path in entries if path.suffix == ".py"]) <= MAX_MODULES
    assert len([path for path in entries if path.is_dir()]) <= MAX_FOLDERS


def test_each_has_its_floor():
    assert {floor(name) for name in MODULES if name.startswith("refnet.")} == set(FLOORS)


def test_no_import_runs_upward():
    names = set(MODULES)
    graph = {name: imported(parsed(path), names, functions=True) for name, path in MODULES.items()}
    assert upward(graph) == []


def test_an_import_that_runs_upward_is_reported():
    graph = {"refnet.ops.relu": {"refnet.errors", "refnet.network.plan"}, "refnet.cli.train": {"refnet_numba"}}
    assert upward(graph) == ["refnet.cli.train imports refnet_numba", "refnet.ops.relu imports refnet.network.plan"]


def test_no_two_modules_import_each_other():
    names = set(MODULES)
    # The package itself names for type checkers what it imports when it is first used.
    graph = {name: imported(parsed(path), names, functions=name != "refnet") - {name} for name, path in MODULES.items()}
    TopologicalSorter(graph).prepare()


def test_a_cycle_is_reported():
    names = {"a", "b"}
    graph = {"a": imported(ast.parse("import b"), names, functions=False)}
    graph["b"] = imported(ast.parse("if TYPE_CHECKING:\n    import a"), names, functions=False)
    TopologicalSorter(graph).prepare()
    graph["b"] = imported(ast.parse("try:\n    from a import x\nexcept ImportError:\n    pass"), names, functions=False)
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


def test_the_two_backends_do_not_know_each_other():
    other = {"refnet_numba": "refnet_triton", "refnet_triton": "refnet_numba"}
    for name, path in MODULES.items():
        if (package := name.partition(".")[0]) in other:
            targets = imported(parsed(path), set(MODULES), functions=True)
            assert other[package] not in {target.partition(".")[0] for target in targets}, name


# What each folder holds

FOLDERS = {path.parent.relative_to(ROOT).as_posix(): path for path in PACKAGES["refnet"].glob("*/**/__init__.py")}
SENTENCE = re.compile(r"[^.?!]+(?:\.(?=\S)[^.?!]*)*\.")
LISTED = re.compile(r"^- `(refnet/[\w/]+)/`: (.+?\.)$", re.MULTILINE)


def contents(path: Path) -> str:
    return " ".join((ast.get_docstring(parsed(path)) or "").replace("``", "`").split())


def test_each_folder_of_modules_is_a_package():
    assert {path.parent for path in PACKAGES["refnet"].glob("*/**/*.py")} == {path.parent for path in FOLDERS.values()}


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_each_folder_says_in_one_sentence_what_it_holds(folder):
    assert SENTENCE.fullmatch(contents(FOLDERS[folder])), contents(FOLDERS[folder])


@pytest.mark.parametrize("text", ["", "No full stop", "One sentence. Another.", "A sentence.\n\nA paragraph."])
def test_more_or_less_than_a_sentence_is_reported(text):
    assert not SENTENCE.fullmatch(" ".join(text.split()))


def test_contributing_lists_every_folder_with_its_sentence():
    listed = dict(LISTED.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert listed == {name: contents(path) for name, path in FOLDERS.items() if name.count("/") == 1}
