import base64
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from picture_makers import picture
from PIL import Image

from faceforge.data import framing
from faceforge.data.framing import PROTOCOLS, RESIZE, check_crop, crop_box, frame, protocol_name
from faceforge.errors import BadInput
from faceforge.io.images import DECODE, ImageError, decode

CELEBA = (218, 178)
JPEG = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1R"
    "V19iZ2hnPk1xeXBkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2Nj"
    "Y2NjY2NjY2NjY2NjY2P/wAARCAAQABADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAABQb/xAAXEAEAAwAAAAAAAAAA"
    "AAAAAAAEACEx/8QAFQEBAQAAAAAAAAAAAAAAAAAAAgT/xAAZEQACAwEAAAAAAAAAAAAAAAAAAgQREyH/2gAMAwEAAhEDEQA/"
    "AJc4cqKHBlREocqLlBlSJG0FBnVXT//Z"
)
GOLDEN = ["834e0c191dc51e65", "67aca2711858fcec", "ec2156ea5c4cda37"]


@pytest.mark.parametrize(
    ("crop", "picture_size", "box"),
    [
        ("none", (31, 17), (0, 0, 17, 31)),
        ("published", CELEBA, (20, 45, 150, 185)),
        ("c140", CELEBA, (19, 39, 159, 179)),
        ("c148", CELEBA, (15, 35, 163, 183)),
        ("c160", CELEBA, (9, 29, 169, 189)),
        ("c178", CELEBA, (0, 20, 178, 198)),
        ("c150", (250, 250), (50, 50, 200, 200)),
    ],
)
def test_named_boxes(crop, picture_size, box):
    assert crop_box(crop, *picture_size, (64, 64)) == box


def test_every_named_protocol_of_celeba_is_another_set():
    boxes = []
    for crop in PROTOCOLS:
        check_crop(crop)
        boxes.append(crop_box(crop, *CELEBA, (64, 64)))
    assert len(set(boxes)) == len(boxes) == 8
    assert protocol_name("celeba", "c140", (64, 48), 3) == "celeba-c140-64x48x3"


@given(*[st.integers(1, 300)] * 4)
def test_center_is_the_largest_centred_box_of_the_targets_aspect(height, width, target_height, target_width):
    left, top, right, bottom = crop_box("center", height, width, (target_height, target_width))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert right - left == width or bottom - top == height
    assert abs((left + right) - width) <= 1
    assert abs((top + bottom) - height) <= 1
    wanted = min(width, height * target_width / target_height), min(height, width * target_height / target_width)
    assert abs(right - left - max(1, wanted[0])) <= 0.5
    assert abs(bottom - top - max(1, wanted[1])) <= 0.5


@pytest.mark.parametrize(("crop", "size"), [("published", (184, 200)), ("c140", (139, 200)), ("c2", (1, 1))])
def test_a_box_outside_the_picture_is_refused(crop, size):
    with pytest.raises(ImageError, match=f"{size[1]}x{size[0]} pixels, too small for the crop {crop}"):
        crop_box(crop, *size, (64, 64))


@pytest.mark.parametrize(("crop", "nearest"), [("centre", "center"), ("publishd", "published"), ("c0", "c140")])
def test_unknown_crops_name_the_nearest(crop, nearest):
    with pytest.raises(BadInput, match=f"data.crop={crop}: .*nearest is {nearest}"):
        check_crop(crop)


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (40, 40), (64, 48)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("grey", [False, True])
def test_any_size_and_channels(size, channels, grey):
    source = picture(1, 33, 50)[..., 1] if grey else picture(1, 33, 50)
    framed = frame(source, "center", size, channels)
    assert framed.shape == (channels, *size)
    assert framed.dtype == np.uint8
    assert framed.flags.c_contiguous
    if grey:
        assert (framed == framed[:1]).all()


def test_colour_becomes_rec_601_luma():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    luma = frame(colours, "none", (1, 4), 1)[0, 0]
    assert np.abs(luma - colours[0] @ np.array([0.299, 0.587, 0.114])).max() <= 0.51


