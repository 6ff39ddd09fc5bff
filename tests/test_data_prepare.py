"""Preparing: the same bytes however it is done, resumable after any failure, and never half done unnoticed."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from preparing import COUNTS, IMAGE, SIZE, contents, everything, opened, run, tree

from refnet.cli.main import main
from refnet.data import decode, prepare, shards, statistics
from refnet.data.opening import read_source
from refnet.errors import ConfigError, DataError

PHOTOS = Path(__file__).parents[1].parent / "shared" / "data" / "photos"


@pytest.fixture
def source(tmp_path):
    return tree(tmp_path / "source", COUNTS)


@pytest.fixture
def small_shards(monkeypatch):
    """Make shards of 16 images: seven to train on, and two."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 128 + 16 * IMAGE)
    monkeypatch.setattr(shards, "PIECE_PICTURES", 5)


def damage(path):
    path.write_bytes(path.read_bytes()[:60])
    return path


# What is in it


@pytest.mark.usefixtures("small_shards")
def test_images_and_labels_are_the_source(source, tmp_path):
    summary = run(source, tmp_path / "made")
    direct, made = opened(source), opened(tmp_path / "made")
    assert summary.images == {"train": 100, "validation": 20}
    assert (summary.shards, summary.shards_kept, summary.left_out) == (9, 0, 0)
    for name in ("train", "validation"):
        one, other = getattr(direct, name), getattr(made, name)
        assert np.array_equal(everything(one), everything(other))
        assert np.array_equal(one.labels, other.labels)
        order = np.random.default_rng(1).permutation(len(one))
        assert np.array_equal(one.images(order), other.images(order))
    assert made.test is made.validation
    assert (made.name, made.classes, made.words) == (direct.name, direct.classes, direct.words)
    assert made.layout == f"prepared from {direct.layout}"
    assert np.array_equal(made.mean, direct.mean)
    for name, figures in vars(direct.colours).items():
        assert np.array_equal(figures, getattr(made.colours, name))


