"""Mutated real files: each gives an array or a ``DataError``, in a bounded time."""

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from preparing import fault

from refnet.data import prepare
from refnet.data.archive import members
from refnet.data.decode import read
from refnet.data.fetch import extract
from refnet.data.opening import open_dataset, read_source
from refnet.data.parallel import Reading
from refnet.data.readers.cifar import RECORD, TEST, TRAIN
from refnet.errors import DataError
from refnet.terminal.progress import Quiet

DATA = Path(__file__).parents[1].parent / "shared" / "data"


def _saved(form, mode="RGB", **options):
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(content, form, **options)
    return content.getvalue()


SEEDS = {
    **{path.name: path.read_bytes() for path in sorted((DATA / "odd").iterdir())},
    **{path.name: path.read_bytes() for path in sorted((DATA / "photos").glob("*/*"))[:3]},
    "cmyk.jpg": _saved("JPEG", "CMYK"),
    "progressive.jpg": _saved("JPEG", progressive=True),
    "gray.jpg": _saved("JPEG", "L"),
    "palette.png": _saved("PNG", "P"),
    "alpha.png": _saved("PNG", "RGBA"),
    "bits.bmp": _saved("BMP", "1"),
    "lossless.webp": _saved("WEBP", lossless=True),
    "lossy.webp": _saved("WEBP", quality=50),
    "plain.tif": _saved("TIFF"),
    "lzw.tif": _saved("TIFF", compression="tiff_lzw"),
    "jpeg.tif": _saved("TIFF", compression="jpeg"),
    "alpha.tif": _saved("TIFF", "RGBA", compression="tiff_adobe_deflate"),
    "sixteen.tif": _saved("TIFF", "I;16"),
    "fax.tif": _saved("TIFF", "1", compression="group4"),
    "palette.gif": _saved("GIF", "P"),
    "transparent.gif": _saved("GIF", "P", transparency=7),
    "gray.gif": _saved("GIF", "L", interlace=True),
    "colour.ppm": _saved("PPM"),
    "gray.pgm": _saved("PPM", "L"),
    "sixteen.pgm": _saved("PPM", "I;16"),
    "plain.pgm": b"P2 6 5 99 " + b" ".join(b"%d" % (n * 3) for n in range(30)) + b"\n",
    "bits.pbm": _saved("PPM", "1"),
    **({"still.avif": _saved("AVIF", "RGBA")} if features.check("avif") else {}),
    "sixteen.png": _saved("PNG", "I;16"),
}


@dataclass(frozen=True)
class Mutated:
    """A file and what is changed in it: (kind, how far from the start in 1/1000, a number)."""

    name: str
    changes: tuple[tuple[str, int, int], ...]

    def apply(self, content):
        content = bytearray(content)
        for kind, place, number in self.changes:
            at = len(content) * place // 1000 if place < 1000 else min(place - 1000, len(content))
            if kind == "set":
                content[at : at + 1] = bytes([number])
            elif kind == "flip":
                content[at : at + 1] = bytes([byte ^ 1 << number % 8 for byte in content[at : at + 1]])
            elif kind == "insert":
                content[at:at] = bytes([number]) * (1 + number % 9)
            elif kind == "remove":
                del content[at : at + 1 + number % 40]
            elif kind == "cut":
                del content[at:]
            else:
                content[at:at] = content[at : at + 2 * number]
        return bytes(content)


def mutated(*names):
    """Draw changes, many of them near the start, where headers are."""
    place = st.integers(0, 1000 + 700)
    number = st.integers(0, 255) | st.sampled_from([0, 127, 128, 255])
    kind = st.sampled_from(["set", "flip", "insert", "remove", "cut", "repeat"])
    return st.builds(
        Mutated, st.sampled_from(names), st.lists(st.tuples(kind, place, number), min_size=1, max_size=6).map(tuple)
    )


def tried(work):
    """Give what the work returns, or its ``DataError``, whose message must be one line."""
    try:
        return work()
    except DataError as error:
        lines = str(error)
    assert lines.isprintable()
    return DataError(lines)


@settings(max_examples=300)
@given(changed=mutated(*SEEDS), channels=st.sampled_from([1, 3]))
def test_pictures(tmp_path_factory, changed, channels):
    path = tmp_path_factory.getbasetemp() / "fuzzed.jpg"
    path.write_bytes(changed.apply(SEEDS[changed.name]))
    said = fault(str(path))
    image = tried(lambda: read(str(path), 16, channels))
    if isinstance(image, DataError):
        assert str(path) in str(image)
    else:
        assert said is None
        assert (image.shape, image.dtype) == ((16, 16, channels), np.uint8)


