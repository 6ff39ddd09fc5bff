"""The project's tasks, which ``nox -l`` lists."""

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "typing", "tests", "tests-triton", "triton-audit", "docs"]
nox.options.default_venv_backend = "venv"

GROUPS = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    """Return the packages of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(GROUPS, name))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style: ruff's rules and formatting."""
    session.install(*group("lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types: mypy, strict."""
    session.install("-e", ".", *group("typing"))
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on two workers, against the installed wheel."""
    session.install(".", *group("test"))
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session(name="tests-triton")
def tests_triton(session: nox.Session) -> None:
    """Run the conformance suite on the Triton backend, in Triton's interpreter."""
    session.install(".", *group("triton"))
    own = [f"tests/test_triton{name}.py" for name in ("", "_audit", "_banks", "_configs", "_graph", "_tf32")]
    suite = [
        "tests/test_agreement.py",
        "tests/test_arguments.py",
        "tests/test_laws.py",
        "tests/test_growth.py",
        *own,
        "--backend",
        "triton",
    ]
    # The interpreter's matrix products are small, so that threads would mostly wait for each other.
    environment = {"TRITON_INTERPRET": "1", "OPENBLAS_NUM_THREADS": "1"}
    session.run("pytest", "-n", "2", *suite, *session.posargs, env=environment)


@nox.session(name="triton-audit")
def triton_audit(session: nox.Session) -> None:
    """Compile every GPU kernel for four chips, and check for spills, narrow loads and missing tensor cores."""
    session.install(".", *group("triton"))
    session.run("python", "-m", "refnet_triton.audit", *session.posargs, env={"TRITON_INTERPRET": None})


@nox.session(name="property")
def property_(session: nox.Session) -> None:
    """Run the conformance suite with random seeds and many examples (takes hours)."""
    session.install(".", *group("test"))
    session.run("pytest", "-n", "2", "tests/test_agreement.py", "--hypothesis-profile=property", *session.posargs)


@nox.session(name="numba-checks")
@nox.parametrize("setting", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def numba_checks(session: nox.Session, setting: str) -> None:
    """Run the conformance suite on Numba with bounds checks, and as plain Python."""
    session.install(".", *group("test"))
    suite = [
        "tests/test_agreement.py",
        "tests/test_arguments.py",
        "tests/test_laws.py",
        "--backend",
        "numba",
        "--max-examples",
        "5",
    ]
    session.run("pytest", "-n", "2", *suite, *session.posargs, env={setting: "1"})


@nox.session
def pages(session: nox.Session) -> None:
    """Check a run's page in Debian's Chromium, at two widths, light and dark."""
    session.install(".", *group("pages"))
    session.run("pytest", "tests/browser.py", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Run the fault tests of training (kills, signals, full disks, long runs) at full length, for half an hour."""
    session.install(".", *group("test"))
    session.run("pytest", "tests/test_faults.py", "--faults", "all", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the documentation's examples, and build it into docs/_build/html; warnings are errors."""
    session.install(".", *group("docs"))
    session.run("python", "docs/examples.py", *session.posargs)
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-E", "docs", "docs/_build/html")


@nox.session
def bench(session: nox.Session) -> None:
    """Time the ops and the training step of the paper's network, compared with PyTorch."""
    session.install(".", *group("bench"))
    environment = {"OPENBLAS_CORETYPE": None, "OPENBLAS_L2_SIZE": None}  # they would slow down PyTorch or NumPy
    session.run("pytest", "benchmarks", *session.posargs, env=environment)


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel and the source archive, and train a few steps from the wheel in a bare environment."""
    session.install("build")
    dist = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", dist, silent=True)
    session.run("python", "-m", "pip", "uninstall", "-y", "build", silent=True)
    session.install("--no-index", "--find-links", dist, "--no-deps", "refnet")
    session.install("refnet")  # its dependencies
    with session.chdir(dist):
        session.run("refnet", "train", "--max-steps", "3")
        session.run("refnet", "summary")
