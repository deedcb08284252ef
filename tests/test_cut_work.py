"""One photo: its rows and crops whatever it is, its names, its verdict; reduced photos against whole ones."""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from yunet import WEIGHTS, needs_yunet

from faceforge.cut import frame as framing
from faceforge.cut import measure, work
from faceforge.cut.detect import SURE_SCORE, Detection, scaled
from faceforge.cut.work import TOO_TIGHT, Job, Photo, Settings, Task, escaped, face_name, judge, place, thumb
from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.io.images import ImageError
from faceforge.io.manifest import Row, rounded

FACES = Drawn(count=400)
SETTINGS = Settings(80, 60, "haar", False, 1.0, 20)
YUNET = replace(SETTINGS, detector="yunet")


class Held:
    """A store in memory."""

    root = Path("nowhere")

    def __init__(self, files) -> None:
        self.files = files

    def names(self):
        return sorted(self.files)

    def read(self, name):
        data = self.files[name]
        if isinstance(data, Exception):
            raise data
        return data

    def file(self, name):
        return self.root / name


def make_job(target, files, how=SETTINGS):
    (target / "_review" / ".tmp").mkdir(parents=True, exist_ok=True)
    return Job(Held(files), target, how, WEIGHTS if how.detector != "haar" else None, None)


def look(target, data, name="photo.jpg", how=SETTINGS):
    """The rows of one photo."""
    (photo,) = work.work(make_job(target, {name: data}, how), [Task(name, "1:1")])
    return photo.rows


def scene(index=9, size=(200, 260), side=110, at=(50, 80)):
    pixels = np.full((*size, 3), (120, 140, 160), np.uint8)
    pixels[at[0] : at[0] + side, at[1] : at[1] + side] = FACES.read(index, (side, side))
    return pixels


def coded(pixels, kind="PNG", **more):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def crop_of(target, row):
    return np.asarray(Image.open(place(target, row.face, row.verdict)))


# ------------------------------------------------------------------------------------------------------------- names


def unescaped(text):
    raw = text.encode()
    return re.sub(rb"%([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), raw)


names = st.one_of(
    st.binary(min_size=1, max_size=20),
    st.text("%0A25\n/\x85é", min_size=1, max_size=12).map(str.encode),
    st.lists(st.sampled_from([b"%", b"\n", b"0A", b"\xff", b"\xc3", b"\xa9", b"2", b"5"]), min_size=1).map(b"".join),
).filter(lambda raw: b"\0" not in raw)


@given(names)
def test_escaped_names_can_be_read_back(raw):
    text = escaped(os.fsdecode(raw))
    assert unescaped(text) == raw
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text)
    text.encode()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Ångström 人脸 🙂.jpg", "Ångström 人脸 🙂.jpg"),
        ("two\nlines\t.jpg", "two%0Alines%09.jpg"),
        (os.fsdecode(b"caf\xe9.jpg"), "caf%E9.jpg"),
        ("100% sure.jpg", "100% sure.jpg"),
        ("100%41.jpg", "100%2541.jpg"),
        ("%0A", "%250A"),
        ("%0a", "%0a"),
        ("\u2028\x85", "%E2%80%A8%C2%85"),
    ],
)
def test_escaped_names(name, text):
    assert escaped(name) == text


@given(st.lists(st.tuples(names, st.integers(1, 12)), min_size=2, max_size=6, unique=True))
@settings(max_examples=100)
def test_every_face_has_a_file_of_its_own_below_the_folder(faces):
    found = [face_name(os.fsdecode(raw), n) for raw, n in faces]
    assert len(set(found)) == len(found)
    for face in found:
        path = Path("/dst", face)
        assert os.path.normpath(path) == str(path) == f"/dst/{face}"  # nothing climbs, nothing collapses
        assert all(len(part.encode()) <= 255 for part in path.parts)
    thumbs = {thumb(Path("/dst"), face) for face in found}
    assert len(thumbs) == len(found)


