"""The rectangle of a crop by hand, and its pixels against Pillow's own."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from faceforge.cut.frame import HAAR_CENTRE, HAAR_WIDTH, Frame, cut, fit, grow, haar_box, roll, spread, yaw

FRONTAL = ((-20.0, 0.0), (20.0, 0.0), (0.0, 22.0), (-15.0, 40.0), (15.0, 40.0))


def turned(landmarks, degrees, at=(0.0, 0.0), scale=1.0):
    """Landmarks turned clockwise on the screen, where y points down."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return tuple((at[0] + scale * (x * cos - y * sin), at[1] + scale * (x * sin + y * cos)) for x, y in landmarks)


def corners(frame):
    halves = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return turned([(dx * frame.w / 2, dy * frame.h / 2) for dx, dy in halves], frame.angle, (frame.x, frame.y))


# -------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("box", [(100.0, 200.0, 80.0, 80.0), (7.0, 5.0, 61.0, 61.0)])
def test_the_published_frame(box):
    x, y, w, _ = box
    frame = grow(box, (480, 360))
    left, top = frame.x - frame.w / 2, frame.y - frame.h / 2
    assert (left, top, frame.w, frame.h) == pytest.approx((x - 0.25 * w, y - 0.5 * w, 1.5 * w, 2.0 * w))
    assert (frame.angle, frame.moved, frame.shrunk) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("size", "zoom", "width", "height"),
    [
        ((480, 360), 1.0, 150, 200),
        ((320, 256), 1.0, 160, 200),
        ((64, 64), 1.0, 200, 200),
        ((64, 64), 2.0, 100, 100),
        ((100, 300), 1.0, 600, 200),
        ((480, 360), 0.5, 300, 400),
    ],
)
def test_frames_of_other_sizes(size, zoom, width, height):
    frame = grow((10.0, 20.0, 100.0, 100.0), size, zoom, 12.5)
    assert (frame.x, frame.y, frame.w, frame.h) == pytest.approx((60.0, 70.0, width, height))
    assert frame.angle == 12.5


def test_the_haar_box_of_a_frontal_face():
    # eyes at (100, 80), mouth 40 below them: the centre lies 0.3 of the way down, the width is 2.67 x 40
    box = haar_box(turned(FRONTAL, 0, (100.0, 80.0)))
    width = HAAR_WIDTH * 40
    assert box == pytest.approx((100 - width / 2, 80 + HAAR_CENTRE * 40 - width / 2, width, width))
    assert box == pytest.approx((46.6, 38.6, 106.8, 106.8))


def test_a_head_bent_down_keeps_its_size():
    flat = ((-20.0, 0.0), (20.0, 0.0), (0.0, 4.0), (-15.0, 8.0), (15.0, 8.0))
    assert haar_box(flat)[2] == pytest.approx(HAAR_WIDTH * 0.7 * 40)  # by the eyes, 40 apart, not by the 8 to the mouth


