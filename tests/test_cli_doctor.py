"""``refnet doctor`` and ``refnet warmup``, and the description of a run's environment."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numba
import pytest
from refnet_numba import doctor as numbas

from refnet.backend import loading as registry
from refnet.cli.main import main
from refnet.machine import doctor, environment
from refnet.machine.environment import THREAD_LIMITS, blas, note, physical_cores, throttles

SETTINGS = (*THREAD_LIMITS, *environment.BLAS_CHOICES, *numbas.COSTS, "NUMBA_NUM_THREADS")
CORES = len(environment.cpus())


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """Begin with an environment that holds nothing back."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def refnet_(capfd):
    def run(*argv):
        code = main(list(argv))
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def topology(tmp_path, *siblings):
    """Lay out what Linux tells of processors: for each the list of those of its core, or None for nothing."""
    for cpu, listed in enumerate(siblings):
        directory = tmp_path / f"cpu{cpu}" / "topology"
        directory.mkdir(parents=True)
        if listed is not None:
            (directory / "thread_siblings_list").write_text(f"{listed}\n")
    return tmp_path


# The environment -----------------------------------------------------------------------------------------------------


class TestPhysicalCores:
    @pytest.mark.parametrize(
        ("siblings", "allowed", "cores"),
        [
            (["0", "1"], [0, 1], 2),
            (["0-1", "0-1"], [0, 1], 1),
            (["0,2", "1,3", "0,2", "1,3"], [0, 1, 2, 3], 2),
            (["0,2", "1,3", "0,2", "1,3"], [0, 2], 1),
            (["0,2", "1,3", "0,2", "1,3"], [0, 1, 2], 2),
            ([None, None], [0, 1], 2),
        ],
    )
    def test_hyper_threads_of_one_core_are_one(self, tmp_path, monkeypatch, siblings, allowed, cores):
        monkeypatch.setattr(environment, "cpus", lambda: allowed)
        assert physical_cores(topology(tmp_path, *siblings)) == cores

    def test_here(self):
        assert 1 <= physical_cores() <= CORES


class TestThrottles:
    @pytest.fixture(autouse=True)
    def _four_cores(self, monkeypatch):
        monkeypatch.setattr(environment, "physical_cores", lambda: 4)

    def test_nothing(self):
        assert throttles({"OPENBLAS_CORETYPE": "", "OMP_NUM_THREADS": "4", "HOME": "/"}) == []
        assert note({}) is None

    @pytest.mark.parametrize("name", THREAD_LIMITS)
    def test_fewer_threads(self, name):
        (found,) = throttles({name: "3"})
        assert (found.what, found.cost) == (f"{name}=3", "matrix products use 3 of 4 cores")
        assert found.cure.startswith(f"unset {name}")
        assert throttles({name: "3"}, threads=2) == []  # the run's own choice goes before it

    @pytest.mark.parametrize("text", ["0", "", "many", "-1", "9"])
    def test_what_limits_nothing(self, text):
        assert throttles({"OMP_NUM_THREADS": text}) == []

    @pytest.mark.parametrize("name", environment.BLAS_CHOICES)
    def test_other_kernels(self, name):
        (found,) = throttles({name: "Nehalem"}, threads=4)
        assert found.what == f"{name}=Nehalem"

    def test_the_note_is_one_line(self):
        found = note({"OPENBLAS_CORETYPE": "Nehalem", "OMP_NUM_THREADS": "1"})
        assert found.count("\n") == 0
        assert found.startswith("note: OPENBLAS_CORETYPE=Nehalem: ")
        assert "OMP_NUM_THREADS=1: matrix products use 1 of 4 cores" in found
        assert found.endswith("(refnet doctor explains how to change it)")


def test_training_begins_with_the_note(refnet_, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "1")
    argv = ("train", "--backend", "numpy", "--max-steps", "1", "--run-dir")
    assert refnet_(*argv, "a")[1].startswith("note: OPENBLAS_L2_SIZE=1: ")
    code, out, err = refnet_(*argv, "b", "--json")
    assert code == 0
    assert err.startswith("note: OPENBLAS_L2_SIZE=1: ")
    assert json.loads(out)["steps"] == 1


def test_installed():
    assert environment.installed("numpy")
    assert environment.installed("no-such-package") is None


# refnet doctor -------------------------------------------------------------------------------------------------------


