"""The loader: the same batches with any number of threads, in bounded memory, resumable, and without deadlocks."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refnet.cli.main import main
from refnet.data import decode
from refnet.data.crops import Augmentation
from refnet.data.dataset import ArraySplit, Split
from refnet.data.loader import BATCHES_AHEAD, Loader, batches
from refnet.data.opening import open_dataset
from refnet.data.order import epoch_order
from refnet.data.parallel import Reading, in_order
from refnet.errors import ConfigError, DataError

PHOTOS = Path(__file__).parents[1].parent / "shared" / "data" / "photos"
N, SHAPE = 103, (6, 5, 3)
VARIED = Augmentation((4, 3), flip=True, colour_noise=0.1)


@pytest.fixture(autouse=True)
def _threads_end():
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 60
    while left := [thread for thread in threading.enumerate() if thread not in before]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


class Watched(Split):
    """A split that remembers what it was asked for, and can be made to fail or to hang."""

    grain = 3

    def __init__(self, spoiled=None, spoil=None):
        rng = np.random.default_rng(0)
        self.labels = rng.integers(0, 9, N)
        self.pixels = rng.integers(0, 256, (N, *SHAPE), np.uint8)
        self.asked = []
        self.spoiled, self.spoil = spoiled, spoil

    @property
    def shape(self):
        return SHAPE

    def fill(self, indices, out):
        self.asked += indices.tolist()
        if self.spoiled in indices:
            self.spoil()
        out[...] = self.pixels[indices]

    def where(self, index):
        return f"image {index}"


def reading(threads=2, timeout=60.0):
    return Reading(threads, timeout)


def loader_of(split, size=10, augmentation=VARIED, seed=7, **how):
    digits = open_dataset("digits", image_size=10, channels=1)
    rng = np.random.default_rng(0)
    colours = replace(
        digits.colours,
        mean=np.zeros(3),
        deviations=np.array([1.0, 2.0, 9.0]),
        vectors=np.linalg.qr(rng.normal(size=(3, 3)))[0],
    )
    return Loader(replace(digits, train=split, colours=colours), size, augmentation, seed=seed, reading=reading(**how))


# What comes


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("size", [1, 10, 103, 500])
def test_batches_are_the_images_in_the_order_asked(threads, size):
    split = Watched()
    order = np.random.default_rng(1).permutation(N)[:90]
    found = list(batches(split, order, size, reading=reading(threads)))
    assert [len(batch.labels) for batch in found] == [size] * (90 // size) + ([90 % size] if 90 % size else [])
    assert np.array_equal(np.concatenate([batch.images for batch in found]), split.pixels[order])
    assert np.array_equal(np.concatenate([batch.labels for batch in found]), split.labels[order])
    assert np.array_equal(np.concatenate([batch.indices for batch in found]), order)
    assert sorted(split.asked) == sorted(order)


def test_no_images():
    assert list(batches(Watched(), np.arange(0), 10, reading=reading())) == []


def test_batches_belong_to_whoever_has_them():
    found = list(batches(Watched(), np.arange(N), 10, reading=reading()))
    copies = [batch.images.copy() for batch in found]
    found[0].images[...] = 0
    assert all(np.array_equal(batch.images, copy) for batch, copy in zip(found[1:], copies[1:], strict=True))


def test_an_epoch_is_a_permutation():
    split = Watched()
    for epoch in (1, 2):
        order = epoch_order(N, 7, epoch)
        found = list(loader_of(split).epoch(epoch))
        assert np.array_equal(np.concatenate([batch.indices for batch in found]), order)
        assert [batch.stop for batch in found] == [*range(10, 101, 10), 103]
    assert loader_of(split).batches() == 11
    assert [loader_of(split).batches(start) for start in (3, 90, 93, 102, 103)] == [10, 2, 1, 1, 0]


def joined(epoch):
    found = list(epoch)
    names = ("images", "labels", "indices")
    arrays = [np.concatenate([getattr(batch, name) for batch in found]) for name in names]
    return arrays + [np.concatenate([batch.draws[i] for batch in found]) for i in range(3)]


@pytest.mark.parametrize("start", [0, 1, 10, 57, 100, 102])
@pytest.mark.parametrize("sharing", [1, 4, 32])
def test_an_epoch_goes_on_in_its_middle(start, sharing):
    """With the same images, crops, mirrors and colours, whatever the batches and threads."""
    augmentation = Augmentation((4, 3), flip=True, colour_noise=0.1, crop_sharing=sharing)
    whole = joined(loader_of(Watched(), augmentation=augmentation).epoch(3))
    rest = list(loader_of(Watched(), 9, augmentation, threads=5).epoch(3, start))
    assert rest[-1].stop == N
    for a, b in zip(whole, joined(rest), strict=True):
        assert np.array_equal(a[start:], b)


def test_nothing_is_left_of_an_epoch_at_its_end():
    assert list(loader_of(Watched()).epoch(1, N)) == []


@pytest.mark.parametrize("start", [-1, N + 1])
def test_a_start_beyond_the_epoch(start):
    with pytest.raises(ConfigError, match=rf"an epoch of 103 images cannot be continued at its image {start}"):
        next(loader_of(Watched()).epoch(1, start))


def test_a_kept_and_a_decoded_split_are_read_by_many_threads_at_once(monkeypatch):
    dataset = open_dataset(str(PHOTOS), image_size=32, channels=3)
    expected = dataset.train.images(np.arange(36))
    monkeypatch.setattr("refnet.data.on_demand.MAX_KEPT_BYTES", 0)
    lazy = open_dataset(str(PHOTOS), image_size=32, channels=3)
    for split in (dataset.train, lazy.train):
        found = list(batches(split, np.arange(36), 7, reading=reading(8)))
        assert np.array_equal(np.concatenate([batch.images for batch in found]), expected)


# How far ahead


@pytest.mark.parametrize(("size", "threads"), [(10, 2), (4, 1), (4, 3)])
def test_reading_ahead_is_bounded(size, threads):
    """No more is begun than BATCHES_AHEAD batches beside the one that is out, in pieces of a grain."""
    split = Watched()
    coming = batches(split, np.arange(N), size, reading=reading(threads))
    taken = 0
    for _ in coming:
        taken += 1
        time.sleep(0.02)
        pieces = -(-size // split.grain)
        assert len(split.asked) <= (taken + BATCHES_AHEAD) * pieces * split.grain
    assert taken == -(-N // size)


def test_it_does_read_ahead():
    split = Watched()
    coming = batches(split, np.arange(N), 10, reading=reading())
    next(coming)
    deadline = time.monotonic() + 60
    while len(split.asked) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    coming.close()
    assert len(split.asked) < 50


def test_memory_is_bounded_by_the_queue():
    """Of 200 batches of 1.2 MB a handful is alive at a time."""
    split = ArraySplit(np.zeros(2000, np.int64), np.broadcast_to(np.uint8(3), (2000, 200, 200, 3)))
    tracemalloc.start()
    for _ in batches(split, np.arange(2000), 10, reading=reading()):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (BATCHES_AHEAD + 3) * 10 * 200 * 200 * 3


# What goes wrong


def raising(error):
    def spoil():
        raise error

    return spoil


@pytest.mark.parametrize("error", [DataError("a/b.jpg is damaged"), MemoryError(), KeyboardInterrupt()])
def test_an_error_comes_where_its_batch_would(error):
    split = Watched(35, raising(error))
    coming = batches(split, np.arange(N), 10, reading=reading())
    assert [next(coming).indices[0] for _ in range(3)] == [0, 10, 20]
    with pytest.raises(type(error)) as caught:
        next(coming)
    assert caught.value is error
    assert len(split.asked) < N


def test_a_read_that_hangs_is_given_up():
    released = threading.Event()
    coming = batches(Watched(24, released.wait), np.arange(N), 10, reading=reading(2, 1.0))
    assert [next(coming).indices[0] for _ in range(2)] == [0, 10]
    with pytest.raises(DataError, match=r"image 23 cannot be read: it takes longer than 1 s"):
        next(coming)
    released.set()


def test_a_batch_that_is_slowly_used_is_no_read_that_hangs():
    for _ in batches(Watched(), np.arange(20), 10, reading=reading(2, 1.0)):
        time.sleep(1.2)


STOPPED = """
import os, signal, subprocess, sys, time
import numpy as np
from refnet.data.parallel import Reading, in_order
subprocess.Popen(["sh", "-c", f"sleep 0.7; kill -STOP {os.getpid()}; sleep 3; kill -CONT {os.getpid()}"])
print(list(in_order(lambda i: time.sleep(0.3) or i, range(6), reading=Reading(1, 2.0), ahead=2, where=str)))
"""


def test_a_process_that_was_stopped_has_not_waited():
    """Ctrl-Z and, later than the timeout, fg: the clock has gone on, and nobody has had time to read."""
    done = subprocess.run([sys.executable, "-c", STOPPED], check=True, capture_output=True, text=True)
    assert done.stdout == "[0, 1, 2, 3, 4, 5]\n"


def test_closing_ends_the_threads():
    coming = batches(Watched(), np.arange(N), 10, reading=reading(4))
    next(coming)
    coming.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("refnet-read")]


def test_nothing_forks(monkeypatch):
    monkeypatch.setattr(os, "fork", raising(AssertionError("forked")))
    assert len(list(batches(Watched(), np.arange(N), 10, reading=reading()))) == 11


def test_results_are_in_order_whatever_takes_long():
    def work(item):
        time.sleep(0.002 * (item % 5))
        return item

    done = in_order(work, range(50), reading=reading(6), ahead=12, where=str)
    assert list(done) == list(range(50))


# In a training


@pytest.mark.usefixtures("cwd")
def test_a_training_ends_with_the_path_that_hangs(monkeypatch, capsys):
    read, released = decode.read, threading.Event()
    victim = min(PHOTOS.glob("*/*")).name
    monkeypatch.setattr(decode, "read", lambda place, *form: released.wait() if victim in place else read(place, *form))
    code = main(["train", "--json", "--data", str(PHOTOS), "--read-timeout", "2"])
    released.set()
    assert code == 3
    assert f"{victim} cannot be read: it takes longer than 2 s" in capsys.readouterr().err


@pytest.mark.usefixtures("cwd")
def test_a_pipe_in_the_place_of_a_file(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for photo in sorted(PHOTOS.glob("*/*"))[:4]:
            (tmp_path / "data" / name / photo.name).symlink_to(photo)
    os.mkfifo(tmp_path / "data" / "b" / "pipe.jpg")
    assert main(["train", "--json", "--data", "data", "--bad", "stop", "--follow-links"]) == 3
    assert capsys.readouterr().err == (
        "refnet: data/b/pipe.jpg is not a regular file (a folder, a pipe, a device): remove it, or leave it out with "
        "--bad skip\n"
    )


@pytest.mark.usefixtures("cwd")
def test_threads_and_preparing_change_nothing(tmp_path, capsys):
    """The same figures from photographs and from what was prepared of them, for any number of threads."""
    for folder in sorted(PHOTOS.iterdir())[:4]:
        shutil.copytree(folder, tmp_path / "photos" / folder.name)
    form = ["--size", "10", "--channels", "1", "--json"]  # what the net digits reads
    assert main(["data", "prepare", "photos", "prepared", *form]) == 0
    figures = []
    for run, data, threads in (("a", "photos", "1"), ("b", "photos", "3"), ("c", "prepared", "2")):
        argv = ["--data", data, "--read-threads", threads, "--run-dir", run, "--batch", "7", "--epochs", "2"]
        assert main(["train", "--net", "digits", "--backend", "numpy", *argv]) == 0, capsys.readouterr().err
        lines = Path(run, "metrics.jsonl").read_text().splitlines()
        figures.append([json.loads(line) | {"seconds": 0} for line in lines])
    assert len(figures[0]) == 2 * 3 + 1
    assert figures[0] == figures[1] == figures[2]