def test_mean_and_colours_by_another_way(source, tmp_path):
    run(source, tmp_path / "made")
    made = opened(tmp_path / "made")
    pixels = everything(made.train).astype(np.float64)
    assert np.array_equal(made.mean, pixels.mean(axis=0).astype(np.float32))
    np.testing.assert_allclose(made.colours.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    covariance = np.cov(pixels[:, :: statistics.COLOUR_ROW_STRIDE].reshape(-1, 3).T, bias=True)
    axes, deviations = made.colours.vectors, made.colours.deviations
    assert (np.diff(deviations) > 0).all()
    np.testing.assert_allclose(axes @ np.diag(deviations**2) @ axes.T, covariance, rtol=1e-9)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert (axes.max(axis=0) >= -axes.min(axis=0)).all()


def test_photographs(tmp_path):
    run(PHOTOS, tmp_path / "made", size=256)
    made = opened(tmp_path / "made", 256)
    for index, path in enumerate(read_source(str(PHOTOS)).train.paths):
        assert np.array_equal(made.train.images(np.array([index]))[0], decode.read(path, 256, 3))
    deviations = made.colours.deviations
    assert 10 < deviations[0] < deviations[1] < 60  # over ImageNet they are 20, 37 and 122
    assert 80 < deviations[2] < 140


@pytest.mark.usefixtures("small_shards")
def test_the_same_bytes_for_any_number_of_threads(source, tmp_path, monkeypatch):
    damage(source / "train" / "a" / "033.png")
    for threads in (1, 2, 5):
        run(source, tmp_path / str(threads), threads=threads)
        monkeypatch.setattr(shards, "PIECE_PICTURES", threads)
    first = contents(tmp_path / "1")
    assert first == contents(tmp_path / "2") == contents(tmp_path / "5")
    assert len(first) == 9 + 5


@pytest.mark.usefixtures("small_shards")
def test_checksums_are_of_the_files(source, tmp_path):
    damage(source / "train" / "a" / "033.png")
    run(source, tmp_path / "made")
    files = json.loads((tmp_path / "made" / "meta.json").read_bytes())["files"]
    assert set(files) | {"meta.json"} == {path.name for path in (tmp_path / "made").iterdir()}
    for name, file in files.items():
        content = (tmp_path / "made" / name).read_bytes()
        assert file == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    shard = np.load(tmp_path / "made" / "train-00002.npy")
    assert (shard.shape, shard.dtype) == ((15, SIZE, SIZE, 3), np.uint8)


def test_gray(source, tmp_path):
    run(source, tmp_path / "made", channels=1)
    made = opened(tmp_path / "made", channels=1)
    assert np.array_equal(everything(made.train), everything(opened(source, channels=1).train))
    assert made.colours.vectors.tolist() == [[1.0]]


# What cannot be read


@pytest.mark.usefixtures("small_shards")
def test_bad_images_are_left_out_and_listed(source, tmp_path):
    tree(source / "more", {"a": 200})
    for path in (source / "more" / "a").iterdir():
        path.rename(source / "train" / "a" / f"1{path.name}")
    shutil.rmtree(source / "more")
    nasty = source / "train" / "b" / "a name\nwith ünicode.png"
    damage(source / "train" / "b" / "000.png").rename(nasty)
    os.mkfifo(source / "val" / "a" / "x.png")
    (source / "train" / "a" / "link.png").symlink_to("/nowhere")
    assert run(source, tmp_path / "made").left_out == 3
    listed = (tmp_path / "made" / "bad_files.txt").read_text().splitlines()
    assert len(listed) == 3
    assert listed[0].endswith("/a/link.png is a broken link: repair or remove it")
    assert r"a name\nwith ünicode.png is " in listed[1]
    assert listed[2].endswith("/a/x.png is not a regular file (a folder, a pipe, a device): remove it")
    made = opened(tmp_path / "made")
    assert (len(made.train), len(made.validation)) == (299, 20)
    nasty.unlink()
    (source / "val" / "a" / "x.png").unlink()
    (source / "train" / "a" / "link.png").unlink()
    assert np.array_equal(everything(made.train), everything(opened(source).train))


@pytest.mark.usefixtures("small_shards")
def test_more_than_a_few_fail_and_are_left_out_when_asked(source, tmp_path):
    paths = sorted((source / "train" / "a").iterdir())[:11]
    for path in paths[:10]:
        damage(path)
    assert run(source, tmp_path / "ten").left_out == 10
    damage(paths[10])
    with pytest.raises(
        DataError, match=r"11 of 120 images cannot be read, and only 10 .*/bad_files.txt lists all"
    ) as e:
        run(source, tmp_path / "eleven")
    assert "with bad='skip'" in str(e.value)
    assert [line.split(" is ")[0] for line in (tmp_path / "eleven" / "bad_files.txt").read_text().splitlines()] == [
        str(path) for path in paths
    ]
    with pytest.raises(DataError, match="eleven has not been prepared to the end"):
        opened(tmp_path / "eleven")
    summary = run(source, tmp_path / "eleven", bad="skip")
    assert (summary.left_out, summary.shards_kept) == (11, summary.shards)
    run(source, tmp_path / "again", bad="skip")
    assert contents(tmp_path / "eleven") == contents(tmp_path / "again")
    made = opened(tmp_path / "again")
    assert made.layout.endswith("; 11 unreadable images left out")
    for path in paths:
        path.unlink()
    assert np.array_equal(everything(made.train), everything(opened(source).train))


def test_a_single_one_stops(source, tmp_path):
    damage(source / "val" / "a" / "005.png")
    with pytest.raises(DataError, match=r"a/005\.png is .* or leave it out with bad='skip'"):
        run(source, tmp_path / "made", bad="stop")


@pytest.mark.usefixtures("small_shards")
def test_a_class_of_which_nothing_can_be_read(tmp_path):
    source = tree(tmp_path / "source", {"train/a": 330, "train/b": 2, "val/a": 1})
    for path in (source / "train" / "b").iterdir():
        damage(path)
    with pytest.raises(DataError, match="no training image of the class 'b' can be read"):
        run(source, tmp_path / "made")


def test_a_shard_of_which_nothing_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 128 + 2 * IMAGE)
    source = tree(tmp_path / "source", {"train/a": 250, "train/b": 2, "val/a": 1})
    for number in (2, 3):
        damage(source / "train" / "a" / f"{number:03}.png")
    assert run(source, tmp_path / "made").left_out == 2
    made = opened(tmp_path / "made")
    assert not (tmp_path / "made" / "train-00001.npy").exists()
    assert len(made.train) == 250
    assert np.array_equal(made.train.images(np.array([2]))[0], decode.read(str(source / "train/a/004.png"), SIZE, 3))