@pytest.mark.parametrize("name", sorted(SEEDS))
@pytest.mark.parametrize("tenth", range(10))
def test_cut_at_every_tenth(tmp_path, name, tenth):
    """What ends after its pixels may lose its end; all else is refused."""
    content = SEEDS[name]
    path, whole = tmp_path / "a.jpg", tmp_path / "b.jpg"
    path.write_bytes(content[: len(content) * tenth // 10])
    whole.write_bytes(content)
    image = tried(lambda: read(str(path), 16, 3))
    if isinstance(image, DataError):
        assert str(image).endswith("remove it")
        assert "a.jpg is " in str(image)
    else:
        assert tenth > 0
        assert np.array_equal(image, read(str(whole), 16, 3))


def _tar(kind="w"):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=kind) as archive:
        for name in ("a/x.png", "a/y.png", "b/z.png"):
            info = tarfile.TarInfo(name)
            info.size = len(SEEDS["palette.png"])
            archive.addfile(info, io.BytesIO(SEEDS["palette.png"]))
    return content.getvalue()


ARCHIVES = {"tar": _tar(), "tgz": _tar("w:gz")}


@settings(max_examples=150)
@given(changed=mutated("tar"))
def test_tars(tmp_path_factory, changed):
    path = tmp_path_factory.getbasetemp() / "fuzzed.tar"
    content = changed.apply(ARCHIVES["tar"])
    path.write_bytes(content)
    found = tried(lambda: list(members(str(path))))
    for member in [] if isinstance(found, DataError) else found:
        assert 0 <= member.start <= member.start + member.size <= len(content)
        fault(member)


@settings(max_examples=100)
@given(changed=mutated(*ARCHIVES))
def test_archives_that_are_unpacked(tmp_path_factory, changed):
    root = tmp_path_factory.mktemp("unpacked")
    (root / "fuzzed.tgz").write_bytes(changed.apply(ARCHIVES[changed.name]))
    inside = root / "to"
    inside.mkdir()
    tried(lambda: extract(root / "fuzzed.tgz", inside, 1 << 20))
    assert {path.name for path in root.iterdir()} == {"fuzzed.tgz", "to"}
    for path in inside.rglob("*"):
        assert path.resolve().is_relative_to(inside)
        assert path.is_dir() or (path.is_file() and not path.is_symlink())


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """Give a folder with small CIFAR-10 files, one with IDX files, and one that was prepared."""
    root = tmp_path_factory.mktemp("numbers")
    rng = np.random.default_rng(0)
    for name in ("cifar", "idx"):
        (root / name).mkdir()
    for name in (*TRAIN, TEST):
        records = rng.integers(0, 256, (20, RECORD), np.uint8)
        records[:, 0] = np.arange(20) % 10
        (root / "cifar" / name).write_bytes(records.tobytes())
    for part in ("train", "t10k"):
        for name, shape in (("images-idx3", (30, 6, 6)), ("labels-idx1", (30,))):
            head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
            (root / "idx" / f"{part}-{name}-ubyte").write_bytes(
                head + (np.arange(np.prod(shape)) % 3).astype(np.uint8).tobytes()
            )
    prepare.prepare(
        read_source(str(root / "idx")),
        root / "prepared",
        size=6,
        channels=1,
        reading=Reading(1),
        show=Quiet(),
    )
    return root


@pytest.mark.parametrize(
    ("kind", "file", "form"),
    [
        ("cifar", TRAIN[1], (32, 3)),
        ("cifar", TEST, (32, 3)),
        ("idx", "train-images-idx3-ubyte", (6, 1)),
        ("idx", "t10k-labels-idx1-ubyte", (6, 1)),
        ("prepared", "meta.json", (6, 1)),
        ("prepared", "train-00000.npy", (6, 1)),
        ("prepared", "train-labels.npy", (6, 1)),
        ("prepared", "mean.npy", (6, 1)),
    ],
)
@settings(max_examples=40)
@given(changed=mutated("whole"))
def test_files_of_numbers(numbers, kind, file, form, changed):
    size, channels = form
    path = numbers / kind / file
    content = path.read_bytes()
    path.write_bytes(changed.apply(content))
    try:
        tried(lambda: _look_at_all(numbers / kind, size, channels))
    finally:
        path.write_bytes(content)


def _look_at_all(root, size, channels):
    dataset = open_dataset(str(root), image_size=size, channels=channels, reading=Reading(1))
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.images(np.arange(len(split))).shape == (len(split), size, size, channels)
        assert 0 <= split.labels.min() <= split.labels.max() < len(dataset.classes)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60)
@given(data=st.data())
def test_meta_with_something_else_in_it(numbers, data):
    """JSON that is whole, with any value replaced by any other."""
    path = numbers / "prepared" / "meta.json"
    content = path.read_bytes()
    meta = json.loads(content)
    parent, key = meta, data.draw(st.sampled_from(sorted(meta)))
    while isinstance(parent[key], dict | list) and parent[key] and data.draw(st.booleans()):
        parent = parent[key]
        key = data.draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
    parent[key] = data.draw(JUNK)
    path.write_text(json.dumps(meta))
    try:
        tried(lambda: _look_at_all(numbers / "prepared", 6, 1))
    finally:
        path.write_bytes(content)