@pytest.mark.parametrize(
    ("name", "face"),
    [
        ("b.jpg", "b.jpg-1.png"),
        ("b.png", "b.png-1.png"),
        ("b.jpg-1.png", "b.jpg-1.png-1.png"),
        ("trip/2020/b.jpg", "trip/2020/b.jpg-1.png"),
        ("/etc/b.jpg", "%2F/etc/b.jpg-1.png"),  # as a zip may name its members
        ("a//b.jpg", "a/%2F/b.jpg-1.png"),
        ("../../b.jpg", "%2E%2E/%2E%2E/b.jpg-1.png"),
        ("./b.jpg", "%2E/b.jpg-1.png"),
        ("%2F/b.jpg", "%252F/b.jpg-1.png"),
        ("two\nlines.jpg", "two%0Alines.jpg-1.png"),
    ],
)
def test_names_of_faces(name, face):
    assert face_name(name, 1) == face


def test_long_names_stay_apart():
    longest = "面" * 85  # 255 bytes, as long as a file's name can be
    found = [
        face_name(name, 12) for name in (longest, longest[:-1] + "x", f"{longest}/{longest}", "y" * 200, "y" * 201)
    ]
    assert len(set(found)) == 5
    assert all(len(part.encode()) <= 207 for face in found for part in face.split("/"))
    assert found[0].startswith("面" * 61 + "-")
    assert found[3] == "y" * 200 + "-12.png"
    assert face_name(longest, 12) == found[0]


def test_places(tmp_path):
    assert place(tmp_path, "a/b.jpg-1.png", "accepted") == tmp_path / "a" / "b.jpg-1.png"
    assert place(tmp_path, "a/b.jpg-1.png", "doubtful") == tmp_path / "_review" / "doubtful" / "a" / "b.jpg-1.png"
    assert thumb(tmp_path, "a/b.jpg-1.png") == tmp_path / "_review" / "thumbs" / "a" / "b.jpg-1.jpg"


# ----------------------------------------------------------------------------------------------------------- verdicts

GOOD = Row("f", "p", 1, "", "", score=0.9, box_w=60, box_h=80, quarter=0, roll=3, yaw=0.1, frame_w=150, frame_h=200)
GOOD = replace(GOOD, moved=0.1, shrunk=1.0, sharpness=100, brightness=120, contrast=40)


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({}, "accepted", ""),
        ({"score": None, "neighbours": 7, "agreement": None}, "accepted", ""),
        ({"agreement": 0.5}, "accepted", ""),
        ({"agreement": 0.0}, "rejected", "YuNet finds no face here"),
        ({"agreement": 0.0, "box_w": 5}, "rejected", "YuNet finds no face here"),
        ({"box_w": 20}, "accepted", ""),
        ({"box_w": 19.4}, "rejected", "a face of 19 pixels, must be at least 20"),
        ({"box_h": 12, "score": 0.1}, "rejected", "a face of 12 pixels, must be at least 20"),
        ({"score": SURE_SCORE}, "accepted", ""),
        ({"score": SURE_SCORE - 0.1}, "doubtful", f"score {SURE_SCORE - 0.1:.2f}, below {SURE_SCORE}"),
        ({"quarter": 1}, "accepted", ""),
        ({"quarter": 2}, "doubtful", "seems upside down"),
        ({"moved": 0.35}, "accepted", ""),
        ({"moved": 0.36}, "doubtful", "off centre, at the edge of the photo"),
        ({"yaw": -1.0}, "doubtful", "seen from the side"),
        ({"yaw": 0.99}, "accepted", ""),
        ({"sharpness": 11.9}, "doubtful", "blurred"),
        ({"brightness": 29.9}, "doubtful", "very dark"),
        ({"brightness": 225.1}, "doubtful", "very bright"),
        ({"contrast": 9.9}, "doubtful", "very low contrast"),
        ({"contrast": 0.0, "sharpness": 0.0, "brightness": 0.0}, "doubtful", "blurred; very dark; very low contrast"),
    ],
)
def test_verdicts(changes, verdict, reason):
    assert judge(replace(GOOD, **changes), SETTINGS) == (verdict, reason)


@pytest.mark.parametrize(
    ("size", "zoom", "share", "tight"),
    [
        ((480, 360), 1.0, 1.0, False),
        ((480, 360), 1.0, 0.7, False),  # 1.5 x 0.7 = 1.05 of the face's width
        ((480, 360), 1.0, 0.66, True),  # 0.99
        ((64, 64), 1.0, 0.51, False),  # a square is twice as wide as the face
        ((64, 64), 1.0, 0.49, True),
        ((64, 64), 2.0, 1.0, False),  # a person asked for it to be so close
        ((64, 64), 2.0, 0.9, True),
        ((100, 300), 1.0, 0.49, True),  # as low as that is as bad
    ],
)
def test_a_frame_that_cuts_into_the_face(size, zoom, share, tight):
    how = replace(SETTINGS, height=size[0], width=size[1], zoom=zoom)
    frame = framing.grow((0, 0, 100, 100), size, zoom)
    row = replace(GOOD, frame_w=frame.w * share, frame_h=frame.h * share, shrunk=share)
    assert judge(row, how) == (("doubtful", TOO_TIGHT) if tight else ("accepted", ""))


