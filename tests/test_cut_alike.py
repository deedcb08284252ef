"""Copies of a picture are found however they were stored, and different pictures are not taken for copies."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceforge.cut import near_duplicates as module
from faceforge.cut.frame import Frame
from faceforge.cut.frame import cut as cut_frame
from faceforge.cut.measure import measure, thumbnail
from faceforge.cut.near_duplicates import MAX_BITS, Faces, gather, near_duplicates
from faceforge.cut.work import thumb
from faceforge.data.sources.drawn import Drawn
from faceforge.io.manifest import Row

SOURCE = Drawn(count=400)


def put(target, name, crop, width=100.0, verdict="accepted"):
    """A face as the work leaves it: a thumbnail on the disk, and its row."""
    path = thumb(target, f"{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(thumbnail(crop), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    print_ = measure(crop, crop).fingerprint
    return Row(f"{name}.png", f"{name}.jpg", 1, verdict, "", frame_w=width, fingerprint=print_)


def jpeg(pixels, quality):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def resized(pixels, share):
    return cv2.resize(pixels, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def crops():
    return [SOURCE.read(index, (240, 180)) for index in range(40)]  # ten people, four pictures each


COPIES = {
    "stored again": lambda p: jpeg(p, 40),
    "smaller": lambda p: resized(p, 0.4),
    "larger": lambda p: resized(p, 1.7),
    "brighter": lambda p: np.clip(p.astype(int) + 12, 0, 255).astype(np.uint8),
    "grey": lambda p: np.repeat(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "a little closer": lambda p: cut_frame(p, Frame(90, 120, 178.5, 238), (240, 180)),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_found_and_others_are_not(tmp_path, crops, how):
    rows = [put(tmp_path, f"original {n:02d}", crop, 200) for n, crop in enumerate(crops[::2])]
    rows += [put(tmp_path, f"copy {n:02d}", COPIES[how](crop), 100) for n, crop in enumerate(crops[::2])]
    found = near_duplicates(gather(rows), tmp_path)
    right = {f"copy {n:02d}.png": f"original {n:02d}.png" for n in range(20)}
    assert found.items() <= right.items()
    assert len(found) >= 20 - (how == "a little closer")


def test_no_drawn_face_is_a_copy_of_another(tmp_path, crops):
    rows = [put(tmp_path, f"{n:02d}", crop) for n, crop in enumerate(crops)]
    mirrored = [put(tmp_path, f"mirrored {n:02d}", np.ascontiguousarray(crop[:, ::-1])) for n, crop in enumerate(crops)]
    assert near_duplicates(gather(rows + mirrored), tmp_path) == {}


def test_the_largest_is_kept_and_the_first_among_equals(tmp_path, crops):
    widths = (50.0, 80.0, 80.0, 10.0)
    rows = [put(tmp_path, name, crops[0], width) for name, width in zip("abcd", widths, strict=True)]
    rows.append(put(tmp_path, "e", crops[4], 999))
    assert near_duplicates(gather(rows), tmp_path) == {"a.png": "b.png", "c.png": "b.png", "d.png": "b.png"}


def test_rejected_faces_and_photos_without_a_face_do_not_count(tmp_path, crops):
    rows = [put(tmp_path, "a", crops[0], verdict="rejected"), put(tmp_path, "b", crops[0], verdict="doubtful")]
    rows.append(Row("", "x.jpg", 0, "none", "no face found"))
    faces = gather(rows)
    assert faces.names == ["b.png"]
    assert faces.prints.tolist() == [int(rows[1].fingerprint, 16)]
    assert near_duplicates(faces, tmp_path) == {}
    assert near_duplicates(gather([]), tmp_path) == {}


def test_one_fingerprint_does_not_make_one_picture(tmp_path, crops):
    """Where the fingerprints agree the pictures themselves decide; without thumbnails nothing is said."""
    rows = [put(tmp_path, "a", crops[0]), put(tmp_path, "b", crops[8])]
    rows[1].fingerprint = rows[0].fingerprint
    assert near_duplicates(gather(rows), tmp_path) == {}
    rows = [put(tmp_path, name, crops[0]) for name in "abcd"]
    thumb(tmp_path, "a.png").unlink()
    thumb(tmp_path, "b.png").write_bytes(b"")
    thumb(tmp_path, "c.png").write_bytes(b"no picture")
    assert near_duplicates(gather(rows), tmp_path) == {}


prints = st.lists(st.integers(0, 2**64 - 1), max_size=6)


@given(prints, st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 63), max_size=12)), max_size=12))
@settings(max_examples=80, deadline=None)
def test_groups_are_those_of_a_plain_comparison(monkeypatch_module, originals, copies):
    """With pictures that always look alike: connected where fingerprints differ in at most BITS bits."""
    codes = list(originals)
    for of, flipped in copies:
        if originals:
            codes.append(originals[of % len(originals)] ^ sum(1 << bit for bit in flipped))
    names = [f"{n:03d}" for n in range(len(codes))]
    faces = Faces(names, np.array(codes, dtype=np.uint64), np.ones(len(codes), np.float32))
    group = list(range(len(codes)))
    for a, b in itertools.combinations(range(len(codes)), 2):
        if bin(codes[a] ^ codes[b]).count("1") <= MAX_BITS:
            old, new = max(group[a], group[b]), min(group[a], group[b])
            group = [new if at == old else at for at in group]
    expected = {names[n]: names[first] for n, first in enumerate(group) if first != n}
    assert near_duplicates(faces, Path("nowhere")) == expected


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_same", lambda *_: True)
        yield


def test_blocks_leave_no_pair_out(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    random = np.random.default_rng(0)
    codes = random.integers(0, 2**64, 60, dtype=np.uint64)
    codes[30:] = codes[:30] ^ (np.uint64(1) << random.integers(0, 64, 30, dtype=np.uint64))
    found = {(a, b) for a, b in module._candidates(codes)}
    pairs = itertools.combinations(range(60), 2)
    assert found == {(a, b) for a, b in pairs if bin(int(codes[a] ^ codes[b])).count("1") <= MAX_BITS}
    assert {(n, n + 30) for n in range(30)} <= found


def test_thousands_of_copies_are_not_millions_of_pairs(monkeypatch):
    looks = []
    monkeypatch.setattr(module, "_same", lambda *_: not looks.append(1))
    count = 30_000
    codes = np.array([0, 2**40 - 1, 5], dtype=np.uint64)[np.arange(count) % 3]
    faces = Faces([f"{n:05d}" for n in range(count)], codes, np.ones(count, np.float32))
    found = near_duplicates(faces, Path("nowhere"))
    assert len(looks) < 2 * count
    assert set(found.values()) == {"00000", "00001"}  # 0 and 5 differ in two bits
    assert len(found) == count - 2


def test_many_different_pictures_of_one_fingerprint(monkeypatch):
    looks = []
    monkeypatch.setattr(module, "_same", lambda *_: bool(looks.append(1)))
    faces = Faces([str(n) for n in range(2000)], np.zeros(2000, np.uint64), np.ones(2000, np.float32))
    assert near_duplicates(faces, Path("nowhere")) == {}
    assert len(looks) <= 2000 * module.MAX_VARIANTS
