"""Readers of data: each is one file and one line, in refnet or in another package."""

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refnet.cli.main import main
from refnet.data.opening import open_dataset, read_source
from refnet.data.readers import registry
from refnet.errors import DataError

# The whole of a reader: images in one array per class, in files called <class>.stripes.
TOY = '''
"""Stripes: one .npy file of uint8 (n,H,W,1) for each class."""

from pathlib import Path

import numpy as np

from refnet.data.source import ArrayPictures, Source, deal


def recognise(data, names):
    return any(name.endswith(".stripes") for name in names)


def read(data):
    files = sorted(Path(data).glob("*.stripes"))
    parts = [np.load(file, allow_pickle=False) for file in files]
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    images = ArrayPictures(labels, np.concatenate(parts), data, "toy")
    classes = tuple(file.stem for file in files)
    train, validation, test = deal(data, images, classes, held_out=2, share=5)
    return Source("stripes", data, "stripes, one file per class", classes, classes, train, validation, test)
'''
# A data set with a name: what a reader adds for that.
NAMED = """
NAME, WHERE = "toyset", "nowhere"
FOLDER = {folder!r}
_read = read


def recognise(data, names):
    return data == NAME


def read(data):
    return replace(_read(FOLDER), name=NAME, where=WHERE)


def fit(image):
    return np.full((10, 10, 1), 7, np.uint8)
"""


@pytest.fixture
def stripes(tmp_path):
    """Two classes of 10x10 images: dark and bright."""
    folder = tmp_path / "stripes"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 128)):
        with (folder / f"{name}.stripes").open("wb") as file:
            np.save(file, rng.integers(low, low + 128, (60, 10, 10, 1), np.uint8))
    return folder


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A function that writes a module of a package of its own and returns its name."""

    def write(name, text):
        folder = tmp_path / "package"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


@pytest.fixture
def installed(monkeypatch):
    """A function that registers entry points, name by name."""

    def install(**values):
        points = {name: EntryPoint(name, value, registry.GROUP) for name, value in values.items()}
        monkeypatch.setattr(registry, "_entry_points", lambda: points)

    return install


def test_every_reader_has_the_interface():
    assert all(isinstance(reader, registry.Reader) for reader in registry.READERS)
    assert [reader.NAME for reader in registry.READERS if isinstance(reader, registry.NamedReader)] == ["digits"]


def test_a_reader_is_one_file_and_one_line(stripes, module, monkeypatch, tmp_path, capsys):
    """Opening, preparing and training follow."""
    toy = __import__(module("toy_reader", TOY))
    with pytest.raises(DataError, match="no class folders"):
        read_source(str(stripes))
    monkeypatch.setattr(registry, "READERS", (*registry.READERS[:-1], toy, registry.READERS[-1]))
    opened = open_dataset(str(stripes), image_size=10, channels=1)
    assert opened.classes == ("bright", "dark")
    assert (len(opened.train), len(opened.validation), len(opened.test)) == (72, 24, 24)
    prepared = tmp_path / "prepared"
    assert main(["data", "prepare", str(stripes), str(prepared), "--size", "10", "--channels", "1"]) == 0
    again = open_dataset(str(prepared), image_size=10, channels=1)
    assert again.train.images(np.arange(72)).tobytes() == opened.train.images(np.arange(72)).tobytes()
    capsys.readouterr()
    command = ["train", "--data", str(stripes), "--backend", "numpy", "--epochs", "2", "--json"]
    assert main([*command, "--run-dir", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["test_top1_error"] < 0.5


def test_a_reader_of_another_package(stripes, module, installed):
    installed(stripes=module("toy_outside", TOY))
    assert open_dataset(str(stripes), image_size=10, channels=1).layout == "stripes, one file per class"


def test_readers_of_refnet_are_asked_before_those_of_other_packages(tmp_path, installed):
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (tmp_path / name).touch()
    installed(broken="no_such_module_at_all")
    with pytest.raises(DataError, match="CIFAR"):
        read_source(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('too old')", "the reader toy .* cannot be loaded .too old.: update its package"),
        ("def recognise(data, names): return True", "the reader toy .* lacks recognise or read"),
    ],
)
def test_a_broken_reader_is_named(tmp_path, module, installed, text, message):
    installed(toy=module("toy_broken", text))
    with pytest.raises(DataError, match=message):
        read_source(str(tmp_path))


def test_a_data_set_with_a_name_from_another_package(stripes, module, installed, tmp_path, capsys, monkeypatch):
    """Its name is stored in the run's configuration, and its own way of fitting a photograph is used to predict."""
    text = TOY + "\nfrom dataclasses import replace\n" + NAMED.format(folder=str(stripes))
    installed(toyset=module("toy_named", text))
    run = tmp_path / "run"
    command = ["train", "--data", "toyset", "--backend", "numpy", "--epochs", "1", "--json", "--run-dir", str(run)]
    assert main(command) == 0
    assert 'data = "toyset"' in (run / "config.toml").read_text()
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(photo)
    fitted = []
    reader = registry.named("toyset")
    fit = reader.fit
    monkeypatch.setattr(reader, "fit", lambda image: fitted.append(fit(image)) or fitted[-1])
    capsys.readouterr()
    assert main(["predict", str(photo), "--checkpoint", str(run), "--backend", "numpy"]) == 0
    assert [image.tolist() for image in fitted] == [np.full((10, 10, 1), 7).tolist()]
    capsys.readouterr()
    installed()  # another machine
    assert main(["predict", str(photo), "--checkpoint", str(run), "--backend", "numpy"]) == 3
    assert "was trained on the data set toyset of another package, which prepares its images" in capsys.readouterr().err
    assert main(["eval", "--checkpoint", str(run), "--backend", "numpy"]) == 3
    assert "was trained on toyset, which is not here: give the new place of these images" in capsys.readouterr().err


def test_a_path_is_stored_as_an_absolute_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    assert registry.fixed_path("digits") == "digits"
    assert registry.fixed_path("./digits") == str(tmp_path / "digits")
