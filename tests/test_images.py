import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from picture_makers import encode, picture
from PIL import Image

from faceforge.io import images
from faceforge.io.images import ImageError, decode, from_uint8, make_grid, to_uint8, write_png

# what each EXIF orientation means: the stored picture is this view of the upright one
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def corners(height=24, width=40):
    """Red, green, blue and grey quarters: every orientation of it is another picture."""
    array = np.empty((height, width, 3), np.uint8)
    array[: height // 2, : width // 2] = (220, 20, 20)
    array[: height // 2, width // 2 :] = (20, 220, 20)
    array[height // 2 :, : width // 2] = (20, 20, 220)
    array[height // 2 :, width // 2 :] = (128, 128, 128)
    return array


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_undone_in_every_format(kind, orientation):
    upright = corners()
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"subsampling": 0} if kind == "JPEG" else {}
    found = decode(encode(stored, kind, exif=exif, **options))
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() <= (3 if kind == "JPEG" else 0)


def test_mangled_exif_does_not_lose_a_sound_jpeg():
    data = encode(corners())
    junk = b"Exif\0\0II*\0\xff\xff\xff\xff"
    mangled = data[:2] + b"\xff\xe1" + struct.pack(">H", len(junk) + 2) + junk + data[2:]
    assert np.array_equal(decode(mangled), decode(data))


def test_colour_order_is_rgb():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "PPM"):
        mean = decode(encode(red, kind)).reshape(-1, 3).mean(axis=0)
        assert mean[0] > 240, kind
        assert mean[1:].max() < 15, kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "PPM"])
def test_grey_files_stay_two_dimensional(kind):
    grey = picture(1)[..., 0]
    found = decode(encode(grey, kind))
    assert found.shape == grey.shape
    assert np.abs(found.astype(int) - grey).max() <= (12 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_cut(kind):
    wide = np.array([[0, 128, 257, 32768], [65535, 65278, 514, 1000]], np.uint16)
    assert np.array_equal(decode(encode(Image.fromarray(wide), kind)), np.rint(wide / 257.0).astype(np.uint8))


def test_cmyk_jpeg_keeps_its_colours():
    rgb = Image.fromarray(corners())
    found = decode(encode(rgb.convert("CMYK")))
    assert np.abs(found.astype(int) - corners()).mean() < 6


def test_palette_and_its_transparency():
    palette = Image.fromarray(corners()).quantize(8)
    assert np.array_equal(decode(encode(palette, "PNG")), np.asarray(palette.convert("RGB")))
    see_through = decode(encode(palette, "PNG", transparency=palette.getpixel((0, 0))))
    assert (see_through[:12, :20] == 255).all()
    assert np.array_equal(see_through[12:], np.asarray(palette.convert("RGB"))[12:])


@given(colour=st.integers(0, 255), alpha=st.integers(0, 255))
def test_alpha_lies_on_white(colour, alpha):
    rgba = np.full((2, 3, 4), (colour, 0, 255, alpha), np.uint8)
    expected = np.array([colour, 0, 255]) * alpha / 255 + 255 - alpha
    assert np.abs(decode(encode(rgba, "PNG")) - expected).max() <= 1
    grey = decode(encode(np.full((2, 3, 2), (colour, alpha), np.uint8), "PNG"))
    assert grey.shape == (2, 3)
    assert np.abs(grey - expected[0]).max() <= 1


def test_one_bit_one_pixel_and_first_frame():
    assert decode(encode(np.array([[7]], np.uint8), "PNG")).tolist() == [[7]]
    assert decode(encode(np.full((1, 1, 3), 200, np.uint8))).shape == (1, 1, 3)
    assert decode(encode(Image.new("1", (3, 2), 1), "PNG")).tolist() == [[255] * 3] * 2
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert decode(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))[0, 0].tolist() == [255, 0, 0]


