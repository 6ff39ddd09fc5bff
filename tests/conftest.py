"""Fixtures and options of all tests, and the conformance suite's plugin with its backend fixtures."""

import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from programs import QUICK
from threadpoolctl import threadpool_limits

import refnet
from refnet.config import configure
from refnet.machine import compiling, environment
from refnet.nets import NetSpec, registry
from refnet.runs.checkpoint import Checkpoint, expected_shapes
from refnet.runs.state import DataFacts, Facts, Rate, State, Validated

BLAS_SETTINGS = {name: os.environ[name] for name in environment.BLAS_CHOICES if name in os.environ}
PHOTOS = Path(__file__).parents[1].parent / "shared" / "data" / "photos"

pytest.register_assert_rewrite("networks", "preparing")
pytest_plugins = ["refnet.testing.plugin"]

# A process can use Triton either for GPUs or as an interpreter, so these tests have their own session (tests-triton).
INTERPRETED = [f"test_triton{name}.py" for name in ("", "_audit", "_banks", "_configs", "_graph", "_tf32")]
collect_ignore = [] if "TRITON_INTERPRET" in os.environ else INTERPRETED


def pytest_terminal_summary(terminalreporter):
    """Print what tests have counted (`record_property`), including tests that ran in other processes."""
    reports = [r for kind in terminalreporter.stats.values() for r in kind if getattr(r, "when", None) == "call"]
    for line in [line for report in reports for name, line in report.user_properties if name == "counted"]:
        terminalreporter.write_line(line)


def pytest_addoption(parser):
    parser.addoption(
        "--faults", choices=["few", "all"], default="few", help="number of faults: few for every day, all for a release"
    )


@pytest.fixture(autouse=True)
def same_notes_everywhere(monkeypatch):
    """Hide this machine's own BLAS settings from refnet's notes; settings that a test makes are still noted.

    The variables keep their values, because some processors need them to compute correctly.
    """
    real = environment.throttles

    def throttles(environ, threads=None):
        return real({name: text for name, text in environ.items() if BLAS_SETTINGS.get(name) != text}, threads)

    monkeypatch.setattr(environment, "throttles", throttles)


@pytest.fixture(autouse=True)
def no_notes_of_compiling(monkeypatch):
    """Keep refnet from noting that it compiles, which depends on the tests that ran before."""
    monkeypatch.setattr(compiling, "_noting", SimpleNamespace(acquire=lambda blocking: False))  # noqa: ARG005


@pytest.fixture(autouse=True)
def networks_of_this_test(monkeypatch):
    """Forget the networks that a test registers, which messages of other tests would list."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that installs a package of one module with entry points of one group, during the test."""
    folder = tmp_path / "site-packages"
    modules = []

    def install(module, text, group, **targets):
        metadata = folder / f"{module}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (folder / f"{module}.py").write_text(text)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = [f"{name} = {target}" for name, target in targets.items()]
        (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        monkeypatch.syspath_prepend(str(folder))
        modules.append(module)

    yield install
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture(scope="module")
def one_thread():
    """Let BLAS compute with one thread, because tests that run in parallel would compete for cores."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    """Change to an empty folder, without variables that configure refnet, and return the folder."""
    for name in [name for name in os.environ if name.startswith("REFNET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Return a folder of three classes of five photographs: nine to train on, three for validation, three to test."""
    root = tmp_path_factory.mktemp("photographs") / "three"
    for name in sorted(path.name for path in PHOTOS.iterdir())[:3]:
        shutil.copytree(PHOTOS / name, root / name)
    return root


@pytest.fixture(scope="module")
def digits():
    """Open the embedded digits."""
    return refnet.open_data("digits")


@pytest.fixture(scope="module")
def digit_arrays(digits):
    """Return arrays: the first 200 training images of the digits, and their labels."""
    return digits.train[:200]


@pytest.fixture(scope="module")
def digits_run(one_thread, tmp_path_factory):  # noqa: ARG001
    """Train a run of one epoch on the digits."""
    return refnet.train(epochs=1, run_dir=tmp_path_factory.mktemp("runs") / "run", **QUICK)


@pytest.fixture
def example():
    """Return the digits net with parameters and images for which every layer affects the result."""
    from networks import digits_example

    return digits_example()


@pytest.fixture(scope="session")
def falsified():
    """Return a function that runs a check on draws until one fails, and returns the message of the failure."""

    def find(check, strategy, draws=100):
        @settings(max_examples=draws, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
        @given(strategy)
        def every_draw_passes(drawn):
            check(drawn)

        with pytest.raises(AssertionError) as caught:
            every_draw_passes()
        return str(caught.value)

    return find


@pytest.fixture(scope="session")
def checkpoint_of():
    """Return a function that makes a checkpoint of the digits net with random numbers."""

    def make(step=7, best=None, seed=0, **facts):
        validated = None if best is None else Validated(epoch=1, step=best, loss=2.5, top1_error=0.25, top5_error=0.0)
        state = State(
            Rate(0.015, best=0.25), step=step, position=32 * step, total=1 / 3, counted=32 * step, best=validated
        )
        data = DataFacts("digits", "embedded", "handwritten digits", (10, 10, 1), "f" * 64)
        described = {"spec": NetSpec("digits"), "backend": "numpy", "classes": tuple("0123456789")}
        described |= {"config": asdict(configure()), "environment": {"numpy": "2"}} | facts
        whole = Facts(data=data, state=state, **described)
        rng = np.random.default_rng(seed)
        arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in expected_shapes(whole).items()}
        params, velocities = (
            {name.removeprefix(kind): a for name, a in arrays.items() if name.startswith(kind)}
            for kind in ("param/", "velocity/")
        )
        return Checkpoint(whole, params, velocities, arrays["data/mean"])

    return make