# ------------------------------------------------------------------------------------------------------- a whole photo


def test_rows_and_crops_of_a_photo(tmp_path):
    pixels = np.concatenate([scene(9), scene(8, side=140, at=(40, 40))])
    data = coded(pixels)
    rows = look(tmp_path, data, "sub/photo.png")
    assert [(row.n, row.face, row.source) for row in rows] == [
        (n, f"sub/photo.png-{n}.png", "sub/photo.png") for n in (1, 2)
    ]
    assert rows[0].box_w > rows[1].box_w  # from the largest
    for row in rows:
        assert row == rounded(row)
        assert (row.detector, row.quarter, row.photo_w, row.photo_h) == ("haar", 0, 260, 400)
        assert row.source_sha256 == hashlib.sha256(data).hexdigest()
        box = (row.box_x, row.box_y, row.box_w, row.box_h)
        frame = framing.fit(framing.grow(box, (80, 60)), 260, 400)
        found = (row.frame_x, row.frame_y, row.frame_w, row.frame_h, row.frame_angle)
        assert found == pytest.approx((frame.x, frame.y, frame.w, frame.h, 0.0), rel=1e-5)
        assert (row.moved, row.shrunk, row.scale) == pytest.approx((frame.moved, frame.shrunk, 80 / frame.h), rel=1e-5)
        crop = framing.cut(pixels, framing.Frame(*found), (80, 60))
        np.testing.assert_array_equal(crop_of(tmp_path, row), crop)
        measures = measure.measure(crop, measure.inside(pixels, box))
        assert row.sharpness == pytest.approx(measures.sharpness, rel=1e-5)
        assert (row.mean_colour, row.fingerprint) == (measures.mean_colour, measures.fingerprint)
        assert (row.verdict, row.reason) == judge(row, SETTINGS)
        small = Image.open(thumb(tmp_path, row.face))
        assert small.size == (90, 120)
        assert np.abs(np.asarray(small).astype(float) - measure.thumbnail(crop)).mean() < 8
    assert not list((tmp_path / "_review" / ".tmp").iterdir())


def test_a_photo_survives_json(tmp_path):
    (photo,) = work.work(make_job(tmp_path, {"p.png": coded(scene())}), [Task("p.png", "7:9")])
    assert Photo.of(photo.plain()) == photo
    without = Photo("q", "", "", [Row("", "q", 0, "none", "no face found")])
    assert Photo.of(without.plain()) == without
    assert without.plain()["rows"] == [{"source": "q", "verdict": "none", "reason": "no face found"}]


def test_known_bytes_are_not_looked_at_again(tmp_path, monkeypatch):
    data = coded(scene())
    monkeypatch.setattr(work, "make_detector", None)  # it would fail
    task = Task("p.png", "2:2", hashlib.sha256(data).hexdigest())
    assert work.work(make_job(tmp_path, {"p.png": data}), [task]) == [Photo("p.png", "2:2", task.known, [])]


def test_nobody_waits_for_the_result(tmp_path):
    job = make_job(tmp_path, {"p.png": coded(scene())})
    for parent, count in ((os.getpid(), 1), (os.getppid(), 1), (None, 1), (2**22 + 1, 0)):
        assert len(work.work(replace(job, parent=parent), [Task("p.png", "")])) == count


