"""Measures of a crop by hand, and how far they bear what happens to pictures."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import fft

from faceforge.cut import measure
from faceforge.cut.measure import dominant, fingerprint, inside, sharpness, thumbnail
from faceforge.data.sources.drawn import Drawn

FACES = Drawn(count=400)


@pytest.fixture(scope="module")
def crops():
    """Drawn faces of 30 persons, two pictures each."""
    return [FACES.read(4 * person + n, (160, 120)) for person in range(30) for n in (0, 1)]


def plain(colour, height=30, width=20):
    return np.full((height, width, 3), colour, np.uint8)


def luma(pixels):
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def bits(a, b):
    return bin(fingerprint(luma(a)) ^ fingerprint(luma(b))).count("1")


def jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


# --------------------------------------------------------------------------------------------- brightness and colours


def test_measures_by_hand():
    crop = np.concatenate([plain((255, 0, 0)), plain((0, 0, 255), 10)])  # three quarters red
    found = measure.measure(crop, crop)
    red, blue = 0.299 * 255, 0.114 * 255  # ITU-R BT.601
    mean = 0.75 * red + 0.25 * blue
    assert found.brightness == pytest.approx(mean, abs=0.5)
    assert found.contrast == pytest.approx((red - blue) * np.sqrt(0.75 * 0.25), abs=0.5)
    assert found.mean_colour == "#bf0040"  # 191.25, 63.75
    assert found.dominant_colour == "#ff0000"


@pytest.mark.parametrize(("value", "name"), [(0, "#000000"), (255, "#ffffff"), (9, "#090909")])
def test_a_picture_of_one_colour(value, name):
    found = measure.measure(plain(value), plain(value))
    assert (found.brightness, found.contrast, found.sharpness) == pytest.approx((value, 0, 0))
    assert found.mean_colour == found.dominant_colour == name


def test_a_checkerboard_has_the_largest_contrast():
    board = np.indices((40, 30)).sum(axis=0) % 2 * 255
    found = measure.measure(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), plain(0))
    assert (found.brightness, found.contrast) == pytest.approx((127.5, 127.5))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_measures_of_any_size_are_the_plain_ones(height, width, seed):
    crop = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = measure.measure(crop, crop[:1, :1])
    grey = crop @ np.array([0.299, 0.587, 0.114])
    assert found.brightness == pytest.approx(grey.mean(), abs=0.51)
    assert found.contrast == pytest.approx(grey.std(), abs=0.51)
    mean = [int(found.mean_colour[at : at + 2], 16) for at in (1, 3, 5)]
    assert np.abs(mean - crop.reshape(-1, 3).mean(axis=0)).max() <= 0.5
    assert len(found.fingerprint) == 16
    assert found.sharpness == 0.0


def test_the_dominant_of_two_colours():
    mostly_green = np.concatenate([plain((20, 200, 20), 64, 40), plain((200, 20, 20), 64, 24)], axis=1)
    np.testing.assert_allclose(dominant(mostly_green), (20, 200, 20))
    np.testing.assert_allclose(dominant(mostly_green[:, ::-1]), (20, 200, 20))
    np.testing.assert_allclose(dominant(mostly_green[:, 30:]), (200, 20, 20))


def test_the_dominant_is_the_mean_of_its_cell():
    # 10 and 50 lie in the cell 0 to 63, 80 in the next: two thirds of the picture against one
    picture = np.concatenate([plain(10, 64, 20), plain(50, 64, 20), plain(80, 64, 24)], axis=1)
    np.testing.assert_allclose(dominant(picture), (30, 30, 30), atol=0.5)


# ----------------------------------------------------------------------------------------------------------- sharpness


def test_sharpness_by_hand():
    """A bright point has a Laplacian of -4 in it and 1 at its four neighbours."""
    face = np.zeros((128, 128, 3), np.uint8)
    face[60, 50] = 200
    squares, count = 200**2 * (4**2 + 4), 128**2
    assert sharpness(face) == pytest.approx(squares / count, rel=1e-6)  # the mean is 0


@pytest.mark.parametrize("times", [1, 2, 4])
def test_sharpness_of_noise(times):
    """The mean of n x n pixels of noise has 1 / n2 of their variance, the Laplacian 4 x 4 + 4 times that."""
    grey = np.random.default_rng(0).normal(128, 20, (128 * times, 128 * times)).clip(0, 255).astype(np.uint8)
    expected = 20 * 20**2 / times**2
    assert sharpness(np.repeat(grey[..., None], 3, axis=2)) == pytest.approx(expected, rel=0.05)


def test_sharpness_falls_with_blur(crops):
    for face in crops[::4]:
        blurred = [face, *(cv2.GaussianBlur(face, (0, 0), sigma) for sigma in (0.7, 1.5, 3, 6))]
        found = [sharpness(picture) for picture in blurred]
        assert found == sorted(found, reverse=True)
        assert found[0] > 20 * found[-1]


def test_sharpness_is_that_of_the_face_and_not_of_its_size(crops):
    """A face that was enlarged or reduced, or stands upright or lies, is about as sharp."""
    for face in crops[::6]:
        square = cv2.resize(face, (128, 128), interpolation=cv2.INTER_AREA)
        same = sharpness(square)
        assert sharpness(np.ascontiguousarray(np.rot90(face))) == pytest.approx(sharpness(face), rel=0.02)
        assert sharpness(np.kron(square, np.ones((3, 3, 1), np.uint8))) == pytest.approx(same, rel=0.02)
        assert sharpness(cv2.resize(square, (300, 290), interpolation=cv2.INTER_CUBIC)) == pytest.approx(same, rel=0.5)
        small = cv2.resize(square, (64, 64), interpolation=cv2.INTER_AREA)
        enlarged = cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC)
        assert sharpness(small) < 0.7 * same  # what is lost is not there
        assert sharpness(enlarged) < 0.9 * same


def test_a_narrow_face_is_as_sharp_as_a_wide_one(crops):
    """A face that is larger than 128 in one direction only is shrunk as softly as one that is so in both."""
    for face in crops[::6]:
        large = cv2.resize(face, (240, 320), interpolation=cv2.INTER_CUBIC)
        narrow = cv2.resize(face, (120, 320), interpolation=cv2.INTER_AREA)
        assert 0.4 < sharpness(narrow) / sharpness(large) < 1.6


# --------------------------------------------------------------------------------------------------------- fingerprint


def test_the_fingerprint_is_that_of_the_cosine_transform(crops):
    for crop in crops[::7]:
        small = cv2.resize(luma(crop), (32, 32), interpolation=cv2.INTER_AREA).astype(float)
        low = fft.dctn(small, norm="ortho")[:8, :8].ravel()
        expected = "".join("1" if value > np.median(low[1:]) else "0" for value in low)
        assert f"{fingerprint(luma(crop)):064b}" == expected
        assert measure.measure(crop, crop).fingerprint == f"{int(expected, 2):016x}"


CHANGES = {
    "the same": (0, lambda p: p),
    "stored again at quality 30": (4, lambda p: jpeg(p, 30)),
    "half as large": (4, lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)),
    "twice as large": (6, lambda p: cv2.resize(p, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)),
    "brighter": (4, lambda p: np.clip(p.astype(int) + 15, 0, 255).astype(np.uint8)),
    "noisy": (6, lambda p: np.clip(p + np.random.default_rng(0).normal(0, 8, p.shape), 0, 255).astype(np.uint8)),
    "in grey": (2, lambda p: np.repeat(luma(p)[..., None], 3, axis=2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprints_bear_what_happens_to_copies(crops, change):
    most, function = CHANGES[change]
    found = [bits(crop, function(crop)) for crop in crops[::2]]
    assert max(found) <= most
    assert np.mean(found) <= most / 2


def test_fingerprints_of_different_persons_differ(crops):
    prints = [fingerprint(luma(crop)) for crop in crops]
    others = [bin(a ^ b).count("1") for n, a in enumerate(prints) for m, b in enumerate(prints[:n]) if n // 2 != m // 2]
    assert np.median(others) >= 26
    assert np.mean(np.array(others) <= 10) < 0.005


# -------------------------------------------------------------------------------------------------- parts, thumbnails


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((2, 3, 4, 5), (3, 8), (2, 6)),
        ((2.6, 3.9, 4.0, 5.0), (3, 9), (2, 7)),
        ((-5, -5, 8, 9), (0, 4), (0, 3)),
        ((15, 25, 100, 100), (25, 30), (15, 20)),
        ((-50, -50, 10, 10), (0, 1), (0, 1)),
        ((99, 99, 10, 10), (29, 30), (19, 20)),
        ((5, 5, 0, 0), (5, 6), (5, 6)),
    ],
)
def test_the_part_in_a_box(box, rows, columns):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    np.testing.assert_array_equal(inside(pixels, box), pixels[slice(*rows), slice(*columns)])


@given(st.tuples(*[st.floats(-1e4, 1e4)] * 2, *[st.floats(0, 1e4)] * 2), st.integers(1, 30), st.integers(1, 30))
def test_there_is_always_a_part(box, height, width):
    assert inside(np.zeros((height, width, 3), np.uint8), box).size > 0


@pytest.mark.parametrize("size", [(480, 360), (64, 64), (30, 500), (1, 4000), (7, 5), (1, 1)])
def test_thumbnails(size):
    small = thumbnail(np.full((*size, 3), (9, 99, 199), np.uint8))
    assert max(small.shape[:2]) == 120
    assert small.shape[0] / small.shape[1] == pytest.approx(size[0] / size[1], rel=0.05) or min(small.shape[:2]) < 15
    assert (small == (9, 99, 199)).all()
