"""Settings that a run takes from its data, not only from its net: the number of outputs, and mirror images."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refnet import nets
from refnet.cli.main import main
from refnet.errors import ConfigError
from refnet.evaluation import protocol
from refnet.evaluation.trained import open_trained
from refnet.nets import Net, NetSpec
from refnet.network.plan import linear, relu
from refnet.runs import checkpoint, generations
from refnet.training import loop

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")


@pytest.fixture
def folder(tmp_path):
    """Make a folder of three pictures of noise for each class."""

    def make(classes):
        root, rng = tmp_path / f"data{classes}", np.random.default_rng(0)
        for label in range(classes):
            where = root / f"class{label:02}"
            where.mkdir(parents=True)
            for number in range(3):
                Image.fromarray(rng.integers(256, size=(9, 9, 3), dtype=np.uint8)).save(where / f"{number}.png")
        return root

    return make


@pytest.fixture
def train(capsys):
    """Take one step with the reference; give the checkpoint, or what is wrong."""

    def run(where, *argv):
        backend = ("--backend", "numpy", "--run-dir", where)
        argv = (*argv, "--max-steps", 1, *(() if "--resume" in argv else backend))
        code = main(["train", "--json", *map(str, argv)])
        err = capsys.readouterr().err
        return generations.load(Path(where), "newest") if code == 0 else (code, err.splitlines()[-1])

    return run


def last_bias(saved):
    return [a for name, a in saved.params.items() if name.endswith(".b")][-1]


@pytest.mark.parametrize("net", ["digits", "cifar", "fashion"])
@pytest.mark.parametrize("classes", [2, 3, 12])
def test_a_net_has_an_output_for_each_class(train, folder, capsys, net, classes):
    data = folder(classes)
    saved = train("run", "--net", net, "--data", data)
    assert saved.facts.spec.outputs == len(last_bias(saved)) == classes
    assert main(["predict", str(data / "class00/0.png"), "--checkpoint", "run", "--json"]) == 0
    (image,) = json.loads(capsys.readouterr().out)["images"]

    assert len(image["top5"]) == min(classes, 5)
    assert all(p["class"] == f"class{p['output']:02}" for p in image["top5"])
    assert main(["eval", "--checkpoint", "run", "--json"]) == 0
    assert np.array(json.loads(capsys.readouterr().out)["confusion"]).shape == (classes, classes)


@pytest.mark.parametrize("name", nets.NETS)
def test_every_net_can_have_any_number_of_outputs(name):
    own = nets.get(name)
    for columns in (1, 2):
        assert NetSpec(name, columns=columns, outputs=12).plan().nodes[-1].shape == (12,)
        assert NetSpec(name, columns=columns, outputs=own.outputs).plan() == NetSpec(name, columns=columns).plan()


def test_the_bits_are_the_nets_own_where_the_number_agrees(train):
    saved, stated = train("saved"), train("stated", "--outputs", 10)
    assert saved.facts.spec == stated.facts.spec == NetSpec("digits", outputs=10)
    assert {name: a.tobytes() for name, a in saved.params.items()} == {n: a.tobytes() for n, a in stated.params.items()}


def test_more_outputs_than_classes(train, folder):
    assert len(last_bias(train("run", "--data", folder(3), "--outputs", 7))) == 7


def test_fewer_outputs_than_classes(train, folder):
    code, message = train("run", "--data", folder(3), "--outputs", 2)
    remedy = "give --outputs 3, or leave it out for one output for each class"
    assert (code, message) == (3, f"refnet: data3 has 3 classes, the net has 2 outputs; {remedy}")
    assert not Path("run").exists()
    assert len(last_bias(train("run", "--data", folder(4), "--outputs", 4))) == 4


def test_a_run_keeps_its_outputs(train, folder):
    train("run", "--data", folder(3))
    assert train("run", "--resume", "run", "--outputs", 3).facts.spec.outputs == 3


def test_a_run_of_an_earlier_version_keeps_the_nets_own_outputs(train, folder):
    saved = train("run", "--data", folder(3))
    earlier = replace(saved.facts, spec=NetSpec("digits"))
    shapes = {f"param/{name}": shape for name, shape in earlier.spec.plan(fused=False).param_shapes().items()}
    params = {name.removeprefix("param/"): np.zeros(shape, np.float32) for name, shape in shapes.items()}
    (path,) = generations.listed(Path("run"))
    checkpoint.write(path, replace(saved, facts=earlier, params=params, velocities=params))
    assert len(last_bias(train("run", "--resume", "run"))) == 10
    code, message = train("run", "--resume", "run", "--outputs", 3)
    assert (code, "--outputs 3 cannot be: the run has 10; leave it out" in message) == (2, True)


def test_a_net_must_end_with_outputs():
    net = Net("no outputs", (1, 8, 8), 8, (linear("fc1", 10, sigma=0.1, bias=0, columns="one"), relu("relu1")))
    nets.register(net)
    with pytest.raises(ConfigError, match="ends with relu1, which has no outputs; end it with a linear layer"):
        NetSpec("no outputs", columns=1, outputs=3).plan()


# Mirror images


@pytest.fixture
def mirrored(train, monkeypatch):
    """Tell whether a run mirrors any of its training images."""

    def run(where, *argv):
        flips = []
        crop = loop.passes.crop

        def spy(plan, pixels, mean, draws, backend):
            flips.append(draws.flips)
            return crop(plan, pixels, mean, draws, backend)

        with monkeypatch.context() as patch:
            patch.setattr(loop.passes, "crop", spy)
            train(where, *argv)
        return bool(flips[0].any())  # those of the training step; the others, to score, are centres

    return run


@pytest.mark.parametrize(
    ("net", "argv", "expected"),
    [
        ("digits", [], False),
        ("digits", ["--flip"], True),
        ("fashion", [], True),
        ("fashion", ["--no-flip"], False),
        ("fashion", ["--flip"], True),
        ("fashion", ["--no-augment"], False),
    ],
)
def test_the_net_or_the_user_decides_on_mirror_images(mirrored, folder, net, argv, expected):
    assert mirrored("run", "--net", net, "--data", folder(12), *argv) == expected


def test_the_setting_is_a_key_like_the_others(mirrored, folder, monkeypatch):
    argv = ["--net", "fashion", "--data", folder(12)]
    Path("run.toml").write_text("flip = false\n")
    assert not mirrored("file", *argv, "--config", "run.toml")
    assert "flip = false\n" in Path("file/config.toml").read_text()
    monkeypatch.setenv("REFNET_FLIP", "false")
    assert not mirrored("variable", *argv)
    assert mirrored("flag", *argv, "--flip")


@pytest.mark.parametrize(("argv", "views"), [(["--no-flip"], 5), ([], 10)])
def test_ten_crops_are_mirrored_only_if_training_was(train, folder, monkeypatch, argv, views):
    train("run", "--net", "fashion", "--data", folder(2), *argv)
    trained, asked = open_trained(Path("run"), "numpy"), []
    classify = type(trained).classify
    monkeypatch.setattr(type(trained), "classify", lambda self, *a: asked.append(a[1]) or classify(self, *a))
    protocol.classify(trained, np.zeros((1, *trained.image_shape), np.uint8))
    assert [len(each) for each in asked] == [views]


def test_a_centre_crop_is_not_mirrored(train):
    code, message = train("run", "--no-augment", "--flip")
    assert (code, "--no-augment takes the centre crop alone, so --flip cannot mirror it" in message) == (2, True)


def test_a_resumed_run_says_how_it_mirrored(train, folder, capsys):
    train("run", "--net", "fashion", "--data", folder(2))
    assert main(["train", "--resume", "run", "--no-flip", "--max-steps", "2"]) == 0
    assert "changed: flip was True, is False\n" in capsys.readouterr().out
    assert main(["train", "--resume", "run", "--no-flip", "--max-steps", "2"]) == 0
    assert "changed" not in capsys.readouterr().out
