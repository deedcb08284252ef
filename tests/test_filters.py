"""Filters against pictures worked out by hand and plain numpy; panels as files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from picture_makers import encode, make_crops, picture, write
from PIL import Image
from typer.testing import CliRunner

from faceforge import cli
from faceforge.cut import panel
from faceforge.data import filters
from faceforge.data.filters import FILTERS, LEVELS
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput

PICTURES = arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 15), st.just(3)))
# few values, so that areas grow together: what contours are about
PATCHES = arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 15)), elements=st.sampled_from([0, 101, 255]))


def border(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that have one of four neighbours outside it; beyond the picture is outside."""
    wide = np.pad(mask, 1)
    return mask & ~(wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:])


def published_contours(image: np.ndarray) -> np.ndarray:
    """Line by line as the routine draws: the pen holds the level in one channel and 0 in the others."""
    out = np.zeros_like(image)
    for channel in range(3):
        for level in LEVELS:
            pen = np.zeros(3, np.uint8)
            pen[channel] = level
            out[border(image[..., channel] > level)] = pen
    return out


@given(PICTURES)
def test_grey_is_luma_in_every_channel(image):
    weights = np.array([0.299, 0.587, 0.114])
    luma = (image * weights).sum(2)
    out = filters.grey(image)
    assert (out == out[..., :1]).all()
    assert np.abs(out[..., 0] - luma).max() <= 0.52  # half for rounding, the rest for weights of 15 bits


@given(PICTURES)
def test_thresholds_are_those_of_plain_numpy(image):
    np.testing.assert_array_equal(filters.thresholds(image), np.where(image > 200, 200, 0))
    loop = np.zeros_like(image)  # the published loop, in which the last level wins
    for level in LEVELS:
        loop = (image > level) * np.uint8(level)
    np.testing.assert_array_equal(filters.thresholds(image), loop)
    highest = np.max([(image > level) * level for level in LEVELS], axis=0)
    np.testing.assert_array_equal(filters.posterize(image), highest)
    np.testing.assert_array_equal(filters.thresholds(image, [7, 90]), np.where(image > 90, 90, 0))


def test_levels_by_hand():
    row = np.uint8([0, 50, 51, 100, 101, 150, 151, 200, 201, 255])
    colour = np.stack([row, row[::-1], np.zeros(10, np.uint8)], axis=-1)[None]
    all_levels = [0, 0, 50, 50, 100, 100, 150, 150, 200, 200]
    assert filters.posterize(colour)[0, :, 0].tolist() == all_levels
    assert filters.posterize(colour)[0, :, 1].tolist() == all_levels[::-1]
    assert filters.thresholds(colour)[0].tolist() == [[0, 200, 0]] * 2 + [[0, 0, 0]] * 6 + [[200, 0, 0]] * 2


def test_published_contours_of_a_square_with_a_hole():
    image = np.zeros((7, 8, 3), np.uint8)
    image[1:6, 1:7, 1] = 120  # above 50 and 100
    image[3, 3:5, 1] = 60  # the hole, above 50 alone
    drawn = filters.contours_published(image)
    assert not drawn[..., [0, 2]].any()
    expected = """
        ........
        .xxxxxx.
        .x.xx.x.
        .xx..xx.
        .x.xx.x.
        .xxxxxx.
        ........"""
    wanted = np.array([list(line) for line in expected.split()]) == "x"
    np.testing.assert_array_equal(drawn[..., 1], np.where(wanted, 100, 0))


@given(PICTURES)
def test_published_contours_are_the_borders_of_the_masks(image):
    np.testing.assert_array_equal(filters.contours_published(image), published_contours(image))


