"""Detectors against plain calls of OpenCV, turns against turned pixels, weights that are found, wrong or far away."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from yunet import WEIGHTS, needs_yunet

from faceforge.cut import detect
from faceforge.cut.detect import (
    MATCH_IOU,
    NMS_IOU,
    TURN_GAIN,
    UPRIGHT_SCORE,
    Detection,
    Haar,
    Verified,
    YuNet,
    agree,
    find_yunet,
    make_detector,
    overlap,
)
from faceforge.cut.frame import roll
from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.fetch.download import DownloadError
from faceforge.io.images import decode

FACES = Drawn(count=400)
PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "photos_color"
MARKS = ((30.0, 40.0), (60.0, 40.0), (45.0, 55.0), (34.0, 70.0), (56.0, 70.0))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(scope="module")
def yunet():
    return YuNet(WEIGHTS)


def scene(index, size=(200, 260), side=110, at=(50, 80)):
    """A drawn face on a plain ground, its eyes a little above its middle."""
    pixels = np.full((*size, 3), (120, 140, 160), np.uint8)
    pixels[at[0] : at[0] + side, at[1] : at[1] + side] = FACES.read(index, (side, side))
    return pixels


def numbers(face: Detection):
    return np.array([*face.box, *np.ravel(face.landmarks or ())])


# ----------------------------------------------------------------------------------------------------- quarter turns

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(sizes, st.data(), st.integers(1, 3))
def test_places_turn_as_pixels_do(size, data, quarter):
    height, width = size
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    w, h = data.draw(st.integers(1, width - left)), data.draw(st.integers(1, height - top))
    mask = np.zeros(size, bool)
    mask[top : top + h, left : left + w] = True
    rows, columns = np.nonzero(np.rot90(mask, -quarter))
    expected = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)

    marks = tuple((x + 0.5, y + 0.5) for x in (left, left + w - 1) for y in (top, top + h - 1))
    face = Detection((float(left), float(top), float(w), float(h)), landmarks=(*marks, marks[0]))
    (found,) = detect._turned([face], quarter, size)
    assert found.box == expected
    assert found.landmarks is not None
    for (x, y), (i, j) in zip(marks, found.landmarks, strict=False):
        mask[:] = False
        mask[int(y), int(x)] = True
        assert np.rot90(mask, -quarter)[int(j), int(i)]
    assert found.landmarks[4] == found.landmarks[0]


@given(sizes, st.integers(1, 3), st.lists(st.floats(-50, 50), min_size=14, max_size=14))
def test_turning_there_and_back(size, quarter, values):
    marks = tuple(zip(values[4::2], values[5::2], strict=True))
    face = Detection((values[0], values[1], abs(values[2]), abs(values[3])), 0.9, marks)
    away = detect._turned([face], quarter, size)
    (back,) = detect._turned(away, -quarter, size)  # the size that it goes back to
    np.testing.assert_allclose(numbers(back), numbers(face), atol=1e-9)
    assert back.score == 0.9
    assert detect._turned([face], 0, size) == [face]


def test_a_turn_by_hand():
    # in a photo 100 wide and 80 high, a quarter clockwise takes (x, y) to (80 - y, x)
    (found,) = detect._turned([Detection((10.0, 20.0, 30.0, 40.0), landmarks=MARKS)], 1, (80, 100))
    assert found.box == (20.0, 10.0, 40.0, 30.0)
    assert found.landmarks == ((40.0, 30.0), (40.0, 60.0), (25.0, 45.0), (10.0, 34.0), (10.0, 56.0))
    assert detect._turned([Detection((10.0, 20.0, 30.0, 40.0))], 2, (80, 100))[0].box == (60.0, 20.0, 30.0, 40.0)


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_a_face_stands_up_in_its_own_quarter(quarter):
    size = (100, 90)
    lying = detect._turned([Detection((20.0, 20.0, 50.0, 65.0), landmarks=MARKS)], quarter, size)[0]
    standing = detect._stand_up(lying, size[::-1] if quarter % 2 else size)
    assert standing.quarter == -quarter % 4
    assert standing.landmarks == MARKS
    assert standing.box == (20.0, 20.0, 50.0, 65.0)
    assert detect._stand_up(Detection((1.0, 2.0, 3.0, 4.0)), size).quarter == 0


class Scripted(YuNet):
    """A YuNet that sees a face of the given score in each quarter turn; a bright corner tells them apart."""

    def __init__(self, scores) -> None:
        self.scores, self.looks = scores, 0

    def upright(self, pixels):
        self.looks += 1
        corners = (pixels[0, 0], pixels[0, -1], pixels[-1, -1], pixels[-1, 0])
        score = self.scores[int(np.argmax([corner.sum() for corner in corners]))]
        return [Detection((20.0, 20.0, 50.0, 65.0), score, MARKS)] if score else []

    def _refined(self, pixels, face):
        return face


@pytest.mark.parametrize(
    ("scores", "quarter", "looks"),
    [
        ((UPRIGHT_SCORE, 1, 1, 1), 0, 1),  # surely upright: the photo is not turned at all
        ((0.8, 0.79, 0.6, 0.7), 0, 4),
        ((0.8, 0.6, 0.0, 0.93), 3, 4),
        ((0.0, 0.7, 0.0, 0.0), 1, 4),
        ((0.8, 0.0, 0.8 + TURN_GAIN + 1e-9, 0.0), 2, 4),
        ((0.8, 0.0, 0.8 + TURN_GAIN - 1e-6, 0.0), 0, 4),  # hardly better is not better
    ],
)
def test_the_clearly_best_turn_counts(scores, quarter, looks):
    net = Scripted(scores)
    pixels = np.zeros((100, 90, 3), np.uint8)
    pixels[0, 0] = 255
    (face,) = net(pixels)
    assert (face.quarter, face.score, net.looks) == (quarter, scores[quarter], looks)
    assert face.landmarks == MARKS  # in the turned photo, where the face stands upright
    assert face.box == (20.0, 20.0, 50.0, 65.0)


def test_no_face_in_any_turn():
    assert Scripted((0, 0, 0, 0))(np.zeros((5, 4, 3), np.uint8)) == []


# ------------------------------------------------------------------------------------------------------------- boxes


def test_overlap_by_hand():
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10, 10), (2, 2, 5, 5)) == pytest.approx(25 / 100)
    assert overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0
    assert overlap((0, 0, 10, 10), (-30, -30, 10, 10)) == 0
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0


whole_boxes = st.tuples(st.integers(0, 15), st.integers(0, 15), st.integers(1, 15), st.integers(1, 15))


@given(whole_boxes, whole_boxes)
def test_overlap_counts_pixels(a, b):
    masks = np.zeros((2, 30, 30), bool)
    for mask, (x, y, w, h) in zip(masks, (a, b), strict=True):
        mask[y : y + h, x : x + w] = True
    assert overlap(a, b) == pytest.approx((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())
    assert overlap(a, b) == overlap(b, a)


def test_what_agrees():
    assert agree((0, 0, 10, 10), (0, 0, 10, 4))  # overlaps by 0.4 exactly
    assert not agree((0, 0, 10, 10), (0, 0, 10, 3.9))
    assert agree((0, 0, 10, 10), (3, 3, 4, 4))  # each holds the other's centre
    assert not agree((0, 0, 10, 10), (0, 0, 3, 3))
    assert not agree((0, 0, 100, 100), (60, 60, 10, 10))  # far in a corner of the other


def test_the_best_scored_of_overlapping_faces_stay():
    faces = [
        Detection((0, 0, 10, 10), 0.7),
        Detection((1, 0, 10, 10), 0.9),
        Detection((2, 1, 10, 10), 0.8),
        Detection((40, 0, 10, 10), 0.65),
    ]
    assert [face.score for face in detect._distinct(faces)] == [0.9, 0.65]
    assert detect._distinct([]) == []


def judge_with(haar, yunet):
    """Verified with scripted parts; and how often its YuNet looked."""
    looks = []
    both = Verified.__new__(Verified)
    judge: Callable[[np.ndarray], list[Detection]] = lambda pixels: looks.append(1) or list(yunet)  # noqa: E731
    both._haar = lambda pixels: list(haar)  # pyright: ignore[reportAttributeAccessIssue]
    both._yunet = type("Judge", (), {"upright": staticmethod(judge)})()  # pyright: ignore[reportAttributeAccessIssue]
    return both(np.zeros((4, 4, 3), np.uint8)), len(looks)


def test_haar_boxes_with_yunets_opinion():
    haar = [
        Detection((0.0, 0.0, 100.0, 100.0), neighbours=20),
        Detection((300.0, 0.0, 80.0, 80.0), neighbours=6),
    ]
    far, near = Detection((10.0, 30.0, 80.0, 90.0), 0.99, MARKS), Detection((10.0, 0.0, 80.0, 100.0), 0.8, MARKS)
    (good, bad), _ = judge_with(haar, [far, near, Detection((320.0, 90.0, 80.0, 80.0), 0.95, MARKS)])
    assert (good.box, good.neighbours) == (haar[0].box, 20)  # the box stays the cascade's
    assert (good.score, good.landmarks) == (0.8, MARKS)  # of the one that overlaps most, not of the best scored
    assert good.agreement == pytest.approx(0.8)
    assert (bad.agreement, bad.score, bad.landmarks) == (0.0, None, None)


def test_without_haar_boxes_yunet_is_not_asked():
    assert judge_with([], [Detection((0, 0, 1, 1), 0.9, MARKS)]) == ([], 0)
    assert judge_with([Detection((0.0, 0.0, 9.0, 9.0))], [])[0][0].agreement == 0.0


@given(whole_boxes, st.lists(whole_boxes, max_size=4))
def test_agreement_is_the_largest_overlap_of_those_that_agree(box, others):
    found = detect._verified(Detection(box), [Detection(other, 0.9, MARKS) for other in others])
    shares = [overlap(box, other) for other in others if agree(box, other)]
    assert found.agreement == max(shares, default=0.0)
    assert (found.score is None) == (not shares)
    assert found.agreement == 0 or found.agreement >= MATCH_IOU or any(agree(box, other) for other in others)


# -------------------------------------------------------------------------------------------------------------- Haar


def test_haar_is_the_published_call():
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    haar, count = Haar(), 0
    photos = [scene(index) for index in range(0, 24, 3)]
    photos += [np.concatenate([scene(8), scene(9)], axis=1)]
    photos += [scene(3, side=90), scene(31, side=120)]  # boxes of four windows, which are one too few
    for pixels in photos:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        expected = cascade.detectMultiScale(grey, 1.2, 5, minSize=(60, 60))
        found = haar(pixels)
        assert sorted(face.box for face in found) == sorted(tuple(map(float, box)) for box in expected)
        neighbours = [face.neighbours for face in found]
        assert neighbours == sorted(neighbours, reverse=True)
        assert all(count >= 5 for count in neighbours)
        assert all(face.score is None and face.landmarks is None for face in found)
        count += len(found)
    assert count >= 5


def test_the_eyes_are_counted_in_the_box():
    counts = []
    for index in range(0, 30, 3):
        pixels = scene(index)
        for face in Haar()(pixels):
            x, y, w, h = map(int, face.box)
            box = pixels[y : y + h, x : x + w]
            counts.append(detect.count_eyes(box))
            blind = box.copy()
            blind[: round(0.6 * h)] = 127  # what lies below the eyes does not count
            assert detect.count_eyes(blind) == 0
    assert max(counts) == 2
    assert detect.count_eyes(np.zeros((1, 1, 3), np.uint8)) == 0


@pytest.mark.parametrize("size", [(1, 1), (59, 59), (60, 60), (3, 500)])
def test_haar_on_odd_sizes(size):
    assert Haar()(np.full((*size, 3), 127, np.uint8)) == []


# ------------------------------------------------------------------------------------------------------------- YuNet


@needs_yunet
def test_yunet_finds_every_drawn_face(yunet):
    for index in range(0, 60, 5):
        (face,) = yunet(scene(index))
        assert face.score > 0.8
        assert face.quarter == 0
        x, y, w, h = face.box
        assert overlap(face.box, (80 + 0.19 * 110, 50 + 0.17 * 110, 0.62 * 110, 0.76 * 110)) > 0.55
        for left, top in face.landmarks:
            assert x - 2 < left < x + w + 2
            assert y < top < y + h
        eyes = np.mean(face.landmarks[:2], axis=0)
        assert np.abs(eyes - (80 + 55, 50 + 0.475 * 110)).max() < 6  # where drawn faces have their eyes
        assert abs(roll(face.landmarks) - FACES.factors(index)["roll"]) < 8


@needs_yunet
def test_a_used_net_sees_what_a_fresh_one_sees(yunet):
    """OpenCV keeps buffers of the size before: a net that is used again must not see them."""
    shapes = [(200, 260), (120, 120), (90, 400), (640, 640), (33, 31), (200, 260), (700, 660)]
    for index, size in enumerate(shapes):
        side = min(110, *size)
        pixels = scene(index * 7, size, side, (0, 0))
        assert yunet(pixels) == YuNet(WEIGHTS)(pixels)


@needs_yunet
@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_turned_photos_are_set_upright(yunet, quarter):
    right = 0
    indices = range(0, 40, 5)
    for index in indices:
        pixels = scene(index)
        (face,) = yunet(np.ascontiguousarray(np.rot90(pixels, -quarter)))
        (upright,) = yunet(pixels)
        if face.quarter == -quarter % 4:
            right += 1
            assert overlap(face.box, upright.box) > 0.9
            assert np.abs(numbers(face) - numbers(upright)).max() < 3
    assert right >= len(indices) - 1


@needs_yunet
@pytest.mark.parametrize("side", [110, pytest.param(300, marks=pytest.mark.slow)])
def test_the_roll_of_faces_of_any_size(yunet, side):
    """At a first look the net hardly sees the roll of faces below some 120 pixels."""
    errors = []
    for index in (0, 8, 12, 20):
        for angle in (-25, -12, 12, 25):
            pixels = Image.fromarray(scene(index, (2 * side, 2 * side), side, (side // 2, side // 2)))
            turned = pixels.rotate(-angle, Image.Resampling.BICUBIC, fillcolor=(120, 140, 160))
            (face,) = yunet(np.asarray(turned))
            errors.append(roll(face.landmarks) - angle - FACES.factors(index)["roll"])
    assert np.median(np.abs(errors)) < 5


@needs_yunet
def test_large_and_small_faces_of_one_photo(yunet):
    pixels = np.full((1500, 2000, 3), (120, 140, 160), np.uint8)
    pixels[100:1400, 50:1350] = cv2.resize(FACES.read(0, (260, 260)), (1300, 1300), interpolation=cv2.INTER_CUBIC)
    pixels[700:840, 1700:1840] = FACES.read(8, (140, 140))
    pixels[100:200, 1800:1900] = FACES.read(16, (100, 100))
    found = yunet(pixels)
    boxes = sorted((face.box for face in found), key=lambda box: box[2])
    for (x, y, w, h), (left, top, side) in zip(
        boxes, [(1800, 100, 100), (1700, 700, 140), (50, 100, 1300)], strict=True
    ):
        assert w / side == pytest.approx(0.6, abs=0.14)
        assert (x + w / 2 - left) / side == pytest.approx(0.5, abs=0.08)
        assert (y + h / 2 - top) / side == pytest.approx(0.55, abs=0.08)
    scores = [face.score for face in found]
    assert scores == sorted(scores, reverse=True)


@needs_yunet
def test_no_two_faces_of_a_photo_overlap(yunet):
    pixels = np.concatenate([FACES.read(index, (90, 90)) for index in range(0, 40, 5)], axis=1)
    found = yunet(pixels)
    assert len(found) == 8
    for n, face in enumerate(found):
        assert all(overlap(face.box, other.box) <= NMS_IOU for other in found[:n])


@needs_yunet
@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2, 3), (31, 33), (5, 700), (321, 641)])
def test_yunet_on_odd_sizes(yunet, size):
    assert yunet(np.full((*size, 3), 127, np.uint8)) == []


@needs_yunet
def test_verified_keeps_haar_boxes_that_are_faces():
    both, haar = Verified(WEIGHTS), Haar()
    for index in range(0, 30, 5):
        pixels = scene(index)
        faces = both(pixels)
        assert [face.box for face in faces] == [face.box for face in haar(pixels)]
        assert all(face.agreement >= MATCH_IOU and face.score > 0.8 and face.landmarks for face in faces)


@needs_yunet
def test_detectors_by_name(tmp_path):
    assert isinstance(make_detector("yunet", WEIGHTS), YuNet)
    assert isinstance(make_detector("verified", WEIGHTS), Verified)
    assert isinstance(make_detector("haar", None), Haar)
    assert make_detector("yunet", WEIGHTS) is make_detector("yunet", WEIGHTS)


def test_weights_that_are_none(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(BadInput, match=r"net\.onnx: not the weights of YuNet") as caught:
        YuNet(path)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------- real photographs


@pytest.mark.real_faces
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no photographs at ../shared/data")
@needs_yunet
def test_real_photographs(yunet):
    names = sorted(PHOTOS.iterdir())[::97]
    right, found_in, both = [], 0, 0
    for name in names:
        pixels = decode(name.read_bytes())
        pixels = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
        faces = yunet(pixels)
        found_in += bool(faces)
        assert faces == YuNet(WEIGHTS)(pixels)
        if not faces or faces[0].score < 0.85:
            continue
        both += 1
        turned = yunet(np.ascontiguousarray(np.rot90(pixels, -1)))
        right.append(bool(turned) and turned[0].quarter == (faces[0].quarter - 1) % 4)
    assert found_in >= len(names) - 1
    assert sum(right) >= len(right) - 1 >= 10


# ----------------------------------------------------------------------------------------------------------- weights


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An own folder and an empty cache; fetching fails as without a network. Gives (own, cache, asked)."""
    own, asked = tmp_path / "own", []
    own.mkdir()
    monkeypatch.setenv("FACEFORGE_WEIGHTS", str(own))
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))

    def fail(url, target, **known):
        asked.append((url, target, known))
        raise DownloadError(f"{url}: no network")

    monkeypatch.setattr(detect, "fetch", fail)
    return own, tmp_path / "cache" / "weights", asked


