"""From one image file to pixels: real files, unusual files, damaged files."""

import os
import resource
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from preparing import fault

from refnet.data.decode import read
from refnet.errors import DataError

DATA = Path(__file__).parents[1].parent / "shared" / "data"
PHOTOS = sorted(str(path) for path in (DATA / "photos").glob("*/*.jpg"))
ODD = sorted(str(path) for path in (DATA / "odd").iterdir())


def quietly(path, size=32, channels=3):
    return read(str(path), size, channels)


def save(path, pixels, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_real_files(channels):
    assert len(PHOTOS) == 60
    assert len(ODD) == 5
    for image in (read(path, 64, channels) for path in PHOTOS + ODD):
        assert image.shape == (64, 64, channels)
        assert image.dtype == np.uint8
        assert image.std() > 10
    assert [fault(path) for path in PHOTOS + ODD] == [None] * 65


def test_one_step_is_rescale_then_crop():
    """Shorter side to 128, then the centre: the two steps agree but for where rounding puts the window."""
    for path in PHOTOS[:10]:
        with Image.open(path) as image:
            whole = image.convert("RGB")
        scale = 128 / min(whole.size)
        width, height = (round(side * scale) for side in whole.size)
        resized = np.asarray(whole.resize((width, height), Image.Resampling.BICUBIC), np.float64)
        top, left = (height - 128) // 2, (width - 128) // 2
        difference = np.abs(quietly(path, 128) - resized[top : top + 128, left : left + 128])
        assert np.median(difference) <= 3
        elsewhere = np.abs(quietly(path, 128) - resized[:128, :128])
        if abs(height - width) > 20:
            assert elsewhere.mean() > 2 * difference.mean()


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (20, 31), (20, 20)])
def test_the_right_size_is_only_cropped(tmp_path, size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    top, left = (size[0] - 20) // 2, (size[1] - 20) // 2
    path = save(tmp_path / "a.png", pixels)
    assert np.array_equal(quietly(path, 20), pixels[top : top + 20, left : left + 20])


@pytest.mark.parametrize("form", ["png", "bmp", "webp"])
def test_the_name_does_not_matter(tmp_path, pixels, form):
    path = save(tmp_path / "a.txt", pixels[:20, :20], format=form, lossless=True)
    assert np.array_equal(quietly(path, 20), pixels[:20, :20])


def test_alpha_composes_on_white(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 20, 4), np.uint8)
    path = save(tmp_path / "a.png", pixels)
    alpha = pixels[..., 3:] / 255
    assert np.abs(quietly(path, 20) - (pixels[..., :3] * alpha + 255 * (1 - alpha))).max() <= 1


def test_gray_becomes_three_equal_channels(tmp_path, pixels):
    path = save(tmp_path / "a.png", pixels[:, :20, 0])
    assert np.array_equal(quietly(path, 20), np.repeat(pixels[:, :20, :1], 3, axis=2))
    assert np.array_equal(quietly(path, 20, 1), pixels[:, :20, :1])


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 2**16, (20, 20), np.uint16)
    path = save(tmp_path / "a.png", pixels)
    assert np.array_equal(quietly(path, 20, 1)[..., 0], pixels >> 8)


@pytest.mark.parametrize("channels", [1, 3])
def test_cmyk(tmp_path, channels):
    Image.new("CMYK", (30, 30), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    red = quietly(tmp_path / "red.jpg", 20, channels)
    assert np.abs(red.astype(int) - ([255, 0, 0] if channels == 3 else [76])).max() <= 3


def test_a_palette_with_transparency_warns_nobody(tmp_path):
    """Pillow warns of this one, if asked directly."""
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "a.png", transparency=b"\x00\x80")
    with Image.open(tmp_path / "a.png") as again, pytest.warns(UserWarning, match="Transparency"):
        again.convert("RGB")
    assert np.array_equal(np.unique(quietly(tmp_path / "a.png", 20).reshape(-1, 3), axis=0), [[132, 137, 142]])