@given(PATCHES)
def test_smooth_contours_lie_along_the_borders_of_their_channel(plane):
    """At most a pixel beside it, never brighter than the level, and bright on every border of any length."""
    image = np.stack([np.zeros_like(plane), plane, np.zeros_like(plane)], axis=-1)
    drawn = filters.contours(image, [100])
    edge = border(plane > 100)
    near = cv2.dilate(edge.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert not drawn[..., [0, 2]].any()
    assert not drawn[..., 1][~near].any()
    assert drawn.max() <= 100
    count, labels = cv2.connectedComponents(edge.astype(np.uint8), connectivity=8)
    for label in range(1, count):
        if (labels == label).sum() > 1:
            assert (drawn[..., 1][labels == label] >= 50).all()


def test_smooth_contours_of_one_channel_leave_the_others_alone():
    face = Drawn(count=3).read(1, (96, 72))
    whole = filters.contours(face)
    for channel in range(3):
        alone = np.zeros_like(face)
        alone[..., channel] = face[..., channel]
        np.testing.assert_array_equal(filters.contours(alone)[..., channel], whole[..., channel])


@pytest.mark.parametrize(("step", "found"), [(62, False), (63, False), (64, True), (255, True)])
def test_canny_finds_a_step_where_it_is(step, found):
    """A step of n has |dx| of 4 n, which must exceed 255."""
    image = np.zeros((9, 12, 3), np.uint8)
    image[:, 5:, 2] = step
    edges = filters.canny_image(image)
    assert not edges[..., :2].any()
    columns = np.flatnonzero(edges[..., 2].any(axis=0)).tolist()
    assert columns in ([4], [5]) if found else columns == []
    assert set(np.unique(edges)) <= {0, 255}
    if found:
        assert edges[..., 2].any(axis=1).all()


def test_canny_as_published_sees_only_what_lies_around_200():
    image = np.full((8, 8, 3), 20, np.uint8)
    image[:, 4:, 0] = 190  # a strong edge that does not reach 200
    image[4:, :, 1] = 201
    assert filters.canny_image(image)[..., 0].any()
    edges = filters.canny(image)
    assert not edges[..., [0, 2]].any()
    rows = np.flatnonzero(edges[..., 1].any(axis=1)).tolist()
    assert rows in ([3], [4])


@given(PICTURES)
def test_canny_as_published_does_not_depend_on_how_bright_the_mask_is(image):
    mask = np.where(image > 200, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(filters.canny(image), filters.canny_image(mask))


@pytest.mark.parametrize("name", FILTERS)
@given(PICTURES, st.booleans())
@settings(max_examples=25)
def test_every_filter_takes_every_picture(name, image, grey):
    given_one = image[..., 0] if grey else image[:, ::-1]  # neither is contiguous
    before = given_one.copy()
    out = FILTERS[name](given_one)
    assert out.dtype == np.uint8
    assert out.shape == image.shape
    assert out.flags.c_contiguous
    assert not np.shares_memory(out, image)
    np.testing.assert_array_equal(given_one, before)
    if grey:
        np.testing.assert_array_equal(out[..., 0], FILTERS[name](np.repeat(before[..., None], 3, 2))[..., 0])


@pytest.mark.parametrize("name", FILTERS)
def test_threads_change_nothing(name):
    noise = np.random.default_rng(1).integers(0, 256, (301, 257, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (9, 9), 0)
    image = np.clip((image.astype(int) - 127) * 6 + 127, 0, 255).astype(np.uint8)
    before = cv2.getNumThreads()
    try:
        results = []
        for threads in (1, 2, 7):
            cv2.setNumThreads(threads)
            results.append(FILTERS[name](image))
    finally:
        cv2.setNumThreads(before)
    assert results[0].any()
    assert all((result == results[0]).all() for result in results)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)])
def test_what_is_no_picture_is_refused(wrong):
    for function in FILTERS.values():
        with pytest.raises(ValueError, match="must be"):
            function(wrong)


@pytest.mark.parametrize("levels", [[], [0], [255], [100, 50], [50, 50], [50.5]])
def test_levels_that_make_no_sense_are_refused(levels):
    for function in (filters.posterize, filters.contours, filters.contours_published):
        with pytest.raises(ValueError, match="increasing"):
            function(np.zeros((2, 2, 3), np.uint8), levels)


# ---------------------------------------------------------------------------------------------------- panels