def test_a_read_that_hangs(source, tmp_path, monkeypatch):
    read, released = decode.read, threading.Event()
    monkeypatch.setattr(
        decode, "read", lambda place, *form: released.wait() if "a/013.png" in place else read(place, *form)
    )
    with pytest.raises(DataError, match=r"a/013\.png cannot be read: it takes longer than 2 s"):
        run(source, tmp_path / "made", timeout=2)
    released.set()


# Breaking off


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("after", [1, 40, 119])
def test_going_on_after_a_break(source, tmp_path, monkeypatch, after):
    run(source, tmp_path / "whole")
    read, count = decode.read, iter(range(10**6))

    def breaking(*arguments):
        if next(count) == after:
            raise OSError(28, "No space left on device")
        return read(*arguments)

    monkeypatch.setattr(decode, "read", breaking)
    with pytest.raises(
        ConfigError, match=r"made cannot be written: No space left on device; .*the same command continues"
    ):
        run(source, tmp_path / "made", threads=1)
    shards = {path: path.stat().st_ino for path in (tmp_path / "made").glob("*-0*.npy")}
    monkeypatch.setattr(decode, "read", read)
    summary = run(source, tmp_path / "made")
    assert summary.shards_kept == len(shards)
    assert all(path.stat().st_ino == inode for path, inode in shards.items())
    assert contents(tmp_path / "made") == contents(tmp_path / "whole")


PREPARE_SLOWLY = """
import sys, time
from refnet.data import decode, prepare, shards
from refnet.data.opening import read_source
from refnet.data.parallel import Reading
from refnet.terminal.progress import Quiet
from pathlib import Path
shards.SHARD_BYTES = int(sys.argv[3])
read = decode.read
decode.read = lambda *a: (time.sleep(0.003), read(*a))[1]
prepare.prepare(read_source(sys.argv[1]), Path(sys.argv[2]), size=12, channels=3,
                reading=Reading(2), show=Quiet())
"""


@pytest.mark.usefixtures("small_shards")
def test_going_on_after_kill_9(source, tmp_path):
    run(source, tmp_path / "whole")
    made = tmp_path / "made"
    command = [sys.executable, "-c", PREPARE_SLOWLY, str(source), str(made), str(128 + 16 * IMAGE)]
    kept, tries = 0, 0

    def count():
        with suppress(FileNotFoundError):  # the process has just finished, and removes the folder
            return len(list((made / "unfinished").glob("*.note")))
        return 0

    while not (made / "meta.json").exists():
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if count() > kept:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.wait()
        tries += 1
        notes = count()
        assert notes > kept or (made / "meta.json").exists()
        kept = notes
    assert tries > 1  # many more, but where a busy machine lets this process look too late
    assert contents(made) == contents(tmp_path / "whole")


