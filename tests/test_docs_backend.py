"""The smallest backend, as docs/backends.md shows it: it trains, and the suite rejects a wrong version of it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "backends.md"
FILE = re.compile(r"^`([\w./]+)`, [^\n]*:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def install(tmp_path):
    """Write the package as pip would install it, with something replaced; gives the environment that sees it."""

    def write(old="", new=""):
        files = dict(FILE.findall(PAGE.read_text()))
        project = tomllib.loads(files.pop("pyproject.toml"))["project"]
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            assert path.suffix == ".py"
            path.write_text(text.replace(old, new) if old else text)
        lines = [f"{name} = {value}" for name, value in project["entry-points"]["refnet.backends"].items()]
        info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
        (info / "entry_points.txt").write_text("\n".join(["[refnet.backends]", *lines]))
        return os.environ | {"PYTHONPATH": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}

    return write


def suite(environment, folder):
    """Run the suite with CI set, so that it draws the same cases every time: few draws may miss a rare difference."""
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "refnet.testing.plugin", "--pyargs"]
    asked = ["refnet.testing.suite", "--backend", "small", "-x", "-k", "small and -relu", "--max-examples", "5"]
    return subprocess.run(
        [sys.executable, *command, *asked],
        env=environment | {"CI": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_a_backend_like_any_other(install, tmp_path):
    argv = ["-m", "refnet", "train", "--json", "--backend", "small", "--max-steps", "2", "--run-dir", "run"]
    done = subprocess.run(
        [sys.executable, *argv], env=install(), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert '"steps": 2' in done.stdout


def test_the_suite_accepts_it(install, tmp_path):
    done = suite(install(), tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)


def test_the_suite_rejects_a_wrong_one(install, tmp_path):
    done = suite(install("y[x <= 0] = 0", "y[x < 0] = 0"), tmp_path)
    assert done.returncode == 1
    assert "the bits differ: element" in done.stdout
    assert "y of relu.forward on backend small" in done.stdout


def test_the_suite_sees_what_is_not_written(install, tmp_path):
    done = suite(install("    dx[...] = dy\n", "    dx[1:] = dy[1:]\n"), tmp_path)
    assert done.returncode == 1