@needs_yunet
@pytest.mark.parametrize("align", [False, True])
def test_a_turned_face_in_a_turned_photo(tmp_path, align):
    upright = Image.fromarray(scene(8, (420, 400), 256, (80, 70))).rotate(
        -12, Image.Resampling.BICUBIC, fillcolor=(120, 140, 160)
    )  # clockwise
    data = coded(upright.transpose(Image.Transpose.ROTATE_90))  # then it lies on its left side
    (row,) = look(tmp_path, data, "p.png", replace(YUNET, align=align))
    assert (row.quarter, row.photo_w, row.photo_h) == (1, 400, 420)
    assert row.roll == pytest.approx(12 + FACES.factors(8)["roll"], abs=6)
    assert row.frame_angle == (row.roll if align else 0.0)
    centre = np.array((row.frame_x, row.frame_y)) - (200, 210)
    assert np.abs(centre).max() < 40
    frame = framing.Frame(row.frame_x, row.frame_y, row.frame_w, row.frame_h, row.frame_angle)
    np.testing.assert_array_equal(crop_of(tmp_path, row), framing.cut(np.asarray(upright), frame, (80, 60)))
    landmarks = [(getattr(row, f"{name}_x"), getattr(row, f"{name}_y")) for name in ("left_eye", "right_eye", "nose")]
    assert landmarks[0][0] < landmarks[2][0] < landmarks[1][0]
    assert row.yaw == pytest.approx(framing.yaw((*landmarks, landmarks[0], landmarks[0])), abs=1e-3)


@needs_yunet
def test_verified_boxes_are_haars(tmp_path):
    (row,) = look(tmp_path, coded(scene()), "p.png", replace(SETTINGS, detector="verified"))
    (haar,) = look(tmp_path, coded(scene()), "p.png")
    assert (row.box_x, row.box_w, row.neighbours) == (haar.box_x, haar.box_w, haar.neighbours)
    assert (row.frame_x, row.frame_w) == (haar.frame_x, haar.frame_w)
    assert row.agreement >= 0.4
    assert row.score > 0.8


# ---------------------------------------------------------------------------------------------------- reduced decoding

BACK = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def with_orientation(pixels, orientation, **more):
    """A JPEG that shows the pixels after its EXIF orientation."""
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = orientation
    turn = BACK[orientation]
    data = coded(image.transpose(turn) if turn is not None else image, "JPEG", quality=90, exif=exif, **more)
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size == image.size
    return data


def find_red(pixels, quarter=0):
    """A detector: the box of what is red, its corners as eyes and mouth, in the given quarter turn."""
    pixels = np.rot90(pixels, -quarter).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 170) & (pixels[..., 1] < 90))
    if not len(rows):
        return []
    x, y = float(columns.min()), float(rows.min())
    w, h = float(columns.max()) + 1 - x, float(rows.max()) + 1 - y
    landmarks = ((x, y), (x + w, y), (x + w / 2, y + h / 2), (x, y + h), (x + w, y + h))
    return [Detection((x, y, w, h), 0.9, landmarks, quarter=quarter)]


@pytest.fixture
def red(monkeypatch):
    """Red blocks are faces."""

    def switch(quarter=0, record=None):
        def find(pixels):
            if record is not None:
                record.append(pixels.shape)
            return find_red(pixels, quarter)

        monkeypatch.setattr(work, "make_detector", lambda name, weights: find)

    switch()
    return switch


def red_block(height, width):
    pixels = np.full((height, width, 3), (60, 120, 140), np.uint8)
    pixels[400:760, 500:840] = (230, 20, 20)
    return pixels


@pytest.mark.parametrize("orientation", BACK)
@pytest.mark.parametrize("quarter", [0, 1])
def test_places_in_reduced_photos_are_those_in_whole_ones(tmp_path, red, orientation, quarter):
    shapes = []
    red(quarter, shapes)
    pixels = red_block(1651, 2103)
    (row,) = look(tmp_path, with_orientation(pixels, orientation), how=YUNET)
    assert shapes == [(826, 1052, 3)]  # seen at a half, as it stands
    turned = np.rot90(pixels, -quarter)
    (expected,) = find_red(pixels, quarter)
    assert (row.photo_h, row.photo_w) == turned.shape[:2]
    found = (row.box_x, row.box_y, row.box_w, row.box_h, row.left_eye_x, row.mouth_right_y)
    landmarks = expected.landmarks
    assert found == pytest.approx((*expected.box, landmarks[0][0], landmarks[4][1]), abs=2.5)
    frame = framing.Frame(row.frame_x, row.frame_y, row.frame_w, row.frame_h)
    crop = crop_of(tmp_path, row).astype(float)
    assert np.abs(crop - framing.cut(np.ascontiguousarray(turned), frame, (80, 60))).mean() < 3  # JPEG


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((2047, 900), (2047, 900)),
        ((2048, 900), (1024, 450)),
        ((900, 4095), (450, 2048)),
        ((1001, 4097), (251, 1025)),
        ((300, 8195), (38, 1025)),
    ],
)
def test_photos_are_reduced_to_what_the_detector_looks_at(tmp_path, red, size, seen):
    shapes = []
    red(0, shapes)
    (row,) = look(tmp_path, coded(np.full((*size, 3), 90, np.uint8), "JPEG"), how=YUNET)
    assert shapes == [(*seen, 3)]
    assert (row.n, row.verdict, row.reason) == (0, "none", "no face found")
    assert (row.photo_h, row.photo_w) == size