@given(st.floats(-180, 180), st.floats(0.1, 30), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_the_haar_box_turns_and_scales_with_the_face(degrees, scale, x, y):
    left, top, width, height = haar_box(turned(FRONTAL, degrees, (x, y), scale))
    assert width == height == pytest.approx(scale * HAAR_WIDTH * 40)
    centre = turned([(0.0, HAAR_CENTRE * 40)], degrees, (x, y), scale)[0]
    assert (left + width / 2, top + height / 2) == pytest.approx(centre, abs=1e-6)


@pytest.mark.parametrize("degrees", [0, 1, -7.5, 45, -60, 89, 90, 91, -90, 120, -135, 170, 179, -179])
def test_roll_is_the_angle_a_face_is_turned_by(degrees):
    assert roll(turned(FRONTAL, degrees, (300.0, 40.0), 2.5)) == pytest.approx(degrees, abs=1e-9)


def test_roll_of_a_face_on_its_head():
    assert abs(roll(turned(FRONTAL, 180))) == pytest.approx(180)


def test_roll_weighs_eyes_and_mouth_alike():
    # the eyes say 10 degrees, the way from the eyes to the mouth says 0: unit vectors average to 5
    eyes = turned(FRONTAL[:2], 10)
    assert roll((*eyes, *FRONTAL[2:])) == pytest.approx(5)


@pytest.mark.parametrize(
    ("nose", "expected"), [(0, 0), (-10, -0.5), (10, 0.5), (20, 1), (-20, -1), (35, 1), (-500, -1)]
)
@pytest.mark.parametrize("degrees", [0, 30, -100])
def test_yaw_is_where_the_nose_stands(nose, expected, degrees):
    landmarks = (*FRONTAL[:2], (float(nose), 22.0), *FRONTAL[3:])
    assert yaw(turned(landmarks, degrees, (9.0, 9.0))) == pytest.approx(expected, abs=1e-9)


def test_landmarks_in_one_point_are_numbers():
    point = ((5.0, 5.0),) * 5
    assert haar_box(point) == (5.0, 5.0, 0.0, 0.0)
    assert roll(point) == 0.0
    assert yaw(point) == -1.0


# ----------------------------------------------------------------------------------------------------------- fitting

frames = st.builds(
    Frame,
    x=st.floats(-500, 1500),
    y=st.floats(-500, 1500),
    w=st.floats(1, 2000),
    h=st.floats(1, 2000),
    angle=st.one_of(st.just(0.0), st.floats(-180, 180)),
)
sides = st.integers(1, 1000)


@settings(max_examples=150)
@given(frames, sides, sides)
def test_a_fitted_frame_lies_inside_and_keeps_its_shape(frame, width, height):
    fitted = fit(frame, width, height)
    for x, y in corners(fitted):
        assert -1e-6 <= x <= width + 1e-6
        assert -1e-6 <= y <= height + 1e-6
    assert fitted.w / fitted.h == pytest.approx(frame.w / frame.h)
    assert fitted.angle == frame.angle
    assert fitted.w == pytest.approx(frame.w * fitted.shrunk)
    assert 0 < fitted.shrunk <= 1


@settings(max_examples=150)
@given(frames, sides, sides)
def test_a_fitted_frame_is_the_largest_and_nearest(frame, width, height):
    fitted = fit(frame, width, height)
    xs, ys = zip(*corners(fitted), strict=True)
    rooms = (width - (max(xs) - min(xs)), height - (max(ys) - min(ys)))
    assert fitted.shrunk == 1.0 or min(rooms) == pytest.approx(0, abs=1e-6)  # it shrinks only where it fills a side
    # in each direction it stays where it was, or it touches the edge that it had crossed
    for at, was, low, high, end in (
        (fitted.x, frame.x, min(xs), max(xs), width),
        (fitted.y, frame.y, min(ys), max(ys), height),
    ):
        stays = at == pytest.approx(was, abs=1e-6)
        from_below = at > was and low == pytest.approx(0, abs=1e-6)
        from_above = at < was and high == pytest.approx(end, abs=1e-6)
        assert stays or from_below or from_above
    assert fitted.moved == pytest.approx(math.dist((fitted.x, fitted.y), (frame.x, frame.y)) / fitted.w)


@given(frames, st.integers(0, 400), st.integers(0, 400))
def test_a_frame_inside_is_left_alone(frame, right, below):
    across, down = spread(frame)
    inside = Frame(across / 2 + 1 + right, down / 2 + 1 + below, frame.w, frame.h, frame.angle)
    assert fit(inside, across + 2 + 2 * right, down + 2 + 2 * below) == inside
    assert fit(fit(frame, 300, 200), 300, 200).moved == pytest.approx(0, abs=1e-6)


def test_frames_that_leave_a_photo_by_hand():
    assert fit(Frame(10, 50, 30, 40), 100, 100) == Frame(15, 50, 30, 40, moved=5 / 30)
    assert fit(Frame(50, 90, 30, 40), 100, 100) == Frame(50, 80, 30, 40, moved=10 / 30)
    assert fit(Frame(50, 50, 150, 200), 100, 100) == Frame(50, 50, 75, 100, shrunk=0.5)
    assert fit(Frame(10, 50, 150, 200), 100, 100) == Frame(37.5, 50, 75, 100, moved=27.5 / 75, shrunk=0.5)
    turned_over = fit(Frame(0, 0, 30, 40, 90), 100, 100)  # on its side it is 40 wide and 30 high
    assert (turned_over.x, turned_over.y, turned_over.w) == pytest.approx((20, 15, 30))


@given(frames)
def test_the_spread_is_that_of_the_corners(frame):
    xs, ys = zip(*corners(frame), strict=True)
    assert spread(frame) == pytest.approx((max(xs) - min(xs), max(ys) - min(ys)), abs=1e-6)


# ----------------------------------------------------------------------------------------------------------- cutting


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (48, 36), (121, 91), (1, 33)])
@pytest.mark.parametrize("frame", [Frame(20.25, 30.5, 30.5, 40.0), Frame(32, 32, 64, 64), Frame(10.5, 10.5, 1, 1)])
def test_a_straight_cut_is_a_resize_of_whole_pixels(frame, size):
    pixels = noise(64, 64)
    left, top = round(frame.x - frame.w / 2), round(frame.y - frame.h / 2)
    right, bottom = round(frame.x + frame.w / 2), round(frame.y + frame.h / 2)
    part = np.ascontiguousarray(pixels[top : max(bottom, top + 1), left : max(right, left + 1)])
    if part.shape[0] <= size[0] and part.shape[1] <= size[1]:
        expected = cv2.resize(part, size[::-1], interpolation=cv2.INTER_CUBIC)
    else:
        expected = np.asarray(Image.fromarray(part).resize(size[::-1], Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(cut(pixels, frame, size), expected)


def test_a_cut_of_the_same_size_copies_pixels():
    pixels = noise(40, 50)
    np.testing.assert_array_equal(cut(pixels, Frame(20, 15, 12, 16), (16, 12)), pixels[7:23, 14:26])
    np.testing.assert_array_equal(cut(pixels, Frame(25, 20, 50, 40), (40, 50)), pixels)


@pytest.mark.parametrize(("angle", "quarters"), [(90.0, 1), (180.0, 2), (-90.0, 3)])
def test_a_quarter_turn_copies_pixels(angle, quarters):
    pixels = noise(40, 50)
    patch = pixels[10:30, 12:38]  # 26 wide, 20 high about (25, 20)
    w, h = (26, 20) if quarters == 2 else (20, 26)
    found = cut(pixels, Frame(25, 20, w, h, angle), (h, w))
    np.testing.assert_array_equal(found, np.rot90(patch, quarters))  # numpy turns counterclockwise


def pattern(x, y):
    """A smooth picture of a plane, about (0, 0), that looks like nothing else when it is turned or mirrored."""
    waves = [np.sin(x / 9 + 1), np.sin(y / 7 - x / 30), np.cos((x + 2 * y) / 17)]
    return np.clip(127.5 + 90 * np.stack(waves, axis=-1), 0, 255)


@pytest.mark.parametrize("angle", [0.0, 10.0, -33.3, 90.0, 120.0, 179.0])
@pytest.mark.parametrize("scale", [1.0, 0.5, 1.7])
def test_a_turned_frame_shows_its_pattern_upright(angle, scale):
    # a photo in which the pattern is turned clockwise about (110.3, 95.8)
    rows, columns = np.mgrid[0:200, 0:220] + 0.5
    dx, dy = columns - 110.3, rows - 95.8
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    photo = np.rint(pattern(dx * cos + dy * sin, -dx * sin + dy * cos)).astype(np.uint8)

    height, width = round(80 * scale), round(60 * scale)
    found = cut(photo, Frame(110.3, 95.8, 60.0, 80.0, angle), (height, width))
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    expected = pattern((columns / width - 0.5) * 60, (rows / height - 0.5) * 80)
    inner = slice(2, -2)
    error = np.abs(found.astype(float) - expected)[inner, inner]
    assert error.max() < 6
    assert error.mean() < (1 if angle else 2)  # frames that are not turned are rounded to whole pixels


def test_a_turned_cut_is_the_spline_of_scipy():
    pixels = ndimage.gaussian_filter(noise(90, 90).astype(float), (3, 3, 0))
    pixels = ((pixels - pixels.min()) / np.ptp(pixels) * 255).astype(np.uint8)
    frame = Frame(44.0, 46.5, 31.0, 41.0, 25.0)
    rows, columns = np.mgrid[0:41, 0:31] + 0.5
    cos, sin = math.cos(math.radians(25)), math.sin(math.radians(25))
    dx, dy = columns - 15.5, rows - 20.5
    x, y = 44.0 + dx * cos - dy * sin, 46.5 + dx * sin + dy * cos
    planes = [ndimage.map_coordinates(pixels[..., c].astype(float), [y - 0.5, x - 0.5], order=3) for c in range(3)]
    found = cut(pixels, frame, (41, 31))
    assert np.abs(found - np.stack(planes, axis=-1)).max() < 4


@settings(max_examples=100, deadline=None)
@given(frames, st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_a_fitted_cut_never_reads_outside(frame, photo_height, photo_width, height, width):
    """On a photo of one colour every pixel of every crop has it: nothing is padded."""
    photo = np.full((photo_height, photo_width, 3), (200, 90, 30), np.uint8)
    crop = cut(photo, fit(frame, photo_width, photo_height), (height, width))
    assert crop.shape == (height, width, 3)
    assert crop.dtype == np.uint8
    assert (crop == (200, 90, 30)).all()


@given(st.floats(5, 35), st.floats(5, 45), st.floats(3, 60), st.floats(-180, 180))
@settings(deadline=None)
def test_a_cut_depends_on_nothing_beyond_its_frame(x, y, w, angle):
    """What lies farther off than the kernel reaches may be anything."""
    frame = fit(Frame(x, y, w, w * 4 / 3, angle), 40, 50)
    photo = noise(50, 40)
    across, down = spread(frame)
    rows, columns = np.mgrid[0:50, 0:40] + 0.5
    reach = 3 + 2 * max(1, frame.h / 8)  # of the kernel, two pixels of the crop to each side
    far = (abs(columns - frame.x) > across / 2 + reach) | (abs(rows - frame.y) > down / 2 + reach)
    other = np.where(far[..., None], 255 - photo, photo)
    np.testing.assert_array_equal(cut(photo, frame, (8, 6)), cut(other, frame, (8, 6)))