class TestDoctor:
    def test_as_text(self, refnet_):
        code, out, err = refnet_("doctor")
        assert (code, err) == (0, "")
        for words in ("processor", "BLAS", "numba is ready", "threading layer: ", "cache: ", "GPU", "throttles"):
            assert words in out

    def test_json(self, refnet_):
        code, out, _ = refnet_("doctor", "--json")
        assert code == 0
        found = json.loads(out)
        assert found["backends"]["numpy"] is None
        assert found["surroundings"]["physical cores"] == physical_cores()
        numba_ = found["details"]["numba"]
        assert numba_["numba"] == numba.__version__
        assert numba_["threads at most"] == numba.config.NUMBA_NUM_THREADS
        assert numba_["features"] == sorted(numba_["features"])
        assert numba_["threading layer"] in {"omp", "tbb", "workqueue"}
        assert set(found["caches"]["numba"]) == {"directory", "functions", "bytes", "free_bytes"}

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("OPENBLAS_CORETYPE", "Nehalem", "kernels written for that processor"),
            ("NUMBA_DISABLE_JIT", "1", "every kernel runs as plain Python"),
            ("NUMBA_BOUNDSCHECK", "1", "kernels check every index"),
            ("NUMBA_OPT", "0", "optimised less"),
            ("NUMBA_CPU_NAME", "generic", "compiled for that processor"),
        ],
    )
    def test_warnings(self, refnet_, monkeypatch, name, value, words):
        assert "warning" not in refnet_("doctor")[1]
        monkeypatch.setenv(name, value)
        (line,) = (line for line in refnet_("doctor")[1].splitlines() if line.startswith("warning"))
        assert f"{name}={value}: " in line
        assert words in line
        assert f"unset {name}" in line

    @pytest.mark.parametrize(("name", "value"), [("NUMBA_DISABLE_JIT", "0"), ("NUMBA_OPT", "3"), ("NUMBA_OPT", "max")])
    def test_settings_that_change_nothing(self, name, value):
        assert numbas.throttles({name: value}) == []

    def test_fewer_threads_than_cores(self, monkeypatch):
        monkeypatch.setattr(numbas, "physical_cores", lambda: numba.config.NUMBA_NUM_THREADS + 1)
        (found,) = numbas.throttles({"NUMBA_NUM_THREADS": str(numba.config.NUMBA_NUM_THREADS)})
        assert "kernels run on at most" in found.cost

    def test_a_cache_that_cannot_be_used(self, refnet_, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
        assert "cache: none can be used" in refnet_("doctor")[1]
        assert json.loads(refnet_("doctor", "--json")[1])["caches"] == {"numba": None}

    def test_how_full_the_cache_is(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert numbas.fullness()["functions"] == 0
        (numbas.cache() / "kernel").write_bytes(b"12345")
        assert {name: numbas.fullness()[name] for name in ("functions", "bytes")} == {"functions": 1, "bytes": 5}

    def test_a_backend_that_cannot_run(self, refnet_, monkeypatch):
        def absent():
            raise ImportError("no such library")

        installed = registry._entry_points()
        points = {**installed, "numba": SimpleNamespace(load=absent)}
        monkeypatch.setattr(registry, "_entry_points", lambda: points)
        code, out, _ = refnet_("doctor")
        assert code == 0
        assert "backends         backend numba cannot run here: no such library\n" in out
        assert "threading layer" not in out

    def test_processors_that_are_denied(self, monkeypatch, tmp_path):
        monkeypatch.setattr(doctor.os, "cpu_count", lambda: CORES + 1)
        (found,) = doctor._limits()
        assert found.cost == f"this process may run on {CORES} of {CORES + 1} processors"
        monkeypatch.setattr(doctor.os, "cpu_count", lambda: CORES)
        for text, quotas in {"50000 100000\n": 1, "max 100000\n": 0, "nonsense": 0, "99900000 100000": 0}.items():
            (tmp_path / "cpu.max").write_text(text)
            monkeypatch.setattr(doctor, "QUOTA", tmp_path / "cpu.max")
            assert len(doctor._limits()) == quotas, text

    @pytest.mark.parametrize(("limit", "quota"), [("150000", 1.5), ("-1", None), ("", None)])
    def test_quotas_of_older_systems(self, monkeypatch, tmp_path, limit, quota):
        files = tmp_path / "cpu.cfs_quota_us", tmp_path / "cpu.cfs_period_us"
        for file, text in zip(files, (limit, "100000\n"), strict=True):
            file.write_text(text + "\n")
        monkeypatch.setattr(doctor, "QUOTA", tmp_path / "cpu.max")
        monkeypatch.setattr(doctor, "OLD_QUOTA", files)
        assert doctor._quota() == quota

    @pytest.mark.parametrize(
        ("program", "found"),
        [
            ("echo 'NVIDIA H100, 81559 MiB, 570.1'; echo", ["NVIDIA H100, 81559 MiB, 570.1"]),
            ("echo 'no devices'; exit 6", []),
        ],
    )
    def test_graphics_processors(self, monkeypatch, tmp_path, program, found):
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{program}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert doctor._gpus() == found

    def test_what_a_backend_without_a_doctor_tells(self):
        assert doctor.doctor_of(registry.load("numpy")) is None
        assert doctor.doctor_of(registry.load("numba")) is numbas

    def test_an_argument_that_is_not_known(self, refnet_):
        assert refnet_("doctor", "--jsn") == (
            2,
            "",
            "refnet: --jsn is not an argument of refnet doctor; did you mean --json?\n",
        )


# refnet warmup -------------------------------------------------------------------------------------------------------


COMPILED = """
import json, sys
from numba.core.dispatcher import Dispatcher
from refnet.nets import NetSpec
from refnet.terminal import progress
from refnet.cli.main import main
from refnet.training.warmup import warm_up

def signatures():
    modules = [module for name, module in sys.modules.items() if name.startswith("refnet_numba")]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)}
    return sorted(f"{dispatcher} {signature}" for dispatcher in found for signature in dispatcher.signatures)

warm_up("numba", [NetSpec("digits")], progress.Quiet())
warm = signatures()
assert main(["train", "--max-steps", "45", "--run-dir", sys.argv[1], "--json"]) == 0
print(json.dumps([warm, signatures()]))
"""


class TestWarmup:
    def test_training_needs_nothing_more(self, tmp_path):
        """A whole epoch, whose last batch is short, and the tests after it."""
        argv = [sys.executable, "-c", COMPILED, str(tmp_path / "run")]
        ran = subprocess.run(argv, env=os.environ, capture_output=True, text=True, check=False, timeout=300)
        assert ran.returncode == 0, ran.stderr
        warm, trained = json.loads(ran.stdout.splitlines()[-1])
        assert warm
        assert trained == warm

    def test_what_it_tells(self, refnet_):
        refnet_("warmup", "--net", "digits")
        code, out, _ = refnet_("warmup", "--net", "digits", "--json")
        assert code == 0
        found = json.loads(out)
        assert (found["backend"], found["compiled"], found["keeps"]) == ("numba", 0, True)
        assert found["held"] == len(list(Path(found["directory"]).iterdir())) > 0
        code, out, _ = refnet_("warmup", "--net", "digits,digits")
        assert out.endswith(f": 0 functions compiled; {found['held']} are cached in {found['directory']}\n")

    def test_a_backend_that_keeps_nothing(self, refnet_):
        code, out, err = refnet_("warmup", "--backend", "numpy", "--net", "digits")
        assert (code, err) == (0, "")
        assert out.endswith("it caches no machine code, so there is nothing to warm up\n")

    def test_no_cache(self, refnet_, monkeypatch):
        """Compiled functions stay compiled in this process; the folder is looked up again."""
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
        code, out, _ = refnet_("warmup", "--net", "digits")
        assert code == 0
        assert "no cache can be used, so every start compiles again; set XDG_CACHE_HOME" in out
        found = json.loads(refnet_("warmup", "--net", "digits", "--json")[1])
        assert found["directory"] is None
        assert (found["keeps"], found["compiled"], found["held"]) == (True, 0, 0)

    @pytest.mark.parametrize(
        ("argv", "code", "message"),
        [
            (["--net", "digit"], 2, "did you mean digits?"),
            (["--net", "digits,"], 2, "--net digits, is not allowed"),
            (["--backend", "nunpy"], 6, "did you mean numpy?"),
            (["digits"], 2, "digits is not an argument of refnet warmup"),
        ],
        ids=str,
    )
    def test_a_mistake_in_one_line(self, refnet_, argv, code, message):
        found, out, err = refnet_("warmup", *argv)
        assert (found, out) == (code, "")
        assert message in err
        assert len(err.splitlines()) == 1

    def test_an_interrupt(self, refnet_, monkeypatch):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("refnet.training.step.TrainingStep.take", interrupt)
        assert refnet_("warmup", "--net", "digits") == (130, "", "refnet: interrupted\n")


def test_libraries_of_other_packages_do_not_count_as_surroundings(monkeypatch):
    """In a notebook, SciPy's OpenBLAS may be loaded after a run and before it is resumed."""
    common = {"user_api": "blas", "internal_api": "openblas", "architecture": "Haswell", "num_threads": 2}
    numpys = common | {"filepath": "/lib/numpy.libs/a.so", "version": "1"}
    scipys = common | {"filepath": "/lib/scipy.libs/b.so", "version": "2"}
    systems = common | {"filepath": "/usr/lib/libopenblas.so", "version": "3"}

    def versions(*pools):
        monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: list(pools))
        return [pool["version"] for pool in blas()]

    assert versions(numpys) == versions(scipys, numpys) == ["1"]
    assert versions(systems, scipys) == ["3", "2"]
