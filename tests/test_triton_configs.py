"""The tables of kernel configurations, and the command that tunes them.

Collected only where ``TRITON_INTERPRET`` is set, by ``nox -s tests-triton``.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from refnet_triton import _configs, _product
from refnet_triton._configs import Config

from refnet import backend as backends
from refnet import nets
from refnet.errors import BackendUnavailableError, ConfigError, DeviceMemoryError
from refnet.network import passes
from refnet.network.fuse import fuse
from refnet.training.step import begin


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
    monkeypatch.setattr(_configs, "_overrides", {})
    _configs.read.cache_clear()
    yield _configs.table_path("sm_90")
    _configs.read.cache_clear()


@pytest.fixture
def tune(tables, monkeypatch):
    """Give a function that tunes a step of digits for the interpreter, which here has the candidates of a chip."""
    from refnet_triton import _tune

    assert not tables.parent.exists()
    built_in = _configs.TABLES[_configs.INTERPRETER].configs
    candidates = {kernel: (replace(built_in[f"{kernel}/ieee"], warps=2), replace(built_in[f"{kernel}/ieee"], warps=8))
                  for kernel in ("multiply", "correlate")}  # fmt: skip
    monkeypatch.setattr(_tune, "CANDIDATES", {_configs.INTERPRETER: candidates})
    backend = backends.load("triton", columns=2)
    training = begin(fuse(nets.get("digits").plan(2)), backend)
    images = passes.place(training.plan, np.ones((2, 1, 8, 8), np.float32), backend)

    def run(seconds):
        said = []
        step = partial(training.take, images, np.zeros(2, np.int64), 0.0, 1)
        path = _tune.tune(step, _configs.INTERPRETER, "ieee", said.append, seconds)
        return path, said, {kernel: dict(zip((1, 2, 8), (built_in[f"{kernel}/ieee"], *configs), strict=True))
                            for kernel, configs in candidates.items()}  # fmt: skip

    return run


def launched(call):
    """Return the kernel, its shape and the warps with which a product is launched."""
    with pytest.MonkeyPatch.context() as patch:
        launches = []
        patch.setattr(
            _product, "launch", lambda kernel, _, *__, config, **sizes: launches.append((kernel, config, sizes))
        )
        call()
    kernel, config, sizes = launches[0]
    return kernel.__name__, sizes["K"], sizes["RUN"], config.warps


def test_tuning_gives_a_shape_its_own_configuration_where_that_pays(tune, monkeypatch):
    """A product takes as long as told here: most are fastest with 2 warps, one by far with 8, one by a little."""

    def seconds(again):
        kernel, filters, run, warps = launched(again)
        if kernel == "correlate":
            return {1: 3.0, 2: 2.0, 8: 4.0}[warps]
        if (filters, run) == (10, 128):  # the last layer
            return {1: 3.0, 2: 2.0, 8: 1.0}[warps]
        return {1: 3.0, 2: 2.0, 8: 1.99}[warps] if filters == 32 else {1: 3.0, 2: 2.0, 8: 9.0}[warps]

    path, said, configs = tune(seconds)
    assert path == _configs.table_path(_configs.INTERPRETER)
    monkeypatch.setattr(_configs, "_overrides", {})  # as in another process
    table = _configs.find(_configs.INTERPRETER)
    assert table.configs["multiply/ieee"] == configs["multiply"][2]
    assert table.configs["correlate/ieee"] == configs["correlate"][2]
    own = {name: config for name, config in table.configs.items() if " " in name}
    assert own == {"multiply/ieee 10x1x128 1x1": configs["multiply"][8]}
    assert table.of(_configs.Product("multiply/ieee", 10, 1, 128, 1, 1)).warps == 8
    assert table.of(_configs.Product("multiply/ieee", 10, 1, 129, 1, 1)).warps == 2
    assert any("us, 2 in a step" in line for line in said)


def test_tuning_leaves_out_what_the_card_cannot_run(tune):
    def seconds(again):
        if launched(again)[3] == 2:
            raise BackendUnavailableError("too large")
        return 1.0 / launched(again)[3]

    _, said, configs = tune(seconds)
    assert _configs.find(_configs.INTERPRETER).configs["multiply/ieee"] == configs["multiply"][8]
    assert any("skipped (too large)" in line for line in said)


def test_a_step_that_does_not_fit_is_not_passed_over(tune):
    def seconds(_):
        raise DeviceMemoryError("cuda:0", 10**9)

    with pytest.raises(DeviceMemoryError, match="a smaller batch needs less"):
        tune(seconds)
    assert not _configs.table_path(_configs.INTERPRETER).exists()


def test_a_card_that_runs_no_configuration(tune):
    def seconds(_):
        raise BackendUnavailableError("too large")

    with pytest.raises(BackendUnavailableError, match=r"no configuration of multiply/ieee can run here; try another"):
        tune(seconds)
    assert not _configs.table_path(_configs.INTERPRETER).exists()


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