def damaged_cases():
    jpeg, png = encode(picture(0)), encode(picture(0), "PNG")
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0x55
    return {
        "empty": (b"", "empty file"),
        "text": (b"these are only words\n" * 9, "not an image (text)"),
        "html": (b"<!DOCTYPE html><html><body>log in</body></html>", "not an image (HTML page)"),
        "noise": (bytes(range(256)) * 4, "not an image (unknown format)"),
        "half a JPEG": (jpeg[: len(jpeg) // 2], "truncated JPEG"),
        "a JPEG's header": (jpeg[:40], "JPEG"),
        "half a PNG": (png[: len(png) // 2], "truncated image"),
        "PNG without its end": (png[:-12], "image"),
        "PNG with a wrong byte": (bytes(flipped), "damaged image"),
        "half a BMP": (encode(picture(0), "BMP")[:900], "truncated image"),
        "float TIFF": (encode(Image.new("F", (3, 3), 0.5), "TIFF"), "floating point"),
        "32-bit TIFF": (encode(Image.new("I", (3, 3), 70000), "TIFF"), "32-bit"),
    }


@pytest.mark.parametrize("case", damaged_cases())
def test_damage_is_named_in_one_short_line(case):
    data, reason = damaged_cases()[case]
    with pytest.raises(ImageError) as caught:
        decode(data, "a.jpg")
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 120
    assert "\n" not in str(caught.value)


def huge_png(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = encode(picture(0), "PNG")
    chunk = b"IHDR" + header
    return data[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


@pytest.mark.parametrize("side", [8000, 12000, 60000])
def test_pixels_are_counted_before_decoding(side):
    with pytest.raises(ImageError, match=r"pixels"):
        decode(huge_png(side))


def test_jpeg_pixels_are_counted_before_decoding():
    data = bytearray(encode(picture(0)))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60000, 60000)
    with pytest.raises(ImageError, match="60000x60000 pixels, more than 268435456"):
        decode(bytes(data))


@given(st.data())
def test_mutated_files_never_raise_anything_else(data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]))
    sound = bytearray(encode(picture(3, 12, 12), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(sound))
    except ImageError:
        return
    assert found.dtype == np.uint8
    assert found.shape[2:] in ((), (3,))


def test_to_uint8_clamps_where_the_published_code_wrapped():
    unit = torch.tensor([1.01, 1.5, -0.01, 0.0, 1.0])
    published = unit.mul(255).byte()  # how the published project turned its unbounded output into pixels
    assert published[0] < 5  # a little too bright became black
    ours = to_uint8(unit * 2 - 1)
    assert ours.tolist() == [255, 255, 0, 0, 255]
    assert to_uint8(torch.tensor([float("inf"), -float("inf"), float("nan")])).tolist() == [255, 0, 0]


def test_uint8_round_trip_is_exact_and_rounds_to_even():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(every)), every)
    assert from_uint8(every).dtype == torch.float32
    assert from_uint8(every)[[0, 255]].tolist() == [-1.0, 1.0]
    assert to_uint8(torch.zeros(1)).tolist() == [128]  # 127.5
    assert to_uint8(torch.zeros(2, 3, dtype=torch.bfloat16)).shape == (2, 3)


def test_grid_places_every_image():
    tiles = torch.stack([torch.full((3, 5, 7), v) for v in (-1.0, -0.5, 0.0, 0.5, 1.0)])
    grid = make_grid(tiles, columns=2)
    assert grid.shape == (3 * 5 + 2 * 2, 2 * 7 + 2, 3)
    assert grid.dtype == np.uint8
    for n, value in enumerate(to_uint8(tiles[:, 0, 0, 0]).tolist()):
        top, left = n // 2 * 7, n % 2 * 9
        assert (grid[top : top + 5, left : left + 7] == value).all()
    assert (grid[14:, 9:] == 255).all()  # the empty place
    assert make_grid(tiles[:1, :1]).shape == (5, 7, 3)
    with pytest.raises(ValueError, match="at least one"):
        make_grid(tiles[:0])


def test_png_is_written_whole_and_without_metadata(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "grid.png"
    write_png(corners(), path)
    assert np.array_equal(np.asarray(Image.open(path)), corners())
    assert Image.open(path).info == {}
    before = path.read_bytes()
    monkeypatch.setattr(Image.Image, "save", lambda self, file, **_: file.write_bytes(b"half") / 0)
    with pytest.raises(ZeroDivisionError):
        write_png(corners() // 2, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["grid.png"]


def test_decoding_needs_no_torch():
    code = "import sys, faceforge.data.cache, faceforge.data.sources.celeba; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pillow_is_never_told_to_accept_truncated_files():
    from PIL import ImageFile

    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert "LOAD_TRUNCATED" not in Path(images.__file__).read_text()
