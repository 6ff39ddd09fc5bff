"""An op is added by the steps in CONTRIBUTING, in at most eight files, and a network that uses it learns."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COPIED = ("refnet", "backends", "docs/_ext", "docs/ops")
MOST = 8
# The interpreter of Triton, where there is one, checks the op's kernels too (nox -s tests-triton).
BACKENDS = ("numpy", "numba", *(["triton"] if "TRITON_INTERPRET" in os.environ else []))

CHAPTER = '''
"""Square unit: every number is multiplied by itself.

Source
------
Not in the paper.

Forward
-------
::

    y = x²

Backward
--------
From dy/dx = 2x::

    dx = 2x * dy

Shapes
------
x, y, dy and dx have one shape, any shape.

Decisions
---------
None.

Kept for backward
-----------------
x, which exists anyway.
"""

from refnet.ops._arguments import checked
from refnet.ops._rules import Floats, Shape, require_same

INTERFACE = ("forward", "backward")


def forward_shapes(x: Shape) -> tuple[Shape, ...]:
    """Shape rule: (y,)."""
    return (x,)


@checked
def forward(x: Floats) -> Floats:
    """Return y, shaped like x."""
    return x * x


def backward_shapes(dy: Shape, x: Shape) -> tuple[Shape, ...]:
    """Shape rule: (dx,). Raises ``ShapeError`` unless dy has the shape of x."""
    require_same("square", x=x, dy=dy)
    return (x,)


@checked
def backward(dy: Floats, x: Floats) -> Floats:
    """Return the gradient of x."""
    return 2 * x * dy
'''

CASE = '''
"""Cases of :mod:`refnet.ops.square`."""

import numpy as np
from hypothesis import strategies as st

from refnet.ops import square
from refnet.testing.call import Options, Sizes, Values
from refnet.testing.cases._case import Case, Given
from refnet.testing.gradients import CURVED_TOLERANCE, Differentiable, spread
from refnet.testing.strategies import Geometry, shape, shapes


def _forward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    return {"x": values(*shape(sizes, "NCHW"))}


def _backward_arguments(sizes: Sizes, _options: Options, values: Values) -> Given:
    return {"dy": values(*shape(sizes, "NCHW")), "x": values(*shape(sizes, "NCHW"))}


def _differentiable(sizes: Sizes, _options: Options, rng: np.random.Generator) -> Differentiable:
    x = spread(rng, *shape(sizes, "NCHW"))
    return Differentiable(square.forward, (x,), lambda backward, dy, x: [backward(dy, x)], CURVED_TOLERANCE)


@st.composite
def _geometry(draw: st.DrawFn) -> Geometry:
    return draw(shapes()), {}


CASES = (
    Case(
        "square",
        "forward",
        _geometry(),
        _forward_arguments,
        results=("y",),
        exact="always",
        mutants={"absolute value": abs, "cube": lambda x: x * x * x, "doubled": lambda x: 2 * x},
    ),
    Case(
        "square",
        "backward",
        _geometry(),
        _backward_arguments,
        results=("dx",),
        exact="always",
        differentiable=_differentiable,
        mutants={
            "the 2 forgotten": lambda dy, x: x * dy,
            "dy forgotten": lambda _dy, x: 2 * x,
            "sign forgotten": lambda dy, x: abs(2 * x) * dy,
        },
        refusals={"dy must have the shape of x": {"dy": (2, 3), "x": (3, 2)}},
    ),
)
'''

NUMBA = '''
"""Square unit; see :mod:`refnet.ops.square`. One pass over memory."""

import numpy as np
import numpy.typing as npt
from numba import prange

from refnet_numba import _elementwise
from refnet_numba._jit import kernel

Floats = npt.NDArray[np.float32]


def forward(x: Floats) -> Floats:
    """Square."""
    return _elementwise.run(_forward, x)


def backward(dy: Floats, x: Floats) -> Floats:
    """Gradient of x."""
    return _elementwise.run(_backward, dy, x)


@kernel
def _forward(x: Floats, y: Floats) -> None:
    for i in prange(x.size):
        y[i] = x[i] * x[i]


@kernel
def _backward(dy: Floats, x: Floats, dx: Floats) -> None:
    for i in prange(x.size):
        dx[i] = np.float32(2) * x[i] * dy[i]
'''

TRITON = '''
"""Square unit; see :mod:`refnet.ops.square`. One pass over memory."""

from typing import Any

import torch
import triton
import triton.language as tl

from refnet_triton import _elementwise

Tensor = torch.Tensor


def forward(x: Tensor) -> Tensor:
    """Square."""
    return _elementwise.result(square_forward, x)


def backward(dy: Tensor, x: Tensor) -> Tensor:
    """Gradient of x."""
    return _elementwise.result(square_backward, dy, x)


def audited(backend: Any, x: Tensor) -> None:
    """Launch, for the audit, what a training step of the paper's network does not."""
    backend.square.backward(x, backend.square.forward(x))