def test_shrinking_averages_instead_of_picking_pixels():
    """A fine chequerboard becomes even grey; without antialiasing it would stay black and white or flicker."""
    y, x = np.mgrid[0:96, 0:96]
    framed = frame(((x + y) % 2 * 255).astype(np.uint8), "none", (12, 12), 1)
    assert np.abs(framed.astype(int) - 127.5).max() <= 3


def test_shrinking_is_close_to_exact_area_means():
    source = picture(2, 64, 64)
    means = source.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.abs(frame(source, "none", (16, 16), 3) - means).mean() < 6


@settings(max_examples=200, deadline=None)
@given(
    source=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    target=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    grey=st.booleans(),
    seed=st.integers(0, 2**32),
)
@example(source=(1, 70000), target=(3, 64), grey=True, seed=1)
@example(source=(178, 178), target=(64, 64), grey=False, seed=2)
@example(source=(320, 135), target=(14, 71), grey=False, seed=3)
@example(source=(64, 48), target=(64, 64), grey=False, seed=4)  # one axis stays
def test_the_filter_is_pillows_to_two_levels(source, target, grey, seed):
    """Black, white and anything between, where the filter overshoots and sums lie on the edge of rounding."""
    draw = np.random.default_rng(seed)
    pixels = draw.choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), source if grey else (*source, 3))
    narrow = Image.fromarray(pixels).resize((target[1], source[0]), Image.Resampling.BICUBIC)
    expected = np.asarray(narrow.resize(target[::-1], Image.Resampling.BICUBIC)).astype(int)
    found = frame(pixels, "none", target, 1 if grey else 3)
    apart = np.abs(found - (expected[None] if grey else expected.transpose(2, 0, 1)))
    assert apart.max() <= 2
    assert (apart > 0).sum() <= max(2, 0.05 * apart.size)


@given(source=st.tuples(st.integers(2, 60), st.integers(1, 60)), rows=st.integers(1, 59), seed=st.integers(0, 99))
def test_bands_change_no_pixel(source, rows, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (*source, 3), dtype=np.uint8)
    whole = frame(pixels, "none", (16, 20), 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "BAND", rows * source[1])
        assert np.array_equal(frame(pixels, "none", (16, 20), 3), whole)


def test_cropping_comes_before_resizing():
    """No pixel outside the box may leak in, as a resize with a wider filter over the whole picture would let it."""
    source = np.full((*CELEBA, 3), 255, np.uint8)
    source[45:185, 20:150] = 10
    assert (frame(source, "published", (64, 64), 3) == 10).all()


def test_golden_pixels_of_the_recipe():
    """If this fails the pixels of packed sets have changed: raise the number in RESIZE (or DECODE) as well."""
    assert (RESIZE, DECODE) == ("torch-bicubic-antialiased/1", "strict/2, profiles to sRGB")
    assert golden() == GOLDEN
    pixels = decode(base64.b64decode(JPEG))
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == "098468ee30d3497d"


def golden() -> list[str]:
    y, x = np.mgrid[0:50, 0:70]
    source = np.stack([(x * 7 + y) % 256, (x * y) % 256, (y * 11) % 256], axis=-1).astype(np.uint8)
    return [
        hashlib.sha256(frame(source, "center", size, channels).tobytes()).hexdigest()[:16]
        for size, channels in (((16, 16), 3), ((31, 17), 1), ((96, 96), 3))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["default", "avx2"])
def test_the_pixels_are_the_same_on_any_processor(processor):
    """Pictures of one column too: torch's kernel without vector instructions has their bytes in a wrong order."""
    code = (
        "import test_data_framing as t; print(*t.golden()); "
        "[t.test_the_filter_is_pillows_to_two_levels.hypothesis.inner_test((h, w), (9, 1), g, h) "
        "for h in (2, 7) for w in (1, 5) for g in (True, False)]"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": processor}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == GOLDEN
