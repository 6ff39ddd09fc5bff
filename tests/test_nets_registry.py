"""Networks by name: each is one file and one line, in refnet, in another package, or in this process."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from refnet import nets
from refnet.cli.main import main
from refnet.config import configure
from refnet.errors import ConfigError, ShapeError
from refnet.nets import NetSpec, registry
from refnet.network.fuse import fuse
from refnet.network.plan import conv, linear, maxpool, relu
from refnet.runs import generations

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")

# The whole file of a network.
MINI = """
from refnet.nets.net import Net
from refnet.network.plan import conv, linear, relu

RECIPE = {"batch": 64, "lr": 0.02, "epochs": 1, "columns": 1, "schedule": "fixed"}
SIGMAS = {"narrow": 0.02, "wide": 0.2}


def mini(init="narrow"):
    layers = (
        conv("conv1", 4, 3, pad=1, sigma=SIGMAS[init], bias=0),
        relu("relu1"),
        linear("fc2", 10, sigma=0.1, bias=0, columns="one"),
    )
    return Net("mini", (1, 8, 8), 10, layers, tuple(SIGMAS), RECIPE, data="digits")


another = mini()
nothing = 7
"""


@pytest.fixture
def package(installed):
    """A function that registers entry points for networks of the module ``minipackage``."""
    return partial(installed, "minipackage", MINI, "refnet.nets")


@pytest.fixture
def own():
    """A network that is registered in this process while the test runs."""
    layers = (
        conv("conv1", 4, 3, pad=1, sigma=0.1, bias=0),
        relu("relu1"),
        maxpool("pool1"),
        linear("fc2", 10, sigma=0.1, bias=0, columns="one"),
    )
    yield nets.Net("my-own", (1, 8, 8), 10, layers, data="digits")
    registry._registered.clear()


def trained(*argv):
    assert main(["train", "--json", "--backend", "numpy", "--max-steps", "3", "--run-dir", "run", *argv]) == 0
    return generations.load(Path("run")).facts


def test_a_network_of_one_file_and_one_line(package, monkeypatch):
    package()
    monkeypatch.setattr(registry, "OWN", {**registry.OWN, "mini": "minipackage:mini"})
    facts = trained("--net", "mini", "--init", "wide")
    assert (facts.config["net"], facts.config["init"], facts.config["batch"]) == ("mini", "wide", 64)
    assert list(nets.NETS)[-1] == "mini"


def test_a_network_of_another_package(package, capsys):
    package(mini="minipackage:mini")
    assert trained("--net", "mini").config["columns"] == 1
    assert "mini" in nets.NETS
    assert nets.get("mini", "wide").layers[0].sigma == 0.2
    assert main(["summary", "mini"]) == 0
    assert "conv1" in capsys.readouterr().out
    assert main(["train", "--resume", "run", "--max-steps", "5", "--json"]) == 0


def test_a_package_cannot_replace_a_network_of_refnet(package):
    before = nets.get("paper")
    package(paper="minipackage:mini")
    assert nets.get("paper") == before


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("mini", "minipackage:absent", r"net mini \(minipackage:absent\) cannot be loaded \(.*absent.*\); update its"),
        ("mini", "nopackage:mini", r"net mini \(nopackage:mini\) cannot be loaded \(No module named 'nopackage'\)"),
        ("mini", "minipackage:nothing", r"net mini \(minipackage:nothing\) is not a refnet.nets.Net"),
        ("large", "minipackage:another", r"net large \(minipackage:another\) returns a net with the name mini"),
    ],
)
def test_a_broken_package_is_named(package, name, target, message):
    package(**{name: target})
    with pytest.raises(ConfigError, match=message):
        nets.get(name)
    assert nets.get("digits").name == "digits"
    assert name in nets.NETS


def test_a_network_of_this_process(own, capsys):
    with pytest.raises(ConfigError, match="net my-own is not known"):
        nets.get(own.name)
    assert nets.register(own) == "my-own"
    assert nets.get("my-own") is own
    assert trained("--net", "my-own").config["columns"] == 2
    changed = replace(own, layers=(replace(own.layers[0], width=8), *own.layers[1:]))
    nets.register(changed)
    assert configure("my-own").net == "my-own"
    assert nets.get("my-own") is changed
    assert main(["train", "--resume", "run", "--max-steps", "5"]) == 4  # its parameters have other shapes
    assert "param/conv1@0.b: it is F32 (2,), net my-own in 2 columns needs F32 (4,)" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="net my-own has no initialisation wide; it has default"):
        nets.get("my-own", "wide")
    with pytest.raises(ConfigError, match="there is a net paper already"):
        nets.register(replace(own, name="paper"))


def test_a_run_of_a_network_that_is_no_longer_known(own, capsys):
    nets.register(own)
    trained("--net", "my-own")
    registry._registered.clear()
    capsys.readouterr()
    for argv, code in ((["train", "--resume", "run"], 2), (["eval", "--checkpoint", "run"], 4)):
        assert main(argv) == code
        err = capsys.readouterr().err
        assert "my-own" in err
        assert "register a network of your own first" in err
        assert len(err.splitlines()) == 1


def test_all_names_are_known_without_loading():
    assert list(nets.NETS) == list(registry.OWN)
    assert len(nets.NETS) == len(registry.OWN)
    assert "papre" not in nets.NETS
    assert nets.NETS["paper"] == nets.get("paper")
    assert registry.RECIPES["half"]["columns"] == 1
    assert registry.INITS["paper"] == ("code2012", "paper")
    with pytest.raises(KeyError):
        nets.NETS["papre"]


# NetSpec


def test_a_spec_names_a_plan():
    spec = NetSpec("paper", "paper", ("tanh",), 2, "none")
    net = nets.get("paper", "paper", ["tanh"])
    assert spec.net() == net
    assert spec.plan(fused=False) == net.plan(2, exchange=False)
    assert spec.plan() == fuse(net.plan(2, exchange=False))
    assert NetSpec("half", columns=1).plan(fused=False) == nets.get("half").plan(1)
    assert NetSpec("paper", exchange="fp16").plan(fused=False) == nets.get("paper").plan(2)


@pytest.mark.parametrize("name", nets.NETS)
@pytest.mark.parametrize("columns", [1, 2])
def test_other_numbers_of_outputs(name, columns):
    """Only the last layer changes: its width, and so its parameters."""
    own = NetSpec(name, columns=columns)
    other = replace(own, outputs=7)
    assert other.net().outputs == 7
    plan, expected = other.plan(), own.plan()
    assert plan.nodes[-1].shape == (7,)
    assert plan.nodes[-1].params == {"w": (7, *expected.nodes[-1].params["w"][1:]), "b": (7,)}
    assert plan.nodes[:-1] == expected.nodes[:-1]
    assert replace(own, outputs=own.net().outputs).plan() == expected


def test_a_spec_that_cannot_be():
    with pytest.raises(ConfigError, match="net digits cannot have 0 outputs"):
        NetSpec("digits", outputs=0).plan()
    with pytest.raises(ShapeError, match="do not divide among 3 columns"):
        NetSpec("digits", columns=3).plan()
