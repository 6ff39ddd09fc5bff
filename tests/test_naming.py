"""Names of classes: every file that stores the words for ImageNet's WNIDs, and every command that shows them."""

import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from refnet.cli.main import main
from refnet.data.naming import FILES, captions, names, read_words
from refnet.data.opening import read_source
from refnet.errors import DataError
from refnet.runs import checkpoint, generations

CLASSES = ("n01440764", "n02012849", "n03126707")
WORDS = ("tench, Tinca tinca", "crane", "crane")
TEXT = "".join(f"{name} {words}\n" for name, words in zip(CLASSES, WORDS, strict=True))
NAMES = ["n01440764 tench", "n02012849 crane", "n03126707 crane"]


def test_names_tell_classes_apart_and_captions_are_short():
    assert names(CLASSES, WORDS) == tuple(NAMES)
    assert captions(CLASSES, WORDS) == ("tench", "crane", "crane")


def test_what_is_called_by_its_own_name_is_left_as_it_is():
    own = ("cat", "a, b")
    assert names(own, own) == captions(own, own) == own


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("text", [TEXT, TEXT.replace(" ", "\t", 1), TEXT.replace("\n", "\r\n")])
def test_a_file_beside_the_classes_has_the_words(tmp_path, file, text):
    (tmp_path / file).write_bytes(text.encode())
    assert read_words([tmp_path], CLASSES) == WORDS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", CLASSES),
        (b"n01440764\nn02012849 \n\n\n", CLASSES),
        (b"n00000000 entity\n", CLASSES),
        (b"n01440764 \xff\xfe\n", ("\ufffd\ufffd", *CLASSES[1:])),
    ],
)
def test_a_class_without_words_has_its_own_name(tmp_path, content, expected):
    (tmp_path / FILES[0]).write_bytes(content)
    assert read_words([tmp_path], CLASSES) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_windows_editors(tmp_path, encoding):
    (tmp_path / "words.txt").write_bytes("n1 tench\r\nn2 Schönbär\r\n".encode(encoding))
    assert read_words([tmp_path], ("n1", "n2")) == ("tench", "Schönbär")


def test_a_pipe_in_its_place_is_no_file(tmp_path):
    os.mkfifo(tmp_path / FILES[0])
    with pytest.raises(DataError, match="is not a regular file"):
        read_words([tmp_path], CLASSES)


# From a tree of images to what users see


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Give three classes of six images, each class of its own gray."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, low in zip(CLASSES, (0, 100, 200), strict=True):
        (root / name).mkdir()
        for number in range(6):
            Image.fromarray(low + rng.integers(50, size=(12, 12), dtype=np.uint8)).save(root / name / f"{number}.png")
    (root / "synset_words.txt").write_text(TEXT)
    return root


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    prepared, run = root / "prepared", root / "run"
    assert main(["data", "prepare", str(images), str(prepared), "--size", "10", "--channels", "1", "--json"]) == 0
    argv = ["--data", prepared, "--epochs", 2, "--batch", 4, "--run-dir", run, "--backend", "numpy", "--json"]
    argv += ["--outputs", 10]  # as in earlier checkpoints, which do not say how many there are
    assert main(["train", *map(str, argv)]) == 0
    return run


@pytest.fixture
def said(capsys):
    """Give a function that runs a command and returns what it prints."""

    def run(*argv):
        capsys.readouterr()
        assert main([*map(str, argv), "--backend", "numpy"]) == 0
        return capsys.readouterr().out

    return run


def test_a_tree_has_words(images):
    source = read_source(str(images))
    assert (source.classes, source.words) == (CLASSES, WORDS)


def test_predict(said, trained, images):
    image = images / CLASSES[0] / "0.png"
    lines = said("predict", image, "--checkpoint", trained).splitlines()
    assert {name for name in NAMES if any(line.endswith(f"  {name}") for line in lines)} == set(NAMES)
    top = json.loads(said("predict", image, "--checkpoint", trained, "--json"))["images"][0]["top5"]
    found = {(one["class"], one["words"]) for one in top}
    assert found - {(None, None)} == set(zip(CLASSES, WORDS, strict=True))


def test_eval_and_similar(said, trained, images, tmp_path):
    lines = said("eval", "--checkpoint", trained, "--crops", "centre")
    named = re.findall(r"taken for (.*)", lines) + re.findall(r" of 1  (.*)", lines)
    assert named
    assert set(named) <= set(NAMES)
    out = said("similar", images / CLASSES[1] / "0.png", "--checkpoint", trained, "-o", tmp_path / "s.png")
    assert any(f"  {name}  image" in out for name in NAMES)


def test_show(capsys, trained):
    path = generations.choose(trained)
    assert main(["show", str(path)]) == 0
    assert ", ".join(NAMES) in capsys.readouterr().out


def test_report(said, trained, tmp_path):
    page = tmp_path / "page.html"
    said("report", trained, "-o", page)
    text = page.read_text()
    assert all(f"<th>{name}</th>" in text for name in NAMES)
    assert "<figcaption>tench</figcaption>" in text


@pytest.fixture
def older(trained, tmp_path):
    """Give a run whose checkpoints were written before they had words."""
    found = generations.load(trained)
    facts = json.loads(checkpoint.encode(found.facts))
    del facts["words"]
    spec = facts.pop("spec")
    without = facts | {"net": spec["name"], "init": spec["init"], "columns": spec["columns"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", checkpoint.EARLIER_FORMAT)
        patch.setattr(checkpoint, "encode", lambda _: json.dumps(without))
        (tmp_path / "older" / "checkpoints").mkdir(parents=True)
        generations.save(tmp_path / "older", found)
    return tmp_path / "older"


def test_an_older_checkpoint_is_read_and_its_data_may_have_the_words(said, older, images):
    assert generations.load(older).facts.words == ()
    out = said("predict", images / CLASSES[0] / "0.png", "--checkpoint", older)
    assert all(re.search(f"  {name}$", out, re.MULTILINE) for name in CLASSES)
    assert "taken for n0" in (lines := said("eval", "--checkpoint", older, "--crops", "centre"))
    assert set(re.findall(r"taken for (.*)", lines)) <= set(NAMES)


def test_data_without_words_are_named_as_the_checkpoint_names_them(said, trained, images, tmp_path):
    copy = tmp_path / "copy"
    for name in CLASSES:
        (copy / name).mkdir(parents=True)
        for path in (images / name).iterdir():
            (copy / name / path.name).write_bytes(path.read_bytes())
    lines = said("eval", "--checkpoint", trained, "--data", copy, "--crops", "centre")
    assert set(re.findall(r"taken for (.*)", lines)) <= set(NAMES)
    found = json.loads(said("eval", "--checkpoint", trained, "--data", copy, "--crops", "centre", "--json"))
    assert (found["classes"], found["words"]) == (list(CLASSES), list(WORDS))


def test_as_many_words_as_classes(checkpoint_of, tmp_path):
    with pytest.raises(ValueError, match="has 3 items for 10 classes"):
        checkpoint_of(words=WORDS)
    found = checkpoint_of(words=tuple("abcdefghij"))
    checkpoint.write(tmp_path / "x.safetensors", found)
    assert checkpoint.read_facts(tmp_path / "x.safetensors").words == tuple("abcdefghij")
