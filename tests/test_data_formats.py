"""Image formats and kinds of pixels: what is read, what transparent pixels become, what is rejected."""

import io
import struct
import tarfile
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin, features
from preparing import fault

from refnet.data.archive import members
from refnet.data.decode import FORMATS, FORMATS_IN_WORDS, centre_square, opened_bytes, read
from refnet.data.opening import read_source
from refnet.data.readers import digits
from refnet.errors import DataError

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (20, 20, 3), np.uint8)
SIXTEEN = RANDOM.integers(0, 2**16, (20, 20), np.uint16)


def saved(image, form, **options):
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def pixels_of(content, channels=3, size=20):
    with opened_bytes(content, "a") as image:
        return centre_square(image, size, channels)


def refused(content):
    with pytest.raises(DataError) as caught:
        pixels_of(content)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("PPM", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats(form, options):
    assert np.array_equal(pixels_of(saved(Image.fromarray(COLOURS), form, **options)), COLOURS)


@pytest.mark.parametrize("form", ["TIFF", "PPM"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_gray_and_bits(form, mode):
    image = Image.fromarray(COLOURS).convert(mode)
    assert np.array_equal(pixels_of(saved(image, form), 1)[..., 0], np.asarray(image.convert("L")))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif():
    even = Image.new("RGB", (40, 30), (200, 100, 50))
    assert "AVIF" in FORMATS
    assert np.abs(pixels_of(saved(even, "AVIF")).astype(int) - [200, 100, 50]).max() <= 4


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF"])
def test_the_first_of_several_images(form):
    first, second = (Image.new("RGB", (20, 20), colour) for colour in ("red", "blue"))
    content = saved(
        first, form, save_all=True, append_images=[second], **({"lossless": True} if form == "WEBP" else {})
    )
    assert (pixels_of(content) == [255, 0, 0]).all()


def test_a_tiff_in_an_archive(tmp_path):
    """libtiff reads files by their number if they have one, which would be the archive's."""
    content = saved(Image.fromarray(COLOURS), "TIFF", compression="tiff_lzw")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("a.tif", "b.tif"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    for member in members(str(tmp_path / "a.tar")):
        assert np.array_equal(read(member, 20, 3), COLOURS)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_the_upper_eight(form, channels):
    assert np.array_equal(pixels_of(saved(Image.fromarray(SIXTEEN), form), channels)[..., :1], SIXTEEN[..., None] >> 8)


def test_ten_bits_of_a_pgm_are_scaled():
    values = SIXTEEN >> 6
    content = b"P5 20 20 1023\n" + values.astype(">u2").tobytes()
    assert np.abs(pixels_of(content, 1)[..., 0] - values / 1023 * 255).max() <= 1


def tiff(bits, photometric, data, width, height):
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 8 + 2 + 12 * 8 + 4), (278, height), (279, len(data))]
    directory = b"".join(struct.pack("<HHII", tag, 4 if tag in {273, 279} else 3, 1, value) for tag, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + directory + bytes(4) + data


@pytest.mark.parametrize("photometric", [0, 1])
def test_a_tiff_of_sixteen_bits_in_which_zero_is_white(photometric):
    gray = pixels_of(tiff(16, photometric, SIXTEEN.astype("<u2").tobytes(), 20, 20), 1)[..., 0]
    assert np.array_equal(gray, (255 - (SIXTEEN >> 8)) if photometric == 0 else SIXTEEN >> 8)


def test_twelve_bits_of_a_tiff_are_scaled():
    """Two numbers are packed in three bytes."""
    white_and_gray = bytes([0xFF, 0xF8, 0x00]) * 20 * 10
    gray = pixels_of(tiff(12, 1, white_and_gray, 20, 20), 1)[..., 0]
    assert (gray[:, ::2] == 255).all()
    assert (gray[:, 1::2] == 128).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_the_colour_under_transparent_pixels_is_not_seen(mode, channels):
    """Pixels that are not transparent have the same bits as without any transparency."""
    opaque = Image.fromarray(COLOURS).convert("L" if mode == "LA" else "RGB")
    if mode == "P":
        opaque = opaque.quantize(16)
        hidden = 3
        content = saved(opaque, "PNG", transparency=hidden)
        clear = np.asarray(opaque) == hidden
    else:
        clear = RANDOM.integers(0, 2, (20, 20)) == 1
        image = opaque.copy()
        image.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
        assert image.mode == mode
        content = saved(image, "PNG")
    expected = pixels_of(saved(opaque, "PNG"), channels).copy()
    assert not (expected[clear] == 255).all()
    expected[clear] = 255
    assert np.array_equal(pixels_of(content, channels), expected)


def test_half_transparent_pixels_are_mixed_with_white():
    content = saved(Image.new("RGBA", (20, 20), (0, 0, 0, 128)), "PNG")
    assert np.abs(pixels_of(content).astype(int) - 127).max() <= 1


@pytest.mark.parametrize(("mode", "key"), [("L", 9), ("RGB", (9, 9, 9)), ("I;16", 9)])
def test_a_transparent_colour(mode, key):
    image = Image.new("I;16", (20, 20), 9) if mode == "I;16" else Image.new(mode, (20, 20), key)
    assert (pixels_of(saved(image, "PNG")) < 10).all()
    assert (pixels_of(saved(image, "PNG", transparency=key)) == 255).all()


def test_transparent_pixels_of_a_gif():
    image = Image.fromarray(COLOURS).quantize(8)
    pixels = pixels_of(saved(image, "GIF", transparency=image.getpixel((0, 0))))
    assert (pixels[0, 0] == 255).all()
    assert not (pixels == 255).all()


def test_digits_are_composed_on_black():
    image = Image.new("LA", (20, 20), (200, 0))
    assert not digits.fit(image).any()
    assert digits.fit(Image.new("LA", (20, 20), (200, 255))).any()


LARGE = 30 << 20  # bytes, more than Pillow unpacks


def with_text(kind):
    info = PngImagePlugin.PngInfo()
    if kind == "itxt":
        info.add_itxt("XML:com.adobe.xmp", "x" * LARGE, zip=True)
    else:
        for number in range(4):
            info.add_text(f"text {number}", "x" * LARGE, zip=kind == "ztxt")
    return {"pnginfo": info}


@pytest.mark.parametrize("kind", ["text", "ztxt", "itxt", "profile", "exif"])
def test_large_metadata_of_a_png(kind, tmp_path):
    options = {"profile": {"icc_profile": bytes(LARGE)}, "exif": {"exif": b"Exif\0\0" + bytes(LARGE)}}
    content = saved(Image.fromarray(COLOURS), "PNG", **(options.get(kind) or with_text(kind)))
    assert np.array_equal(pixels_of(content), COLOURS)
    (tmp_path / "a.png").write_bytes(content)
    assert fault(str(tmp_path / "a.png")) is None
    assert "damaged or cut short" in refused(content[:-30] if kind == "exif" else content[: len(content) // 2])


def test_texts_after_the_pixels_of_a_png():
    text = b"tEXtkey\0" + zlib.compress(b"")
    content = saved(Image.fromarray(COLOURS), "PNG")
    packed = b"zTXtkey\0\0" + zlib.compress(bytes(LARGE))
    for chunk in (text, packed):
        whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        assert np.array_equal(pixels_of(content[:-12] + whole + content[-12:]), COLOURS)


def test_a_wrong_checksum_of_a_text_is_damage():
    info = PngImagePlugin.PngInfo()
    info.add_text("key", "value")
    content = saved(Image.fromarray(COLOURS), "PNG", pnginfo=info)
    assert refused(content.replace(b"value", b"valve")).endswith("remove it")


def test_large_metadata_of_other_formats():
    image = Image.fromarray(COLOURS)
    profile = saved(image, "JPEG", icc_profile=bytes(2 << 20))
    assert np.array_equal(pixels_of(profile), pixels_of(saved(image, "JPEG")))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "x" * LARGE
    assert np.array_equal(pixels_of(saved(image, "TIFF", tiffinfo=tags)), COLOURS)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"8BPS\0\1" + bytes(40), "a Photoshop file"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "a camera's raw file"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(40), "a camera's raw file"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw file"),
        (saved(Image.fromarray(COLOURS), "JPEG2000"), "JPEG 2000"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_what_is_not_read_is_named_with_how_to_convert_it(content, name):
    assert refused(content) == (
        f"a is {name}, which refnet cannot read ({FORMATS_IN_WORDS}): "
        "convert it to PNG, for example with 'magick FILE FILE.png', or remove it"
    )


@pytest.mark.parametrize(("tag", "value"), [(254, 1), (50706, b"\1\4\0\0")])
def test_a_camera_file_is_not_read_as_its_thumbnail(tag, value):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[tag] = 4 if tag == 254 else 1
    tags[tag] = value
    assert "begins with a thumbnail" in refused(saved(Image.fromarray(COLOURS), "TIFF", tiffinfo=tags))


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_without_a_stated_range(mode):
    content = saved(Image.new(mode, (20, 20)), "TIFF")
    assert f"has pixels of the kind {mode} (" in refused(content)
    assert "convert it to 8 or 16 bits" in refused(content)


@pytest.mark.parametrize("form", ["PPM", "GIF", "TIFF"])
def test_bombs(form):
    if form == "PPM":
        content = b"P6 20000 20000 255\n"
    elif form == "GIF":
        content = b"GIF89a" + struct.pack("<HH", 20_000, 20_000) + bytes(3) + b"," + bytes(60)
    else:
        content = tiff(1, 1, bytes(9), 20_000, 20_000)
    assert "is too large to decode" in refused(content)


def test_a_small_tiff_with_a_huge_tile():
    content = bytearray(tiff(8, 1, bytes(400), 20, 20))
    for old, new in ((278, 322), (279, 323)):
        at = content.index(struct.pack("<H", old), 10)
        content[at : at + 12] = struct.pack("<HHII", new, 4, 1, 60_000)
    at = content.index(struct.pack("<HH", 273, 4))
    content[at : at + 2] = struct.pack("<H", 324)
    assert "a tile of 60000 x 60000 pixels" in refused(bytes(content))


@pytest.mark.parametrize(
    "content", [tiff(8, 1, bytes(100), 20, 20), b"P5 20 20 255\n" + bytes(100), b"P2 20 20 255\n1 2"]
)
def test_too_few_pixels(content):
    assert "damaged or cut short" in refused(content)


def test_pillow_logs_nothing_about_damage(capsys):
    """Of libtiff's own messages, which Pillow does not turn off, this says nothing."""
    content = saved(Image.fromarray(COLOURS), "TIFF", compression="tiff_lzw")
    for start in range(8, len(content) - 20, 37):
        damaged = content[:start] + b"\xff" * 20 + content[start + 20 :]
        with suppress(DataError):
            pixels_of(damaged)
    assert capsys.readouterr() == ("", "")


def test_files_are_listed_by_name_or_content(tmp_path):
    """What refnet cannot read is listed too: it must be named, not passed over."""
    image = Image.fromarray(COLOURS)
    names = ["a.tif", "b.ppm", "c.gif", "d.svg", "e.psd", "f.NEF", "without-ending", "tiff-without-ending"]
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for name in names:
            (tmp_path / kind / name).write_bytes(saved(image, "TIFF" if name.startswith("tiff") else "GIF"))
        (tmp_path / kind / "notes.txt").write_text("text")
    source = read_source(str(tmp_path))
    assert sum(map(len, (source.train, source.validation, source.test))) == 2 * len(names)
