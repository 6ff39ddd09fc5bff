"""Prepared images that have changed are rejected by name, by training and by ``refnet data info``."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from preparing import COUNTS, IMAGE, opened, run, tree

from refnet.cli.main import main
from refnet.data import prepared, shards
from refnet.errors import DataError


@pytest.fixture(scope="module")
def prepared_once(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", 128 + 16 * IMAGE)
        run(tree(root / "source", COUNTS), root / "made")
    return root / "made"


@pytest.fixture
def made(prepared_once, tmp_path):
    return Path(shutil.copytree(prepared_once, tmp_path / "made"))


def refused(root, match, capsys):
    """Both by who trains on it and by ``refnet data info``."""
    with pytest.raises(DataError, match=match) as caught:
        opened(root)
    assert str(caught.value).isprintable()
    assert main(["data", "info", str(root)]) == 3
    assert capsys.readouterr().err == f"refnet: {caught.value}\n"


@pytest.mark.parametrize("name", ["train-00003.npy", "validation-labels.npy", "mean.npy", "bad_files.txt"])
def test_a_file_missing_cut_or_changed(made, name, capsys):
    path = made / name
    content = path.read_bytes()
    path.unlink()
    refused(made, f"/{name} is missing", capsys)
    path.mkdir()
    refused(made, f"/{name} is not a regular file", capsys)
    path.rmdir()
    path.write_bytes(content + b"x")
    refused(made, rf"/{name} has {len(content) + 1:,} bytes, it was written with {len(content):,}", capsys)
    if content:
        path.write_bytes(content[:-1])
        refused(made, rf"/{name} has {len(content) - 1:,} bytes, it was written with {len(content):,}", capsys)
        changed = bytearray(content)
        changed[-1] ^= 1
        path.write_bytes(changed)
        refused(made, f"/{name} was changed: its SHA-256 is", capsys)
    path.write_bytes(content)
    opened(made)


def test_a_change_in_much_data_is_left_to_info(made, capsys, monkeypatch):
    monkeypatch.setattr(prepared, "VERIFIED_BYTES", 1000)
    path = made / "train-00003.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    opened(made)
    assert main(["data", "info", str(made)]) == 3
    assert "train-00003.npy was changed" in capsys.readouterr().err


@pytest.mark.parametrize("tenth", range(10))
def test_meta_cut_short(made, tenth, capsys):
    path = made / "meta.json"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])
    refused(made, "meta.json is damaged", capsys)


META = (
    "format", "version", "name", "source", "layout", "image_shape", "classes", "words", "colours", "test", "left_out",
    "splits", "files",
)  # fmt: skip


@pytest.mark.parametrize("key", META)
@pytest.mark.parametrize("value", ["gone", None, 7, "text", [], {}, [[1]], {"a": {"bytes": 1}}, -1.5e300])
def test_meta_that_says_something_else(made, key, value, capsys):
    path = made / "meta.json"
    meta = json.loads(path.read_bytes())
    assert set(META) == set(meta)
    if value == "gone":
        del meta[key]
    else:
        meta[key] = value
    path.write_text(json.dumps(meta))
    code = main(["data", "info", str(made)])
    err = capsys.readouterr().err
    if code == 0:
        assert key in {"name", "source", "layout", "left_out"}  # what is only shown
        opened(made)
    else:
        assert (code, len(err.splitlines())) == (3, 1)
        refused(made, "damaged|prepare|missing", capsys)


@pytest.mark.parametrize("name", ["../train-00000.npy", "/etc/passwd", "a/b.npy", "train-00000.npy\n", ""])
def test_meta_that_leads_elsewhere(made, name, capsys):
    path = made / "meta.json"
    path.write_text(path.read_text().replace("train-00000.npy", json.dumps(name)[1:-1]))
    refused(made, "meta.json is damaged .*is not a file of a prepared folder", capsys)


def test_labels_beyond_the_classes(made):
    path = made / "meta.json"
    meta = json.loads(path.read_bytes())
    np.save(made / "train-labels.npy", np.full(100, 2))
    content = (made / "train-labels.npy").read_bytes()
    meta["files"]["train-labels.npy"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(meta))
    with pytest.raises(DataError, match=r"train-labels\.npy has labels beyond 0\.\.1"):
        opened(made)


def test_a_pickled_array_is_not_opened(made, tmp_path):
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "opened"), "w")

    path = made / "meta.json"
    meta = json.loads(path.read_bytes())
    np.save(made / "train-labels.npy", np.array([Payload()] * 100, object), allow_pickle=True)
    content = (made / "train-labels.npy").read_bytes()
    meta["files"]["train-labels.npy"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(meta))
    with pytest.raises(DataError, match=r"train-labels\.npy cannot be read \(Object arrays"):
        opened(made)
    assert not (tmp_path / "opened").exists()


def test_another_size_than_the_net_asks_for(made):
    with pytest.raises(DataError, match=r"was prepared as 12x12x3, the net asks for 256x256x3: .*size=256 channels=3"):
        opened(made, 256)