@needs_yunet
def test_weights_of_the_own_folder(places):
    own, _, asked = places
    shutil.copyfile(WEIGHTS, own / WEIGHTS.name)
    assert find_yunet() == own / WEIGHTS.name
    assert not asked


@needs_yunet
def test_weights_of_the_cache(places, monkeypatch):
    _, cache, asked = places
    cache.mkdir(parents=True)
    shutil.copyfile(WEIGHTS, cache / WEIGHTS.name)
    assert find_yunet() == cache / WEIGHTS.name
    monkeypatch.delenv("FACEFORGE_WEIGHTS")
    assert find_yunet() == cache / WEIGHTS.name
    assert not asked


@pytest.mark.parametrize("where", [0, 1])
def test_wrong_weights_are_one_line(places, where):
    path = places[where] / detect.YUNET[0].name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"something else")
    with pytest.raises(BadInput, match=r"\.onnx: its SHA-256 is \w{12}\.\.\., must be ebafce4e3c11\.\.\.") as caught:
        find_yunet()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.exists()
    assert not places[2]


def test_no_weights_anywhere_is_one_line(places):
    with pytest.raises(BadInput) as caught:
        find_yunet()
    assert "FACEFORGE_WEIGHTS" in str(caught.value)
    assert "--detector haar" in str(caught.value)
    assert "no network" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [(url, target.name) for url, target, _ in places[2]] == [(w.url, w.name) for w in detect.YUNET]
    assert all(known["sha256"] == w.sha256 for (_, _, known), w in zip(places[2], detect.YUNET, strict=True))


def test_weights_are_fetched_into_the_cache(places, monkeypatch):
    _, cache, _ = places
    monkeypatch.setattr(detect, "fetch", lambda url, target, **known: target)
    assert find_yunet() == cache / detect.YUNET[0].name


def test_the_older_weights_where_the_newer_are_gone(places, monkeypatch):
    def only_older(url, target, **known):
        if "2026" in url:
            raise DownloadError("gone")
        return target

    monkeypatch.setattr(detect, "fetch", only_older)
    assert find_yunet().name == "face_detection_yunet_2023mar.onnx"


def test_a_grey_picture_as_colour_is_enough():
    """Detectors take uint8 RGB of any content, contiguous or not."""
    pixels = np.asarray(Image.fromarray(scene(0)).convert("L").convert("RGB"))
    assert [face.box for face in Haar()(pixels)] == [face.box for face in Haar()(np.rot90(np.rot90(pixels, 1), -1))]
