"""The Python examples in the README and the notebook run as they are shown, with shorter training."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "first-steps.ipynb"


def executed(code, folder):
    return subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, cwd=folder, check=False)


@pytest.fixture(scope="module")
def cells():
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_stored_without_outputs(cells):
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]


def test_the_notebook_s_cells_run(cells, tmp_path):
    code = "import matplotlib\nmatplotlib.use('Agg')\n" + "\n".join("".join(cell["source"]) for cell in cells)
    quick = code.replace('train(net="digits")', 'train(net="digits", epochs=2)').replace("epochs=8", "epochs=1")
    assert quick.count("epochs=2") == quick.count("epochs=1)") == 1
    done = executed(quick, tmp_path)
    assert not done.returncode, done.stderr
    assert "test images are classified wrongly" in done.stdout
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_the_readme_s_ten_lines_run(tmp_path):
    section = (ROOT / "README.md").read_text().split("## Use it in Python")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    quick = code.replace('train(net="digits")', 'train(net="digits", epochs=1)')
    assert quick != code
    assert len(code.strip().splitlines()) <= 12
    shapes = "\nassert images.shape == (5, 10, 10, 1) and features.shape == (5, 128) and maps.shape == (64, 4, 4)\n"
    done = executed(quick + shapes, tmp_path)
    assert not done.returncode, done.stderr
    assert "<Tally 360 images" in done.stdout
