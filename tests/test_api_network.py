"""``refnet.load``: what a trained network predicts, and what it returns about itself."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import QUICK, blank_images

import refnet
from refnet.errors import CheckpointError, ConfigError, DataError, ShapeError
from refnet.evaluation import protocol
from refnet.evaluation.neighbours import of_images
from refnet.evaluation.trained import open_trained
from refnet.runs import generations

pytestmark = pytest.mark.usefixtures("one_thread", "cwd")


def test_what_is_no_run_is_refused_by_the_argument_s_name(digits_run):
    with pytest.raises(ConfigError, match="where=3 is not allowed; it must be a run, its folder, or the path of a ch"):
        refnet.load(3)
    with pytest.raises(ConfigError, match=r"net='cifar' is not allowed; it must be a refnet\.nets\.Net"):
        refnet.load(digits_run, net="cifar")
    with pytest.raises(ConfigError, match="resume=3 is not allowed; it must be a run, or the path of its folder"):
        refnet.train(resume=3)
    with pytest.raises(ConfigError, match="output=3 is not allowed; it must be the path of a file"):
        digits_run.report(3)
    with pytest.raises(ConfigError, match=r"output='\.' cannot be written: Is a directory; choose another"):
        digits_run.report(".")


@pytest.fixture(scope="module")
def digits_net(digits_run):
    return refnet.load(digits_run, backend="numpy")


@pytest.fixture(scope="module")
def pictures(digits):
    return digits.test[:5][0]


def test_a_network_is_readable(digits_net, digits_run):
    assert repr(digits_net) == (
        "<Network net digits, columns 2, images 10x10x1, classes 10 (0, 1, 2, 3, 4, ...), parameters 99,210, steps 41, "
        f"backend numpy, from {digits_run.path}>"
    )
    html = digits_net._repr_html_()
    assert "<tr><th>parameters</th><td>99,210</td></tr>" in html
    assert 'alt="the network in 2 columns"' in html


def test_the_drawing_is_an_image_of_its_own(digits_net):
    import base64
    from xml.etree import ElementTree as ET

    encoded = re.search(r'base64,([^"]+)"', digits_net._repr_html_())[1]
    svg = ET.fromstring(base64.b64decode(encoded))  # noqa: S314 - our own
    words = " ".join(svg.itertext())
    assert "conv1" in words
    assert ".net .column0" in words
    assert "1\N{MULTIPLICATION SIGN}8" in words


def test_load_takes_a_run_its_path_or_a_checkpoint(digits_run):
    best = generations.choose(digits_run.path)
    values = [
        refnet.load(where, backend="numpy").parameters
        for where in (digits_run, digits_run.path, str(digits_run.path), best)
    ]
    for parameters in values[1:]:
        for name, value in values[0].items():
            np.testing.assert_array_equal(value, parameters[name])
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        refnet.load("nowhere")


def test_parameters_are_copies_by_name(digits_net, digits_run):
    saved = generations.load(digits_run.path).params
    assert digits_net.parameters.keys() == saved.keys()
    np.testing.assert_array_equal(digits_net.parameters["conv1@1.w"], saved["conv1@1.w"])
    digits_net.parameters["conv1@1.w"][...] = 0
    assert digits_net.parameters["conv1@1.w"].any()


@pytest.mark.parametrize("crops", ["centre", "ten"])
def test_predictions_are_those_of_the_command(digits_net, digits_run, pictures, crops):
    expected = protocol.classify(open_trained(digits_run.path, "numpy"), pictures, {crops: protocol.PROTOCOLS[crops]})[
        crops
    ]
    predictions = digits_net.predict(pictures, crops=crops)
    for prediction, p in zip(predictions, expected, strict=True):
        np.testing.assert_array_equal(prediction.probabilities, p)
        assert prediction.label == p.argmax()
        assert prediction.class_name == digits_net.classes[prediction.label] == prediction.top5[0][0]
        assert prediction.probability == p.max() == prediction.top5[0][1]
        assert [value for _, value in prediction.top5] == sorted(p, reverse=True)[:5]
    with pytest.raises(ConfigError, match="crops='five' is not allowed; it must be one of 'centre', 'ten'"):
        digits_net.predict(pictures, crops="five")


def test_a_prediction_is_readable(digits_net, pictures):
    assert re.fullmatch(r"\[<\d \d+\.\d%; then (\d \d+\.\d%(, )?){4}>\]", repr(digits_net.predict(pictures[0])))


def test_images_come_in_every_form(digits_net, pictures, tmp_path):
    def p(images):
        return [prediction.probabilities for prediction in digits_net.predict(images)]

    first = p(pictures[0])
    assert len(first) == 1
    for form in (pictures[0][..., 0], pictures[:1], pictures[:1, ..., 0], [pictures[0]], [pictures[0][..., 0]]):
        np.testing.assert_array_equal(p(form), first)
    assert len(p(pictures[..., 0])) == len(p(pictures)) == 5
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    forms = (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(picture), picture, picture[None])
    for form in forms:
        np.testing.assert_array_equal(p(form), p(forms[0]))
    assert len(p([*forms[:3], pictures[0]])) == 4
    Image.fromarray(pictures[1][..., 0]).save(tmp_path / "b.png")
    expected = p([tmp_path / "a.png", tmp_path / "b.png"])
    for form in (tmp_path, f"{tmp_path}/*.png", sorted(tmp_path.glob("*.png")), iter(sorted(tmp_path.iterdir()))):
        np.testing.assert_array_equal(p(form), expected)
    assert digits_net.activations(tmp_path, "fc6").shape == (2, 10)
    assert digits_net.activations(tmp_path / "a.png", "fc6").shape == (10,)
    assert len(digits_net.predict(np.repeat(pictures, 30, axis=0))) == 150


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((10, 10)), "images: images are float64 from 0.0 to 0.0, not uint8"),
        (np.zeros((1, 3, 10, 10), np.uint8), "images: images have shape (1, 3, 10, 10)"),
        ([], "images is an empty list"),
        (iter([]), "images is an empty list"),
        ("none/*.png", "no file matches none/*.png"),
        ("https://example.org/cat.jpg", "is an address, and refnet reads only files: download it first"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_wrong_images_are_refused(digits_net, images, message):
    with pytest.raises(DataError) as error:
        digits_net.predict(images)
    assert message in str(error.value)


def test_features_are_the_last_hidden_layer_or_that_of_a_name(digits_net, digits_run, pictures):
    trained = open_trained(digits_run.path, "numpy")
    np.testing.assert_array_equal(digits_net.features(pictures), of_images(trained, pictures))
    np.testing.assert_allclose(digits_net.features(pictures, layer="drop5"), digits_net.features(pictures), rtol=1e-6)
    conv3 = digits_net.features(pictures, layer="conv3")
    assert conv3.shape == (5, 64 * 4 * 4)
    np.testing.assert_allclose(conv3[1], digits_net.activations(pictures[:2], "conv3")[1].ravel(), rtol=1e-3, atol=1e-5)


def test_activations_have_both_columns_in_order(digits_net, pictures):
    maps = digits_net.activations(pictures[0], "conv1")
    assert maps.shape == (32, 8, 8)
    assert maps.dtype == np.float32
    assert (maps < 0).any()  # before the ReLU
    np.testing.assert_array_equal(digits_net.activations(pictures[0], "relu1"), np.maximum(maps, 0))
    for column in (0, 1):
        filters = digits_net.parameters[f"conv1@{column}.w"], digits_net.parameters[f"conv1@{column}.b"]
        mean = generations.load(Path(digits_net._trained.where)).mean
        x = (pictures[0] - mean)[1:9, 1:9].transpose(2, 0, 1)[None].astype(np.float32)
        expected = refnet.ops.conv2d.forward(x, *filters, stride=1, pad=1, ceil=False)[0]
        np.testing.assert_allclose(maps[16 * column : 16 * column + 16], expected, rtol=1e-5, atol=1e-5)
    assert digits_net.activations(pictures, "fc6").shape == (5, 10)
    with pytest.raises(ConfigError, match="layer='conv9' is not a layer of this network; it has conv1, relu1"):
        digits_net.activations(pictures, "conv9")


def test_evaluation_of_every_kind_of_data(digits_net, digits_run, digits):
    assert digits_net.evaluate().top1_error == digits_run.test_error
    assert digits_net.evaluate("digits").top1_error == digits_net.evaluate(digits).top1_error == digits_run.test_error
    assert digits_net.evaluate(digits, split="validation").count == 140
    images, labels = digits.test[:50]
    tally = digits_net.evaluate((images, labels.astype(str)), crops="ten")
    assert tally.count == 50
    assert repr(tally) == f"<Tally 50 images: top-1 error {tally.top1_error:.2%}, top-5 error {tally.top5_error:.2%}>"
    wrong = [p.label != label for p, label in zip(digits_net.predict(images, crops="ten"), labels, strict=True)]
    assert tally.top1_error == pytest.approx(np.mean(wrong))
    with pytest.raises(DataError, match="data: a label is 10, but 10 classes"):
        digits_net.evaluate((images, labels + 1))
    with pytest.raises(ConfigError, match="split='all' is not allowed"):
        digits_net.evaluate(digits, split="all")
    of_two = refnet.open_data(blank_images(shape=(10, 10)))  # the classes 0 and 1
    assert digits_net.evaluate(of_two).count == len(of_two.test)
    images, labels = blank_images(shape=(10, 10))
    with pytest.raises(
        DataError, match=r"memory has none of the classes of .*: it has cat, dog, the network knows 0, 1"
    ):
        digits_net.evaluate(refnet.open_data((images, np.array(["cat", "dog"])[labels])))
    with pytest.warns(UserWarning, match="left out [0-9]+ images of classes that the network does not know: dog"):
        assert digits_net.evaluate(refnet.open_data((images, np.array(["3", "dog"])[labels]))).confusion[3].sum() > 0


def test_an_evaluation_uses_the_images_that_the_run_used():
    run = refnet.train(images=300, max_steps=1, **QUICK)
    assert run.net.evaluate(split="train").count == 300


def test_the_summary_is_that_of_the_command(digits_net, capsys):
    from refnet.cli.main import main

    assert main(["summary", "digits"]) == 0
    assert str(digits_net.summary()) == repr(digits_net.summary())
    expected = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert digits_net.summary().splitlines() == expected


def test_columns_are_kept(digit_arrays):
    run = refnet.train(data=digit_arrays, columns=1, max_steps=1, **QUICK)
    assert run.net.spec.columns == 1
    assert 'alt="the network in one column"' in run.net._repr_html_()
    with pytest.raises(ShapeError):
        run.net.spec.__class__("digits", columns=3).plan()