@pytest.mark.usefixtures("small_shards")
def test_shards_whose_pictures_changed_are_made_again(source, tmp_path, monkeypatch):
    complete = prepare._complete
    monkeypatch.setattr(prepare, "_complete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt, match="finished shards are kept"):
        run(source, tmp_path / "made")
    monkeypatch.setattr(prepare, "_complete", complete)
    Image.new("RGB", (20, 20), (1, 2, 3)).save(source / "train" / "a" / "020.png")
    note = tmp_path / "made" / "unfinished" / "train-00003.npy.note"
    note.write_bytes(note.read_bytes()[:-9])
    (tmp_path / "made" / "train-00004.npy").write_bytes(b"cut")
    assert run(source, tmp_path / "made").shards_kept == 9 - 3
    run(source, tmp_path / "again")
    assert contents(tmp_path / "made") == contents(tmp_path / "again")


# Where it may not be written


def test_directories_that_hold_something_else(source, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("all I have")
    with pytest.raises(ConfigError, match="full is not empty"):
        run(source, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    run(source, tmp_path / "made")
    before = contents(tmp_path / "made")
    with pytest.raises(ConfigError, match="made was prepared already"):
        run(source, tmp_path / "made")
    assert contents(tmp_path / "made") == before
    for inside in ("made", "."):
        with pytest.raises(ConfigError, match=r"is inside .*: choose a directory outside it"):
            run(source, source / inside)
    with pytest.raises(DataError, match="made is prepared already"):
        run(tmp_path / "made", tmp_path / "twice")
    with pytest.raises(ConfigError, match="cannot be written: Not a directory"):
        run(source, tmp_path / "full" / "thesis.tex" / "made")


def test_another_process(source, tmp_path):
    (tmp_path / "made" / "unfinished").mkdir(parents=True)
    with (tmp_path / "made" / "unfinished" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="is being prepared by another process"):
            run(source, tmp_path / "made")


def test_a_file_system_without_locks(source, tmp_path, monkeypatch, capsys):
    def flock(_file, _operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert main(["data", "prepare", str(source), str(tmp_path / "made"), "--size", "8"]) == 0
    output = capsys.readouterr()
    assert (output.out + output.err).count("has no file locks") == 1


def test_no_room(source, tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(10, 9, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ConfigError, match=r"has 0\.0 GB free, 0\.0 GB are needed"):
        run(source, tmp_path / "made")


# The commands


@pytest.mark.usefixtures("source")
def test_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "prepare", "source", "made", "--size", "12", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["images"] == {"train": 100, "validation": 20}
    assert "folders train and val" in err
    assert main(["data", "info", "made"]) == 0
    out = capsys.readouterr().out
    assert "100 train, 20 validation images of 12x12x3" in out
    assert "all as written; 0 images left out" in out
    assert main(["data", "info", "made", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["verified"] is True
    assert len(info["colours"]["deviations"]) == 3
    assert main(["data", "info", "source"]) == 3
    assert "source is not a prepared directory; make" in capsys.readouterr().err
    assert main(["data", "info", "none"]) == 3
    assert "none does not exist; make" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["prepare", "source"], "refnet data prepare needs DST"),
        (["prepare", "source", "made", "--size", "0"], "--size 0 is not allowed"),
        (["prepare", "source", "made", "--read-threads", "0"], "--read-threads 0 is not allowed"),
        (["prepare", "source", "made", "--read-timeout", "-1"], "--read-timeout -1 is not allowed"),
        (["prepare", "source", "made", "--read-timeout", "nan"], "--read-timeout nan is not allowed"),
        (
            ["prepare", "source", "made", "--siz", "9"],
            "--siz is not an argument of refnet data prepare; did you mean --size?",
        ),
        (["prepare", "digits", "made"], "digits needs no preparing: give a folder of images"),
        (["fetch", "mnist"], "NAME mnist is not allowed; it must be one of cifar10, fashion-mnist, imagenette"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_usage(argv, message, capsys):
    assert main(["data", *argv]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_two_channels(source, tmp_path):
    with pytest.raises(DataError, match=r"images have 1 \(gray\) or 3 \(RGB\) channels"):
        run(source, tmp_path / "made", channels=2)
