"""The pytest plugin of the conformance suite: its options, and the fixtures that return backends.

``--backend`` and ``--precision`` have the same meaning as in ``refnet train``: a registered name, and an option that
only some backends have. A backend that cannot be loaded ends the run with a usage error; it is never skipped.
"""

import os
from typing import Any

import pytest
from hypothesis import settings

from refnet.backend.loading import available, load
from refnet.errors import RefnetError

settings.register_profile("dev", deadline=None, max_examples=33)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None, print_blob=True)
settings.register_profile("property", settings.get_profile("dev"), max_examples=800, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("refnet")
    group.addoption(
        "--backend",
        action="append",
        metavar="NAME",
        help="check this backend, as in refnet train; repeatable (default: the setting refnet_backends)",
    )
    parser.addini("refnet_backends", "backends to check without --backend (default: all that can run here)", "args")
    group.addoption("--precision", metavar="NAME", help="precision of matrix products (default: the backend's own)")
    group.addoption("--max-examples", type=int, metavar="N", help="draw N cases in each test")


def pytest_configure(config: pytest.Config) -> None:
    """Choose Hypothesis's profile and load every backend to check; end the run if one cannot be loaded."""
    if not config.getoption("hypothesis_profile", None):
        settings.load_profile("ci" if "CI" in os.environ else "dev")
    if max_examples := config.getoption("max_examples"):
        current = settings.get_profile(settings.get_current_profile_name())
        settings.register_profile("command_line", current, max_examples=max_examples)
        settings.load_profile("command_line")
    for name in names(config):
        try:
            load(name, checked=False, precision=config.getoption("precision"))
        except RefnetError as error:
            raise pytest.UsageError(f"--backend {name}: {error}") from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that needs a backend on each backend to check."""
    for fixture in ("backend", "two_columns"):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, names(metafunc.config), indirect=True, scope="session")


def names(config: pytest.Config) -> tuple[str, ...]:
    """Return the names of the backends to check, without repetitions."""
    requested = config.getoption("backend") or config.getini("refnet_backends")
    return tuple(dict.fromkeys(requested)) or tuple(name for name, reason in available().items() if reason is None)


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> Any:
    """Return a backend with one column."""
    return load(request.param, checked=False, precision=request.config.getoption("precision"))


@pytest.fixture(scope="session")
def two_columns(request: pytest.FixtureRequest) -> Any:
    """Return the same backend with two columns."""
    return load(request.param, columns=2, checked=False, precision=request.config.getoption("precision"))