@triton.jit
def square_forward(x, y, SIZE, BLOCK_I: tl.constexpr):
    """y = x * x."""
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    inside = i < SIZE
    numbers = tl.load(x + i, mask=inside, other=0.0)
    tl.store(y + i, numbers * numbers, mask=inside)


@triton.jit
def square_backward(dy, x, dx, SIZE, BLOCK_I: tl.constexpr):
    """dx = 2x * dy."""
    i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    inside = i < SIZE
    up, numbers = tl.load(dy + i, mask=inside, other=0.0), tl.load(x + i, mask=inside, other=0.0)
    tl.store(dx + i, 2 * numbers * up, mask=inside)
'''

FIGURE = '''
"""Left, the square unit and its derivative.

Right, the upper map of the chapter conv2d before and after.
"""

import numpy as np
from matplotlib.figure import Figure

from refnet.ops import square


def draw(figure: Figure) -> None:
    """Draw the unit and its derivative."""
    x = np.linspace(-2, 2, 100)
    axes = figure.subplots()
    axes.plot(x, square.forward(x))
    axes.plot(x, square.backward(np.ones_like(x), x))
'''

LAYER = '''def square(_: Node, inputs: Inputs, __: Params, pass_: Pass) -> LayerResult:
    """Square."""
    op = pass_.backend.square
    return op.forward(*inputs), lambda dy: ((op.backward(dy, *inputs),), {})


'''

CONSTRUCTOR = '''def square(name: str) -> Layer:
    """Write a layer of square units."""
    return Layer(name, "square")


