"""Damaged images: how many are left out, what a user reads, and that a run is resumed on the same images."""

import json

import numpy as np
import pytest
from preparing import everything, tree

import refnet
from refnet.cli.main import main
from refnet.data.damaged import refuse_damaged, refuse_empty
from refnet.data.fingerprint import fingerprint
from refnet.data.opening import open_dataset
from refnet.data.parallel import Reading
from refnet.errors import ConfigError, DataError


def faults(count):
    return {f"{number:04}.png": f"{number:04}.png is damaged" for number in range(count)}


@pytest.mark.parametrize(
    ("bad", "count", "total", "refused"),
    [
        ("few", 10, 12, False),
        ("few", 11, 12, True),
        ("few", 11, 1099, True),
        ("few", 11, 1100, False),
        ("few", 1001, 100_000, True),
        ("skip", 11, 12, False),
        ("stop", 1, 100_000, True),
        ("stop", 0, 12, False),
    ],
)
def test_how_many_may_be_left_out(bad, count, total, refused):
    try:
        refuse_damaged(faults(count), total, bad, where="d")
    except DataError as error:
        *every, last = str(error).splitlines()
        assert refused
        if count == 1:
            assert last == "0000.png is damaged, or leave it out with bad='skip'"
        else:
            assert every == [*faults(count).values()]
            assert last.startswith(f"d: {count:,} of {total:,} images cannot be read")
    else:
        assert not refused


@pytest.mark.parametrize("bad", ["few", "skip", "stop"])
def test_images_of_which_none_can_be_read(bad):
    """As many lines as images would tell no more than the first."""
    with pytest.raises(DataError, match=r"^d: none of 3 images can be read; 0000\.png is damaged$"):
        refuse_damaged(faults(3), 3, bad, where="d")


def test_a_split_or_a_class_of_which_nothing_is_left():
    labels = {"train": np.array([0, 2]), "validation": np.array([0])}
    with pytest.raises(DataError, match="d: no training image of the class 'b' can be read"):
        refuse_empty(labels, ("a", "b", "c"), "d")
    with pytest.raises(DataError, match="d: no validation image can be read"):
        refuse_empty(labels | {"validation": np.array([], np.int64)}, ("a",), "d")


@pytest.fixture
def source(tmp_path):
    return tree(tmp_path / "d", {"train/a": 8, "train/b": 8, "val/a": 4, "val/b": 4})


def damage(path):
    path.write_bytes(path.read_bytes()[:60])


def opened(root, bad="few"):
    return open_dataset(str(root), image_size=8, channels=3, reading=Reading(bad=bad))


def test_damaged_images_are_left_out_as_if_they_were_not_there(source):
    for name in ("train/a/003.png", "train/b/000.png", "val/b/002.png"):
        damage(source / name)
    dataset = opened(source)
    assert dataset.warning.startswith(
        f"warning: 3 of 24 images cannot be read and are left out: {source}/train/a/003.png, {source}/train/b/000.png, "
    )
    assert dataset.layout.endswith("; 3 unreadable images left out")
    for name in ("train/a/003.png", "train/b/000.png", "val/b/002.png"):
        (source / name).unlink()
    without = opened(source)
    assert without.warning == ""
    for split in ("train", "validation"):
        ours, theirs = getattr(dataset, split), getattr(without, split)
        assert np.array_equal(everything(ours), everything(theirs))
        assert np.array_equal(ours.labels, theirs.labels)
        assert [ours.where(i) for i in range(len(ours))] == [theirs.where(i) for i in range(len(theirs))]
    assert np.array_equal(dataset.mean, without.mean)
    assert fingerprint(dataset) == fingerprint(without)


def test_the_fingerprint_is_that_of_the_images_that_are_left(source):
    whole = fingerprint(opened(source))
    first, second = source / "train/a/003.png", source / "train/a/004.png"
    content = {path: path.read_bytes() for path in (first, second)}
    damage(first)
    one = fingerprint(opened(source))
    assert one == fingerprint(opened(source, bad="skip"))
    damage(second)
    both = fingerprint(opened(source))
    first.write_bytes(content[first])
    other = fingerprint(opened(source))
    assert len({whole, one, both, other}) == 4
    second.write_bytes(content[second])
    assert fingerprint(opened(source)) == whole


TRAIN = ("train", "--net", "cifar", "--batch", "4", "--data", "d", "--json")


@pytest.mark.usefixtures("source")
def test_training_resuming_and_testing_leave_out_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        damage(tmp_path / f"d/train/a/00{number}.png")
    assert main([*TRAIN, "--run-dir", "r", "--bad", "stop"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" is ")[0] for line in lines[:3]] == [f"refnet: d/train/a/00{n}.png" for n in range(3)]
    assert lines[3].startswith("refnet: d: 3 of 24 images cannot be read: ")
    assert lines[3].endswith("leave them out with --bad skip")
    assert main([*TRAIN, "--run-dir", "r", "--max-steps", "2", "--bad", "skip"]) == 0
    assert "3 of 24 images cannot be read and are left out: d/train/a/000.png" in capsys.readouterr().err
    assert main(["train", "--resume", "r", "--max-steps", "3", "--json"]) == 0
    capsys.readouterr()
    assert main(["eval", "--checkpoint", "r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 8
    damage(tmp_path / "d/train/b/000.png")
    assert main(["train", "--resume", "r", "--max-steps", "4", "--json"]) == 3
    assert "has changed since step 3" in capsys.readouterr().err


def test_a_run_that_skips_is_tested_on_the_same_images(source, tmp_path, monkeypatch, capsys):
    """The run agreed to leave out more than a few; the commands that read its data again need not be told."""
    tree(source / "more", {"a": 12})
    for path in (source / "more/a").iterdir():
        damage(path)
        path.rename(source / "train/a" / f"x{path.name}")
    (source / "more/a").rmdir()
    (source / "more").rmdir()
    monkeypatch.chdir(tmp_path)
    assert main([*TRAIN, "--run-dir", "r", "--max-steps", "1"]) == 3
    assert "12 of 36 images cannot be read, and only 10 may be left out" in capsys.readouterr().err
    assert main([*TRAIN, "--run-dir", "r", "--max-steps", "1", "--bad", "skip"]) == 0
    assert main(["eval", "--checkpoint", "r", "--json"]) == 0
    assert main(["eval", "--checkpoint", "r", "--json", "--bad", "stop"]) == 3


def test_a_program_is_warned_and_may_agree(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = refnet.train("cifar", source, max_steps=1, progress=False)
    network = refnet.load(run)
    tree(tmp_path / "t", {"a": 14, "b": 4})
    for number in range(3):
        damage(tmp_path / f"t/a/00{number}.png")
    with pytest.warns(UserWarning, match=r"^3 of 18 images cannot be read and are left out: t/a/000\.png"):
        assert network.evaluate("t").count == 15
    with pytest.raises(DataError, match="or leave them out with bad='skip'"):
        network.evaluate("t", bad="stop")
    for number in range(3, 11):
        damage(tmp_path / f"t/a/0{number:02}.png")
    with pytest.raises(DataError, match="11 of 18 images cannot be read, and only 10 may be left out"):
        network.evaluate("t")
    with pytest.warns(UserWarning, match="11 of 18"):
        assert network.evaluate("t", bad="skip").count == 7
    with pytest.raises(ConfigError, match="bad='some' is not allowed; it must be one of 'few', 'skip', 'stop'"):
        network.evaluate("t", bad="some")