@pytest.mark.parametrize("orientation", BACK)
def test_sizes_of_photos_without_a_face_are_those_they_have(tmp_path, red, orientation):
    pixels = np.full((1301, 2051, 3), 90, np.uint8)
    (row,) = look(tmp_path, with_orientation(pixels, orientation), how=YUNET)
    assert (row.photo_h, row.photo_w) == (1301, 2051)


def test_only_large_jpegs_for_yunet_are_reduced(tmp_path, red):
    shapes = []
    red(0, shapes)
    pixels = red_block(800, 2100)
    look(tmp_path, coded(pixels, "JPEG"), how=SETTINGS)
    look(tmp_path, coded(pixels, "PNG", compress_level=1), how=YUNET)
    assert shapes == [(800, 2100, 3)] * 2
    shapes.clear()
    look(tmp_path, coded(Image.fromarray(pixels).convert("CMYK"), "JPEG"), how=YUNET)
    (row,) = look(tmp_path, coded(Image.fromarray(pixels).convert("L"), "JPEG"), how=YUNET)
    assert shapes == [(400, 1050, 3)] * 2  # grey ones are colour to the detector
    assert (row.photo_h, row.photo_w) == (800, 2100)


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_each_direction_has_its_own_reduction(quarter):
    """A photo of 300 x 8195 pixels at an eighth has 38 x 1025: 7.9 times and 8.0 times as many."""
    small, full = np.zeros((1025, 38, 3), np.uint8), np.zeros((8195, 300, 3), np.uint8)
    height, width = np.rot90(small, -quarter).shape[:2]
    whole = Detection((0.0, 0.0, float(width), float(height)), landmarks=((float(width), float(height)),) * 5)
    found = scaled(replace(whole, quarter=quarter), small.shape, full.shape)
    high, wide = np.rot90(full, -quarter).shape[:2]
    assert found.box == pytest.approx((0, 0, wide, high))
    assert found.landmarks[2] == pytest.approx((wide, high))
    assert scaled(replace(whole, landmarks=None), small.shape, full.shape).landmarks is None


@needs_yunet
@pytest.mark.parametrize("orientation", [1, 6])
def test_yunet_sees_the_same_in_reduced_photos(tmp_path, monkeypatch, orientation):
    pixels = np.full((1300, 2150, 3), (120, 140, 160), np.uint8)
    pixels[200:1100, 300:1200] = cv2.resize(FACES.read(0, (300, 300)), (900, 900), interpolation=cv2.INTER_CUBIC)
    pixels[300:600, 1600:1900] = FACES.read(8, (300, 300))
    data = with_orientation(pixels, orientation)
    reduced = look(tmp_path / "reduced", data, how=YUNET)
    monkeypatch.setattr(work, "_reduced", lambda data, name: None)
    whole = look(tmp_path / "whole", data, how=YUNET)
    assert len(reduced) == len(whole) == 2
    for a, b in zip(reduced, whole, strict=True):
        assert (a.quarter, a.photo_w, a.photo_h) == (b.quarter, b.photo_w, b.photo_h) == (0, 2150, 1300)
        near = 0.08 * b.box_w
        for name in ("box_x", "box_y", "box_w", "box_h", "nose_x", "nose_y", "frame_x", "frame_y", "frame_w"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), abs=near), name


# --------------------------------------------------------------------------------------------------------- cut again


def test_cutting_again_makes_the_same_bytes(tmp_path):
    data = coded(scene())
    job = make_job(tmp_path, {"p.png": data})
    (photo,) = work.work(job, [Task("p.png", "1:1")])
    paths = [place(tmp_path, photo.rows[0].face, "accepted"), thumb(tmp_path, photo.rows[0].face)]
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    again = Task("p.png", "1:1", photo.sha256, (replace(photo.rows[0], verdict="accepted"),))
    assert work.work(job, [again])[0].rows == list(again.rows)
    assert [path.read_bytes() for path in paths] == before