'''

WRITTEN = {
    "refnet/ops/square.py": CHAPTER,
    "refnet/testing/cases/square.py": CASE,
    "backends/refnet_numba/square.py": NUMBA,
    "backends/refnet_triton/square.py": TRITON,
    "docs/_ext/figures/square.py": FIGURE,
}
# In these files, the second text is put before the first.
CHANGED = {
    "refnet/ops/__init__.py": [('    "lrn",\n', '    "square",\n')],
    "refnet/network/layers.py": [("def lrn(", LAYER), ("    lrn,\n", "    square,\n")],
    "refnet/network/plan.py": [("def lrn(", CONSTRUCTOR)],
}

TRAIN = """
import numpy as np
from refnet.backend import load
from refnet.network import passes
from refnet.network.fuse import fuse
from refnet.network.initial import initialise
from refnet.network.plan import conv, linear, maxpool, split, square
from refnet.training.step import TrainingStep

layers = (
    conv("conv1", 4, 3, sigma=0.2, bias=0.1), square("square1"), maxpool("pool1"), linear("fc2", 3, sigma=0.1, bias=0)
)
plan, backend = fuse(split(layers, 1, (1, 7, 9))), load("numpy", results=True)
host = initialise(plan, seed=0)
before = host["conv1@0.w"].copy()
params, velocities = (passes.place_params(plan, a, backend) for a in (host, {k: 0 * a for k, a in host.items()}))
step = TrainingStep(plan, backend, params, velocities)
rng = np.random.default_rng(0)
labels = rng.integers(0, 3, 12)
pixels = (rng.standard_normal((12, 1, 7, 9)) + labels[:, None, None, None]).astype(np.float32)
losses = [step.take(passes.place(plan, pixels, backend), labels, 0.05, n) for n in range(1, 31)]
assert losses[-1] < 0.5 * losses[0], losses
assert (backend.to_numpy(step.params["conv1@0.w"]) != before).all()  # its gradient came through the new op
"""


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Copy the packages, add the op, and return a function that runs Python there."""
    folder = tmp_path_factory.mktemp("grown")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in WRITTEN.items():
        assert not (folder / name).exists()
        (folder / name).write_text(text.lstrip())
    for name, insertions in CHANGED.items():
        text = (folder / name).read_text()
        for anchor, inserted in insertions:
            assert text.count(anchor) == 1, (name, anchor)
            text = text.replace(anchor, inserted + anchor)
        (folder / name).write_text(text)

    def python(*argv):
        path = os.pathsep.join(str(folder / name) for name in (".", "backends", "docs/_ext"))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment |= {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "CI": "1"}
        return subprocess.run(
            [sys.executable, *argv], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    return python


def test_it_takes_the_files_that_contributing_lists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = re.search(r"^## Add an op\n(.*?)^Nothing else", text, re.MULTILINE | re.DOTALL)[1]
    listed = {path.replace("<op>", "square") for path in re.findall(r"`((?:refnet|backends|docs)/[^`]+\.py)`", section)}
    assert {*WRITTEN, *CHANGED} == listed
    assert len(listed) <= MOST


def test_backends_agree_on_it(grown):
    argv = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "refnet.testing.plugin", "--pyargs"]
    asked = [argument for name in BACKENDS for argument in ("--backend", name)]
    done = grown(*argv, "refnet.testing.suite", *asked, "-k", "square", "--max-examples", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    # By backend: 2 exact, 2 repeated, 2 guarded, 2 views, 1 refusal.
    assert f"{9 * len(BACKENDS)} passed" in done.stdout


def test_its_gradient_and_its_mutants_are_tested(grown):
    tests = [str(ROOT / "tests" / f"test_{name}.py") for name in ("reference", "testing")]
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    done = grown("-m", "pytest", "-q", *settings, *tests, "-k", "square or every", "--backend", "numpy")
    assert done.returncode == 0, done.stdout + done.stderr
    asked = {"the 2 forgotten", "dy forgotten", "cube", "absolute value", "dy must have the shape of x"}
    listed = grown(
        "-m", "pytest", "-q", "--collect-only", *settings, *tests, "-k", "square", "--backend", "numpy"
    ).stdout
    assert all(f"square.{name}" in listed for name in ("forward", "backward"))
    assert not [name for name in asked if name not in listed]


def test_a_network_that_uses_it_learns(grown):
    done = grown("-c", TRAIN)
    assert done.returncode == 0, done.stderr


def test_it_has_a_page_and_a_figure(grown):
    code = (
        "import chapters, figures; from refnet.pictures.drawing import short_name; print(short_name('square'));"
        "print(figures.caption('square')); figures.render('square'); print(chapters._chapter('square'));"
        "print(chapters.table())"
    )
    done = grown("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("square\nLeft, the square unit and its derivative. Right")
    assert "the 2 forgotten; dy forgotten; sign forgotten" in done.stdout
    assert "| [square](../../refnet/ops/square.py) | square unit |  |" in done.stdout
    assert "| [lrn](../../refnet/ops/lrn.py) | local response normalisation (LRN) | 3.3 |" in done.stdout
