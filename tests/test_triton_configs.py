"""The tables of kernel configurations, and the command that tunes them.

Collected only where ``TRITON_INTERPRET`` is set, by ``nox -s tests-triton``.
"""

import pytest
from refnet_triton import _configs
from refnet_triton._configs import Config

from refnet import backend as backends
from refnet.errors import BackendUnavailableError, ConfigError, DeviceMemoryError


def test_every_table_has_every_kernel():
    kernels = {name.partition("/")[0] for name in _configs.TABLES["sm_90"].configs}
    for table in _configs.TABLES.values():
        assert {name.partition("/")[0] for name in table.configs} == kernels


@pytest.mark.parametrize(
    ("block", "size", "fitted"),
    [(128, 1000, 128), (128, 100, 128), (128, 64, 64), (128, 3, 16), (128, 192, 64), (32, 44, 16), (128, 240, 128)],
)
def test_blocks_are_fitted_to_what_they_cut(block, size, fitted):
    assert Config({"BLOCK_K": block}).fit(K=size) == {"BLOCK_K": fitted}


def test_a_newer_chip_takes_the_newest_table_before_it():
    assert _configs.find("sm_103") is _configs.TABLES["sm_100"]
    assert _configs.find("sm_89") is _configs.TABLES["sm_80"]


@pytest.mark.parametrize("architecture", ["sm_70", "gfx90a"])
def test_an_architecture_without_a_table(architecture):
    with pytest.raises(BackendUnavailableError, match=f"no kernel configurations for {architecture}, only for"):
        _configs.find(architecture)


# Tuning --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tables(monkeypatch, tmp_path):
    """A place for tuned tables, and a process that has none."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(_configs, "_used", {})
    _configs.read.cache_clear()
    yield _configs.place("sm_90")
    _configs.read.cache_clear()


def test_tuning_keeps_the_fastest_of_each_kernel(tables, monkeypatch):
    """Steps are as long as told here; one candidate does not run at all."""
    from refnet_triton import _tune

    tried = _tune.CANDIDATES["sm_90"]
    fastest = {kernel: candidates[2] for kernel, candidates in tried.items()}

    def seconds(step):
        step()
        configs = _configs.find("sm_90").configs
        if configs["multiply/tf32"] == tried["multiply"][-1]:
            raise BackendUnavailableError("too large")
        return 1 - 0.1 * sum(configs[f"{kernel}/tf32"] == config for kernel, config in fastest.items())

    said, steps, built_in = [], [], _configs.TABLES["sm_90"]
    path = _tune.tune(lambda: steps.append(1), "sm_90", "tf32", said.append, seconds)
    assert path == tables
    assert (
        len(steps)
        == len(said)
        == len({*tried["multiply"], built_in.configs["multiply/tf32"]})
        + len({*tried["correlate"], built_in.configs["correlate/tf32"]})
    )
    assert any("skipped (too large)" in line for line in said)
    monkeypatch.setattr(_configs, "_used", {})  # as in another process
    found = _configs.find("sm_90").configs
    changed = {f"{kernel}/tf32": config for kernel, config in fastest.items()}
    assert found == {**built_in.configs, **changed}
    assert _configs.find("sm_80") is _configs.TABLES["sm_80"]


def tune_where(seconds):
    from refnet_triton import _tune

    return _tune.tune(lambda: None, "sm_90", "tf32", [].append, seconds)


def test_a_step_that_does_not_fit_is_not_passed_over(tables):
    def seconds(_):
        raise DeviceMemoryError("cuda:0", 10**9)

    with pytest.raises(DeviceMemoryError, match="a smaller batch needs less"):
        tune_where(seconds)
    assert not tables.exists()


def test_a_card_that_runs_no_configuration(tables):
    def seconds(_):
        raise BackendUnavailableError("too large")

    with pytest.raises(
        BackendUnavailableError, match=r"sm_90 cannot run any configuration of multiply/tf32; try another"
    ):
        tune_where(seconds)
    assert not tables.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"programs": 1, "configs": {"lay": {"bricks": 3}}}'])
def test_a_tuned_table_that_is_none(tables, content):
    tables.parent.mkdir()
    tables.write_text(content)
    with pytest.raises(ConfigError, match=r"triton-sm_90\.json is not a table of configurations .*tune again"):
        _configs.find("sm_90")


def test_there_is_nothing_to_tune_in_the_interpreter():
    triton = backends.load("triton", columns=2)
    with pytest.raises(BackendUnavailableError, match="the interpreter cannot be tuned"):
        triton.tune(lambda: None, print)