def test_orientation_is_ignored(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(tmp_path / "turned.png", pixels, exif=exif)
    assert np.array_equal(quietly(turned), quietly(save(tmp_path / "plain.png", pixels)))


def test_corrupt_exif_is_ignored(tmp_path, pixels):
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x1a\x01\x05\0\xff\xff\xff\xff\xff\xff\xff\x7f" * 3
    path = save(tmp_path / "a.jpg", pixels, exif=exif)
    path.write_bytes(path.read_bytes().replace(b"JFIF", b"JUNK", 1))
    assert fault_of(path) is None
    assert quietly(path).shape == (32, 32, 3)


def test_a_very_long_image_never_grows(tmp_path):
    path = save(tmp_path / "a.png", np.full((1, 200_000), 7, np.uint8))
    assert (quietly(path, 256, 1) == 7).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
@pytest.mark.parametrize("form", ["png", "jpeg", "bmp"])
def test_the_smallest_and_the_narrowest(tmp_path, size, form):
    path = save(tmp_path / "a", np.full((*size, 3), 100, np.uint8), format=form)
    assert np.abs(quietly(path, 16).astype(int) - 100).max() <= 1


def test_many_threads_leave_the_filters_as_they_were(tmp_path):
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "a.png", transparency=b"\x00\x80")
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(quietly, [tmp_path / "a.png"] * 200))
    assert len({image.tobytes() for image in images}) == 1
    assert warnings.filters == filters


def fault_of(path):
    return fault(str(path))


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8", b"GIF89a"])
def test_no_image(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    assert fault_of(tmp_path / "a.jpg") == (
        f"{tmp_path}/a.jpg is not an image refnet reads (JPEG, PNG, BMP, WebP, TIFF, GIF, PPM, PGM, PBM, AVIF): "
        "convert or remove it"
    )


@pytest.mark.parametrize("form", ["tga", "pcx", "sgi", "dds"])
def test_other_decoders_are_never_tried(tmp_path, pixels, form):
    path = save(tmp_path / "a.jpg", pixels, format=form)
    assert "is not an image refnet reads" in fault_of(path)


@pytest.mark.parametrize("form", ["jpeg", "png", "bmp", "webp", "tiff", "gif", "ppm", "avif"])
def test_cut_short(tmp_path, form):
    pixels = np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8)
    path = save(tmp_path / "a.img", pixels, format=form)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"a\.img is damaged or cut short \(.+\): replace or remove it$"):
        quietly(path)


def test_random_damage_raises_nothing_else(tmp_path):
    random = np.random.default_rng(0)
    refused = 0
    for source in ODD:
        content = np.frombuffer(Path(source).read_bytes(), np.uint8)
        for _ in range(40):
            damaged = content[: random.integers(1, len(content))].copy()
            damaged[random.integers(0, min(len(damaged), 600), 4)] = random.integers(0, 256, 4)
            (tmp_path / "a").write_bytes(damaged.tobytes())
            try:
                quietly(tmp_path / "a")
            except DataError:
                refused += 1
    assert refused > 100


def test_a_bomb_is_refused_before_memory_is_asked_for(tmp_path):
    """50,000 x 50,000 pixels of one bit: 300 MB packed, 7.5 GB as RGB, about 300 kB in the file."""
    deflate = zlib.compressobj(9)
    row = bytes(1 + 50_000 // 8)
    data = b"".join(deflate.compress(row) for _ in range(50_000)) + deflate.flush()
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        ),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"bomb\.png is too large to decode \(.*2500000000 pixels.*178956970"):
        quietly(path)
    assert "too large" in fault_of(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_a_large_image_below_the_limit_is_read_without_warning(tmp_path):
    """Pillow warns from 89 million pixels on."""
    image = Image.new("1", (10_000, 9_000), 1)
    image.save(tmp_path / "a.png")
    assert (quietly(tmp_path / "a.png", 8, 1) == 255).all()


def test_the_system_refuses(tmp_path):
    """Opening works and reading fails: with memory of our own process at address 0."""
    (tmp_path / "a.jpg").symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match=r"a\.jpg cannot be read: Input/output error"):
        quietly(tmp_path / "a.jpg")


def test_names_are_shown_on_one_line(tmp_path):
    path = tmp_path / os.fsdecode(b"a\n\x1b[31m\xff.jpg")
    path.write_bytes(b"text")
    message = fault_of(path)
    assert message.isprintable()
    assert r"a\n\x1b[31m\udcff.jpg is not an image" in message


def test_filters_and_files_are_given_back(tmp_path):
    filters = list(warnings.filters)
    handles = len(list(Path("/proc/self/fd").iterdir()))
    (tmp_path / "a.jpg").write_bytes(b"text")
    for path in (PHOTOS[0], tmp_path / "a.jpg"):
        assert fault_of(path) == (None if path == PHOTOS[0] else fault(str(path)))
    assert warnings.filters == filters
    assert len(list(Path("/proc/self/fd").iterdir())) == handles
