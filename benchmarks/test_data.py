"""Decoding (compared with the decoder alone), preparing, and turning prepared bytes into augmented crops.

The photographs are in ``../shared/data/photos``, next to the checkout. All benchmarks of a group use the same files and
the same number of threads; ``extra_info`` has images per second. "One core": one thread reads, then augments.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refnet.backend.loading import load
from refnet.data import on_demand, prepare
from refnet.data.crops import Augmentation
from refnet.data.decode import FORMATS
from refnet.data.loader import Loader, batches
from refnet.data.on_demand import PictureSplit
from refnet.data.opening import open_dataset, read_source
from refnet.data.parallel import Reading
from refnet.machine.environment import cpus
from refnet.nets import NetSpec
from refnet.network import passes
from refnet.terminal.progress import Quiet

PHOTOS = Path(__file__).parents[1].parent / "shared" / "data" / "photos"
TIMES = 8  # each photograph is there so often: 480 files
SIZE = 256
PLAN = NetSpec("paper", columns=1).plan(fused=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    for path in PHOTOS.glob("*/*"):
        (root / path.parent.name).mkdir(exist_ok=True)
        for number in range(TIMES):
            shutil.copyfile(path, root / path.parent.name / f"{number}{path.name}")
    return read_source(str(root))


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared") / "made"
    prepared_from(source, root)
    return open_dataset(str(root), image_size=SIZE, channels=3)


def prepared_from(source, root):
    prepare.prepare(source, root, size=SIZE, channels=3, reading=Reading(bad="stop"), show=Quiet())


def decoded_alone(path):
    """Decode, crop and rescale with Pillow alone, as fast as possible: the work that preparing needs."""
    with Image.open(path, formats=FORMATS) as image:
        square = min(image.size)
        left, top = ((side - square) // 2 for side in image.size)
        box = (left, top, left + square, top + square)
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        return np.asarray(rgb.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box))


def record(benchmark, images, group):
    benchmark.group = group
    benchmark.extra_info |= {
        "images": images,
        "images_per_second": images / benchmark.stats["min"],
        "cores": len(cpus()),
    }


@pytest.mark.parametrize("contender", ["decoder alone", "loader", "prepare"])
def test_decoding(benchmark, contender, source, tmp_path, monkeypatch):
    monkeypatch.setattr(on_demand, "MAX_KEPT_BYTES", 0)
    paths = [path for pictures in source.splits.values() for path in pictures.paths]
    made = iter(range(100))

    def alone():
        with ThreadPoolExecutor(len(cpus())) as pool:
            for _ in pool.map(decoded_alone, paths):
                pass

    def loader():
        for pictures in source.splits.values():
            split = PictureSplit(pictures, SIZE, 3)
            for _ in batches(split, np.arange(len(split)), 128, reading=Reading()):
                pass

    work = {
        "decoder alone": alone,
        "loader": loader,
        "prepare": lambda: prepared_from(source, tmp_path / str(next(made))),
    }[contender]
    benchmark.pedantic(work, rounds=5, iterations=1, warmup_rounds=1)
    record(benchmark, len(paths), f"decoding {len(paths)} photographs to {SIZE}x{SIZE}, {len(cpus())} threads")


def test_prepared_to_augmented(benchmark, prepared):
    """On one core: read the memory map, draw, crop to 224x224 and mirror, subtract the mean, shift colours; float32."""
    backend = load("numba", threads=1, checked=False)
    augmentation = Augmentation((224, 224), flip=True, colour_noise=0.1)
    indices = np.random.default_rng(0).permutation(len(prepared.train))[:128]

    def work():
        images = prepared.train.images(indices)
        draws = augmentation.draw(indices, shape=prepared.image_shape, colours=prepared.colours, seed=0, epoch=1)
        passes.place_bytes(PLAN, images, prepared.mean, draws, backend)

    benchmark.pedantic(work, rounds=20, iterations=1, warmup_rounds=3)
    record(benchmark, len(indices), "prepared to augmented, batch 128, one core")


def test_loader_of_prepared(benchmark, prepared):
    """On all cores: an epoch through the loader's queue, augmented in place of training steps."""
    backend = load("numba", checked=False)
    augmentation = Augmentation((224, 224), flip=True, colour_noise=0.1)
    loader = Loader(prepared, 64, augmentation, seed=0, reading=Reading())

    def work():
        for batch in loader.epoch(1):
            passes.place_bytes(PLAN, batch.images, prepared.mean, batch.draws, backend)

    benchmark.pedantic(work, rounds=10, iterations=1, warmup_rounds=2)
    record(benchmark, len(prepared.train), f"prepared to augmented through the loader, {len(cpus())} cores")