def test_an_edited_row_is_obeyed(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 100, 3), dtype=np.uint8)
    data = coded(pixels)
    row = replace(GOOD, face="x-1.png", verdict="rejected", quarter=3)
    row = replace(row, frame_x=60, frame_y=50, frame_w=45, frame_h=60, frame_angle=-20)
    task = Task("p.png", "", hashlib.sha256(data).hexdigest(), (row,))
    work.work(make_job(tmp_path, {"p.png": data}), [task])
    turned = np.ascontiguousarray(np.rot90(pixels))  # three quarters clockwise
    expected = framing.cut(turned, framing.Frame(60, 50, 45, 60, -20), (80, 60))
    np.testing.assert_array_equal(crop_of(tmp_path, row), expected)
    assert place(tmp_path, row.face, "rejected").is_relative_to(tmp_path / "_review" / "rejected")


@pytest.mark.parametrize(
    "now", [ImageError("cannot be read: No such file"), coded(scene(1)), b"", MemoryError()], ids=str
)
def test_a_photo_that_is_another_by_now_is_not_cut(tmp_path, now):
    data = coded(scene())
    (photo,) = work.work(make_job(tmp_path, {"p.png": data}), [Task("p.png", "1:1")])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    task = Task("p.png", "1:1", photo.sha256, tuple(photo.rows))
    (found,) = work.work(make_job(tmp_path, {"p.png": now}), [task])
    assert found.rows == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# ------------------------------------------------------------------------------------------------------- odd pictures


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def enormous(width, height):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def enormous_jpeg():
    data = bytearray(coded(np.zeros((64, 64, 3), np.uint8), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65000, 65000)
    return bytes(data)


PICTURE = scene()
ODD = {
    "empty": (b"", "not an image (empty file)"),
    "page": (b"<!DOCTYPE html><html>too many downloads</html>", "not an image (HTML page)"),
    "text": (b"no picture at all", "not an image (text)"),
    "noise": (b"\x00\x01\x02" * 99, "not an image (unknown format)"),
    "truncated jpeg": (coded(PICTURE, "JPEG")[:-400], "truncated JPEG"),
    "truncated png": (coded(PICTURE)[:-400], "truncated image"),
    "truncated webp": (coded(PICTURE, "WEBP")[:-400], "damaged"),
    "damaged png": (coded(PICTURE)[:900] + b"\0\1\2" + coded(PICTURE)[903:], "damaged"),
    "three bytes": (b"\xff\xd8\xff", "truncated JPEG"),
    "enormous png": (enormous(60_000, 60_000), "pixels"),
    "large png": (enormous(8_000, 8_000), "8000x8000 pixels: needs 427 MiB"),
    "enormous jpeg": (enormous_jpeg(), "65000x65000 pixels, more than 268435456"),
    "float tiff": (coded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), "floating point pixels"),
    "gone": (ImageError("cannot be read: No such file or directory"), "cannot be read: No such file or directory"),
    "too large": (MemoryError(), "out of memory"),
    "odd reason": (ImageError("cannot be decoded (X in a\udcff\nb)"), "cannot be decoded (X in a%FF b)"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("detector", ["haar", pytest.param("yunet", marks=needs_yunet)])
def test_what_is_no_photo_is_a_row_with_the_reason(tmp_path, kind, detector):
    data, reason = ODD[kind]
    (row,) = look(tmp_path, data, "odd\udcff\n.png", replace(SETTINGS, detector=detector))
    assert reason in row.reason
    row.reason.encode()
    assert "\n" not in row.reason
    digest = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else ""
    assert row == Row("", "odd%FF%0A.png", 0, "none", row.reason, source_sha256=digest)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


GREY = Image.fromarray(PICTURE).convert("L")
UNUSUAL = {
    "grey": partial(coded, GREY),
    "grey jpeg": partial(coded, GREY, "JPEG", quality=95),
    "cmyk": partial(coded, Image.fromarray(PICTURE).convert("CMYK"), "JPEG", quality=95),
    "16 bits": partial(coded, Image.fromarray(np.asarray(GREY, np.uint16) * 257)),
    "palette": partial(coded, Image.fromarray(PICTURE).quantize(255)),
    "see-through": partial(coded, Image.fromarray(PICTURE).convert("RGBA")),
    "animated gif": partial(coded, PICTURE, "GIF", save_all=True, append_images=[Image.new("RGB", (260, 200))]),
    "animated webp": partial(
        coded, PICTURE, "WEBP", save_all=True, lossless=True, append_images=[Image.new("RGB", (260, 200))]
    ),
    "tiff": partial(coded, PICTURE, "TIFF"),
    "bmp": partial(coded, PICTURE, "BMP"),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_photos_have_their_faces(tmp_path, kind):
    (row,) = look(tmp_path, UNUSUAL[kind](), "p")
    (plain,) = look(tmp_path / "plain", coded(PICTURE), "p")
    places = ("box_x", "box_y", "box_w", "frame_x", "frame_w")
    assert [getattr(row, name) for name in places] == pytest.approx([getattr(plain, name) for name in places], abs=8)
    assert crop_of(tmp_path, row).shape == (80, 60, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (59, 60), (2, 3)])
@pytest.mark.parametrize("detector", ["haar", pytest.param("yunet", marks=needs_yunet)])
def test_tiny_and_narrow_photos(tmp_path, size, detector):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    (row,) = look(tmp_path, coded(pixels), "p.png", replace(SETTINGS, detector=detector))
    assert (row.reason, row.photo_h, row.photo_w) == ("no face found", *size)


_SMALL = {kind: coded(FACES.read(0, (60, 60)), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")}


@given(st.sampled_from(sorted(_SMALL)), st.data())
@settings(max_examples=40, deadline=None)
def test_damage_is_a_row_or_harmless(tmp_path_factory, kind, data):
    raw = bytearray(_SMALL[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    assume(raw)
    rows = look(tmp_path_factory.mktemp("damaged"), bytes(raw), f"p.{kind}")
    assert rows
    assert all(row.n or row.reason for row in rows)


# ------------------------------------------------------------------------------------------------------------ writing


def png_chunks(data):
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.append(data[at + 4 : at + 8])
        at += 12 + length
    return found


def jpeg_segments(data):
    """Markers up to the start of the scan."""
    found, at = [], 2
    while data[at + 1] != 0xDA:
        found.append(data[at + 1])
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return found


def private(kind):
    exif = Image.Exif()
    exif[0x010F] = "camera of Anna"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 14.5)})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    more = {"exif": exif, "icc_profile": profile, "dpi": (301, 301)}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", "Anna")
        more["pnginfo"] = text
    else:
        more |= {"comment": b"Anna", "xmp": b"<x:xmpmeta>Anna</x:xmpmeta>", "quality": 95}
    return coded(PICTURE, kind, **more)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_nothing_but_pixels_is_written(tmp_path, kind):
    data = private(kind)
    assert b"Anna" in data
    (row,) = look(tmp_path, data, "p")
    crop, small = place(tmp_path, row.face, row.verdict).read_bytes(), thumb(tmp_path, row.face).read_bytes()
    assert set(png_chunks(crop)) == {b"IHDR", b"IDAT", b"IEND"}
    assert set(jpeg_segments(small)) <= {0xE0, 0xDB, 0xC0, 0xC4}  # JFIF, tables, frame
    assert b"Anna" not in crop + small
    assert not Image.open(io.BytesIO(crop)).info
    assert not Image.open(io.BytesIO(small)).getexif()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(path, data):
        path.open("wb").write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BadInput, match=r"cannot be written \(No space left on device\); nothing is lost") as caught:
        look(tmp_path, coded(PICTURE))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_crop_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """Whoever looks while a crop is written sees the old one."""
    job = make_job(tmp_path, {})
    row = replace(GOOD, face="a/x-1.png", verdict="accepted")
    crops = [np.full((8, 6, 3), value, np.uint8) for value in (10, 200)]
    work.write_crop(job.target, row, crops[0])
    path, seen = place(tmp_path, row.face, "accepted"), []
    replace_file = Path.replace

    def watched(self, target):
        seen.append(np.asarray(Image.open(path)).max())
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    work.write_crop(job.target, row, crops[1])
    assert seen[0] == 10
    np.testing.assert_array_equal(np.asarray(Image.open(path)), crops[1])
