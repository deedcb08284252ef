"""Drawn faces: purity, agreement of picture, factors and attributes, scale, variety."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from faceforge.data.sources import drawn
from faceforge.data.sources.drawn import Drawn
from faceforge.drawn import factors
from faceforge.drawn.canvas import Canvas, blurred
from faceforge.drawn.colours import mix, palette, ramp
from faceforge.drawn.factors import FACTORS, PICTURES, STYLES, draw_factors
from faceforge.drawn.hats import HATS
from faceforge.drawn.head import EYE_HEIGHT
from faceforge.drawn.lines import curve, ribbon
from faceforge.drawn.portrait import paint
from faceforge.errors import BadInput

COUNT = 12000


@pytest.fixture(autouse=True)
def _painted_anew(monkeypatch):
    monkeypatch.setattr(drawn, "paint", paint)  # what conftest.py keeps would prove nothing here


@pytest.fixture(scope="module")
def source():
    return Drawn(count=COUNT)


@pytest.fixture(scope="module")
def table(source):
    names, values = source.attributes()
    return dict(zip(names, values.T, strict=True))


def changed(a, b, threshold=0):
    """Where two pictures differ: bool (H, W)."""
    return np.abs(a.astype(int) - b.astype(int)).max(axis=2) > threshold


def plain(source, index, **changes):
    """A face that nothing covers, seen from the front."""
    style = float(STYLES.index("crop"))
    bare = {"eyeglasses": 0.0, "hat": 0.0, "beard": 0.0, "fringe": 0.0, "hair_style": style, "frown": 0.0}
    front = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "zoom": 1.0, "mouth_open": 0.0}
    return {**source.factors(index), **bare, **front, **changes}


# -- purity


def test_a_face_is_a_function_of_seed_and_index(source):
    forwards = [source.read(i, (32, 32)) for i in range(6)]
    other = Drawn(count=7)  # another instance, another count, another order, other work in between
    for i in reversed(range(6)):
        Drawn(seed=5, count=3).read(1, (16, 24))
        np.testing.assert_array_equal(other.read(i, (32, 32)), forwards[i])


def test_another_process_draws_the_same_bytes(source):
    program = (
        "import hashlib, cv2; cv2.setNumThreads(4); from faceforge.data.sources.drawn import Drawn\n"
        "print(hashlib.sha256(Drawn().read(4242, (48, 40)).tobytes()).hexdigest())"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == hashlib.sha256(source.read(4242, (48, 40)).tobytes()).hexdigest()


def test_seeds_differ(source):
    other = Drawn(seed=1, count=4)
    assert all(changed(source.read(i, (32, 32)), other.read(i, (32, 32)), 8).mean() > 0.3 for i in range(4))


def test_a_new_factor_leaves_the_others_alone(monkeypatch):
    before = draw_factors(3, np.arange(40))
    monkeypatch.setattr(factors, "FACTORS", {"scar": factors.Factor(0.0, 1.0), **FACTORS})
    after = draw_factors(3, np.arange(40))
    assert set(after) - set(before) == {"scar"}
    for name, column in before.items():
        np.testing.assert_array_equal(column, after[name])


def test_one_row_equals_the_table(source):
    rows = draw_factors(0, np.arange(500, 530))
    for i in (0, 13, 29):
        assert source.factors(500 + i) == {name: column[i] for name, column in rows.items()}


# -- the interface of a source


def test_ids_and_identities(source):
    ids = [face.id for face in source.faces]
    assert ids[123] == "drawn/0000123"
    assert ids == sorted(set(ids))
    people = [face.identity for face in source.faces]
    assert len(set(people)) == COUNT // PICTURES
    assert all(people[i] == people[i - i % PICTURES] for i in range(COUNT))


def test_digest_names_version_seed_and_index(source):
    expected = hashlib.sha256(f"{drawn.VERSION}\x1f0\x1f17".encode()).hexdigest()
    assert source.digest(17) == expected
    assert len({source.digest(17), source.digest(18), Drawn(seed=1, count=20).digest(17)}) == 3


def test_a_root_is_refused():
    with pytest.raises(BadInput, match=r"data\.root.*/pictures"):
        Drawn(root="/pictures")
    with pytest.raises(BadInput, match="count"):
        Drawn(count=0)


def test_no_face_beyond_the_last():
    with pytest.raises(IndexError):
        Drawn(count=3).read(3, (16, 16))


@pytest.mark.parametrize("size", [(64, 64), (160, 128), (35, 35), (63, 71), (8, 8), (9, 13), (12, 96), (96, 12)])
def test_any_size(source, size):
    for index in (0, 7):
        picture = source.read(index, size)
        assert picture.shape == (*size, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 15


def test_every_style_of_everything_paints(source):
    base = source.factors(8)
    for style in range(len(STYLES)):
        for beard in range(5):
            extra = {
                "hat": float(beard % 2),
                "hat_style": (style % len(HATS)) / len(HATS),
                "eyeglasses": beard % 2,
            }
            looks = {
                "frame_style": (style % 4) / 4,
                "mouth_open": beard / 4,
                "age": 20 + 15 * beard,
                "freckles": 1.0,
            }
            picture = paint({**base, "hair_style": style, "beard": beard, **extra, **looks}, (24, 24))
            assert picture.std() > 15


# -- the picture follows the factors


def test_glasses_change_the_eyes_and_nothing_far_below(source):
    for index in range(0, 40, 8):
        plain_face = {**source.factors(index), "hat": 0.0}
        bare, with_glasses = (paint({**plain_face, "eyeglasses": on}, (64, 64)) for on in (0.0, 1.0))
        difference = changed(bare, with_glasses)
        assert difference[24:40, 12:52].mean() > 0.2
        assert not difference[48:].any()
        assert not difference[:16].any()


def test_a_hat_changes_the_top_only(source):
    for index in range(2, 42, 8):
        face = source.factors(index)
        bare, hatted = (paint({**face, "hat": on}, (64, 64)) for on in (0.0, 1.0))
        assert changed(bare, hatted, 8)[4:18, 16:48].mean() > 0.6
        assert not changed(bare, hatted, 2)[40:].any()


def test_background_and_clothes_leave_the_face_alone(source):
    for index in range(3, 43, 8):
        face = {**source.factors(index), "hat": 0.0, "eyeglasses": 0.0}
        other = {
            "back_hue": (face["back_hue"] + 0.5) % 1,
            "back_value": 0.9,
            "clothes_hue": face["clothes_hue"] + 0.4,
        }
        difference = changed(paint(face, (64, 64)), paint({**face, **other}, (64, 64)))
        assert not difference[26:46, 24:40].any()
        assert difference[:, :2].mean() > 0.9


def mouth_line(factors):
    """Height of the darkest point under the nose, per column across the mouth: its corners and its middle."""
    picture = cv2.GaussianBlur(paint(factors, (256, 256)), (5, 5), 0).astype(float).sum(axis=2)
    rows = slice(170, 196)
    columns = [128 - 20, 128, 128 + 20]
    return [int(picture[rows, column - 1 : column + 2].mean(axis=1).argmin()) for column in columns]


def test_the_corners_of_the_mouth_follow_the_smile(source):
    for index in range(0, 48, 8):
        smooth = {"age": 20.0, "lips": 1.0, "mouth_width": 1.05, "contrast": 0.6, "light_x": 0.2, "skin": 0.3}
        sad, glad = (mouth_line(plain(source, index, smile=smile, **smooth)) for smile in (-0.6, 1.0))
        assert sad[0] > sad[1] < sad[2]  # rows count downwards
        assert glad[0] < glad[1] > glad[2]


def test_an_open_smile_shows_teeth(source):
    for index in range(0, 40, 8):
        mouth = [
            paint(plain(source, index, smile=1.0, mouth_open=gap), (128, 128))[88:104, 52:76].min(axis=2).max()
            for gap in (0.0, 0.7)
        ]
        assert mouth[1] > 185
        assert mouth[1] > mouth[0] + 20


def test_eyes_stand_at_one_place_whatever_the_pose(source):
    for index in range(0, 60, 5):
        face = {
            **source.factors(index),
            "eyeglasses": 0.0,
            "hat": 0.0,
            "gaze_x": 0.0,
            "gaze_y": 0.0,
            "fringe": 0.0,
        }
        blue, brown = (paint({**face, "iris": iris}, (128, 128)) for iris in (0.0, 1.0))
        rows, columns = np.nonzero(changed(blue, brown, 10))
        assert abs(columns.mean() - 63.5) < 3
        assert abs(rows.mean() - (63.5 + 64 * EYE_HEIGHT)) < 3


def test_skin_and_light_show_in_the_picture(source):
    for index in range(0, 24, 4):
        cheek = (slice(36, 42), slice(24, 40))
        pale, dark = (paint(plain(source, index, skin=skin), (64, 64))[cheek].mean() for skin in (0.0, 1.0))
        assert pale > dark + 60
        left, right = (paint(plain(source, index, light_x=x, contrast=1.0), (64, 64)) for x in (-0.9, 0.9))
        side = (slice(28, 40), slice(16, 24))
        assert left[side].mean() > right[side].mean() + 10


# -- scale


def test_a_large_picture_reduced_is_the_small_picture(source):
    for index in range(0, 60, 6):
        small = source.read(index, (64, 64)).astype(float)
        large = cv2.resize(source.read(index, (256, 256)), (64, 64), interpolation=cv2.INTER_AREA).astype(float)
        other = source.read(index + PICTURES, (64, 64)).astype(float)
        assert np.abs(small - large).mean() < 4.0
        assert np.abs(small - large).mean() < 0.12 * np.abs(small - other).mean()


def test_a_tall_picture_holds_the_square_one(source):
    square, tall = source.read(11, (64, 64)), source.read(11, (80, 64))
    assert np.abs(square.astype(int) - tall[8:72].astype(int)).mean() < 0.1


# -- variety and attributes


def test_people_differ_and_one_person_stays_the_same(source):
    faces = np.stack([source.read(i * PICTURES, (24, 24)) for i in range(40)]).reshape(40, -1).astype(float)
    distance = np.abs(faces[:, None] - faces[None]).mean(axis=2) + 255 * np.eye(40)
    assert distance.min() > 8
    first, second = source.factors(4), source.factors(5)
    same = {name for name in first if first[name] == second[name]}
    assert {name for name, factor in FACTORS.items() if factor.person} <= same
    assert not same & {"smile", "yaw", "light_x", "back_hue", "gaze_x", "clothes_hue"}


SHARES = {
    "Arched_Eyebrows": (0.1, 0.4),
    "Bald": (0.03, 0.15),
    "Bangs": (0.1, 0.3),
    "Big_Lips": (0.15, 0.45),
    "Big_Nose": (0.1, 0.4),
    "Black_Hair": (0.15, 0.45),
    "Blond_Hair": (0.05, 0.25),
    "Brown_Hair": (0.1, 0.4),
    "Bushy_Eyebrows": (0.1, 0.35),
    "Eyeglasses": (0.17, 0.23),
    "Goatee": (0.03, 0.1),
    "Gray_Hair": (0.08, 0.3),
    "Male": (0.4, 0.5),
    "Mouth_Slightly_Open": (0.35, 0.6),
    "Mustache": (0.1, 0.25),
    "Narrow_Eyes": (0.05, 0.25),
    "No_Beard": (0.6, 0.85),
    "Oval_Face": (0.2, 0.6),
    "Pale_Skin": (0.08, 0.3),
    "Pointy_Nose": (0.1, 0.4),
    "Rosy_Cheeks": (0.1, 0.4),
    "Smiling": (0.45, 0.55),
    "Straight_Hair": (0.2, 0.5),
    "Wavy_Hair": (0.2, 0.55),
    "Wearing_Hat": (0.11, 0.17),
    "Wearing_Lipstick": (0.1, 0.4),
    "Young": (0.4, 0.75),
}


def test_attributes_are_as_frequent_as_they_should_be(source, table):
    assert source.attributes()[1].dtype == np.float32
    assert set(SHARES) <= set(table)
    for name, (low, high) in SHARES.items():
        assert set(np.unique(table[name])) == {0.0, 1.0}
        assert low < table[name].mean() < high, name


def test_smile_glasses_and_hat_are_independent(table):
    free = ["Smiling", "Eyeglasses", "Wearing_Hat", "Male", "Young"]
    correlation = np.corrcoef([table[name] for name in free]) - np.eye(len(free))
    assert np.abs(correlation[:3]).max() < 0.05  # 3000 people, 12000 pictures: 4 standard errors or more


def test_attributes_agree_with_each_other_and_with_the_factors(source, table):
    men, beardless = table["Male"] == 1, table["No_Beard"] == 1
    assert not (table["Goatee"][~men]).any()
    assert not (table["Mustache"][beardless]).any()
    assert not (table["Wearing_Lipstick"][men]).any()
    colours = sum(table[name] for name in ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald"))
    assert colours.max() == 1
    assert table["Gray_Hair"][table["Young"] == 1].mean() < 0.5 * table["Gray_Hair"].mean()
    for index in (0, 999, 4321, COUNT - 1):
        f = source.factors(index)
        assert table["Smiling"][index] == (f["smile"] > 0.2)
        assert table["Eyeglasses"][index] == f["eyeglasses"]
        assert table["Bald"][index] == (STYLES[int(f["hair_style"])] == "bald")


# -- brushes


def test_a_curve_passes_through_its_points():
    points = np.array([(0.0, 0.0), (1.0, 0.5), (2.0, -0.5), (3.0, 1.0)])
    np.testing.assert_allclose(curve(points)[::6], points, atol=1e-12)
    np.testing.assert_allclose(curve(points, closed=True)[::6], points, atol=1e-12)
    np.testing.assert_allclose(curve(np.stack([points, points + 1]))[1], curve(points) + 1, atol=1e-12)


def test_a_mask_covers_the_area_of_its_outline():
    canvas = Canvas(64, 64)
    square = np.array([(-0.5, -0.25), (0.5, -0.25), (0.5, 0.25), (-0.5, 0.25)])
    area = 1.0 * 0.5 * canvas.scale**2
    assert canvas.mask(square).alpha.sum() == pytest.approx(area, rel=0.03)  # soft edges add nothing
    assert canvas.mask(square, blur=0.05).alpha.sum() == pytest.approx(area, rel=0.05)
    assert canvas.mask(square + 9.0).alpha.size == 0


def test_a_stroke_is_as_wide_as_asked():
    outline = ribbon(np.array([(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)]), [0.2, 0.4, 0.2])
    assert outline.shape == (6, 2)
    np.testing.assert_allclose(np.abs(outline[:, 1]), [0.1, 0.2, 0.1, 0.1, 0.2, 0.1])


def test_blur_keeps_the_mean_and_takes_any_shape():
    spot = np.zeros((61, 83), np.float32)
    spot[30, 40] = 1.0
    for sigma in (0.0, 1.0, 3.0, 8.0):
        assert blurred(spot, sigma).shape == spot.shape
        assert blurred(spot, sigma).sum() == pytest.approx(1.0, rel=0.05)
    assert blurred(spot, 3.0).max() == pytest.approx(1 / (2 * np.pi * 9), rel=0.05)


def test_colours_run_from_end_to_end():
    black, red, white = (0, 0, 0), (200, 0, 0), (255, 255, 255)
    colours = ramp(black, red, white)
    np.testing.assert_allclose(colours[:, 0], black)
    np.testing.assert_allclose(colours[:, -1], white)
    np.testing.assert_allclose(colours[:, 255:257].mean(axis=1), red, atol=1)
    np.testing.assert_allclose(palette([black, red, white], 0.25), mix(black, red, 0.5))
    np.testing.assert_allclose(palette([black, red, white], 1.0), white)