@pytest.mark.parametrize("size", [(480, 360), (64, 64), (1, 1), (1, 719), (719, 1), (3, 900), (900, 1300)])
def test_a_panel_shows_every_filter(size):
    image = picture(0, *size)
    drawn = panel.draw(image)
    assert drawn.dtype == np.uint8
    assert max(drawn.shape) < 4 * 720 + 100
    if max(size) <= 720:  # the tiles are the filters' own pixels, enlarged by a whole number
        top = panel.TEXT + panel.GAP + panel.GAP // 2
        scale = max(1, min(720 // max(size), -(-200 // size[1])))
        tile = drawn[top : top + size[0] * scale : scale, panel.GAP : panel.GAP + size[1] * scale : scale]
        np.testing.assert_array_equal(tile, image)


def test_panels_have_legible_labels():
    drawn = panel.draw(np.zeros((480, 360), np.uint8))
    strip = drawn[: panel.TEXT + panel.GAP]
    for n in range(4):  # dark letters on white above every tile
        label = strip[:, 8 + n * 368 : 8 + n * 368 + 360].min(axis=2)
        assert label.min() < 60
        assert 10 <= np.ptp(np.flatnonzero((label < 128).any(axis=1))) + 1 <= panel.TEXT + panel.GAP


def invoke(*words: object):
    result = CliRunner().invoke(cli.app, ["filters", *map(str, words)])
    return result.exception if isinstance(result.exception, BadInput) else result


def test_one_picture(tmp_path):
    file = write(tmp_path / "my faces" / "a b.jpg", encode(picture(1)))
    assert invoke(file).exit_code == 0
    panel_file = tmp_path / "my faces/_review/filters/a b.jpg.png"
    with Image.open(panel_file) as image:
        assert image.size == (4 * 208 + 8, 2 * 232 + 8)
    first = panel_file.read_bytes()
    assert "exists; use --overwrite" in str(invoke(file))
    assert invoke(file, "--overwrite").exit_code == 0
    assert panel_file.read_bytes() == first
    assert invoke(file, "--out", tmp_path / "x" / "y.png").exit_code == 0
    assert (tmp_path / "x" / "y.png").read_bytes() == first


def test_a_folder_keeps_its_places_and_leaves_out_what_is_no_face(tmp_path):
    root = make_crops(tmp_path / "crops", 3)
    write(root / "anna" / "1.png", encode(picture(3), "PNG"))
    write(root / "_review" / "rejected" / "no.png", encode(picture(4), "PNG"))
    result = invoke(root)
    assert result.exit_code == 0
    assert "4 panels" in result.output
    made = {p.relative_to(root / "_review/filters").as_posix() for p in (root / "_review/filters").rglob("*.png")}
    assert made == {"000.jpg.png", "001.jpg.png", "002.jpg.png", "anna/1.png"}
    assert len(Crops(str(root)).names) == 4
    assert "exists" in str(invoke(root))


def test_broken_pictures_are_named_and_the_rest_goes_on(tmp_path):
    root = make_crops(tmp_path / "crops", 2)
    write(root / "bad.png", b"<html>")
    result = invoke(root, "--out", tmp_path / "panels")
    assert result.exit_code == 0
    assert "bad.png: not an image (HTML page)" in result.stderr
    assert sorted(p.name for p in (tmp_path / "panels").iterdir()) == ["000.jpg.png", "001.jpg.png"]
    assert "bad.png: not an image" in str(invoke(root / "bad.png"))


def test_what_cannot_be_is_one_line(tmp_path):
    root = make_crops(tmp_path / "crops", 1)
    file = root / "000.jpg"
    png = write(tmp_path / "a.png", encode(picture(1), "PNG"))
    (tmp_path / "none").mkdir()
    found = {
        "no such image": invoke(tmp_path / "absent.png"),
        "no images": invoke(tmp_path / "none"),
        "is among the crops": invoke(root, "--out", root / "panels"),
        "choose another --out": invoke(png, "--out", png, "--overwrite"),
        "cannot be written": invoke(file, "--out", png / "x"),
    }
    for words, error in found.items():
        assert isinstance(error, BadInput), words
        assert words in str(error)
        assert "\n" not in str(error)
        assert "data.root" not in str(error)
    assert png.read_bytes() == encode(picture(1), "PNG")
    assert [p.name for p in root.iterdir()] == ["000.jpg"]
